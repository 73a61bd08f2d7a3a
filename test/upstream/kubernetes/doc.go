// SPDX-License-Identifier: Apache-2.0

// Package kubernetes is never compiled: what it imports are the end-to-end
// suite of Kubernetes, the runner of its specs and the programs of its test
// images, so that this module says at which version, and with which
// dependencies, they are built.
package kubernetes

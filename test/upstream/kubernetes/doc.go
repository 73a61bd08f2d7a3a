// SPDX-License-Identifier: Apache-2.0

// Package kubernetes is never compiled: what it imports are the end-to-end
// suite of Kubernetes and the program of its test image, so that this module
// says at which version, and with which dependencies, they are built.
package kubernetes

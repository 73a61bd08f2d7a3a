// SPDX-License-Identifier: Apache-2.0

// Package programs provides the programs of the upstream suites: the end-to-end
// suite of Kubernetes with the program of its test image, built from the module
// test/upstream/kubernetes, and the conformance suite of network-policy-api,
// built from a copy of that module. Both come from the Go module proxy and are
// kept in the lab's cache; what was built once is not built again.
//
// On a machine whose kernel has no SCTP the copy is changed in two places, see
// [PolicyAPI]. Everything blocks and happens in the calling goroutine.
package programs

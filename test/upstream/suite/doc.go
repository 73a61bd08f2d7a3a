// SPDX-License-Identifier: Apache-2.0

// Package suite runs the upstream suites against a lab: the specs of the
// end-to-end suite of Kubernetes about NetworkPolicy, and the conformance suite
// of network-policy-api. [Prepare] builds what a suite takes, the lab must have
// its image; [Suite.Run] runs it in the lab's control-plane host, one spec after
// another (the specs keep two cores busy), and tells of every spec whether it
// passed, failed or was left out, and why.
//
// The command test/upstream and the end-to-end tests call it. Everything blocks
// and happens in the calling goroutine.
package suite

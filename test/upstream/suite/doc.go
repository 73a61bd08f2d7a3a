// SPDX-License-Identifier: Apache-2.0

// Package suite runs the upstream suites against a lab: the specs of the
// end-to-end suite of Kubernetes about NetworkPolicy and about Services, and the
// conformance suite of network-policy-api. [Prepare] builds what a suite takes,
// [Suite.Describe] and [Suite.DescribeWhole] say what the lab must have; [Suite.Run] runs it in the lab's
// control-plane host, and tells of every spec whether it passed, failed or was
// left out, and why. Specs about policies run one after another, for they keep
// two cores busy, those about Services, which mostly wait, a few at once.
//
// The command test/upstream and the end-to-end tests call it. Everything blocks
// and happens in the calling goroutine.
package suite

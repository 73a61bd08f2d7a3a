// SPDX-License-Identifier: Apache-2.0

// Package testnode makes nodes in network namespaces for integration tests: a
// userspace Open vSwitch, the kernel's side of the gateway, and Pods in
// namespaces of their own. Everything ends with the test, on whose goroutine it
// is called.
package testnode

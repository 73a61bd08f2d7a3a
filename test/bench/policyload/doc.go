// SPDX-License-Identifier: Apache-2.0

// Command policyload makes the Kubernetes objects of one workload in memory, has
// package policy/compute compute from them what every node enforces, and prints
// as JSON what that took. `make bench-policy` runs it once for each workload and
// round, each time as a new process, on one thread.
//
// Everything happens on the main goroutine.
package main

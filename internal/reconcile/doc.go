// SPDX-License-Identifier: Apache-2.0

// Package reconcile is the one loop that every target of the agent and the
// controller is driven by: informers and watchers only mark the loop dirty;
// one goroutine runs the reconciliation, not more often than a minimum
// interval, again with growing delay after an error, and at the latest after a
// maximum interval, so that drift is found.
package reconcile

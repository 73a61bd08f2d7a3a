// SPDX-License-Identifier: Apache-2.0

// Package drain decides when a node that is about to leave stops to announce the
// addresses of Services: first it asks the routers for their other routes
// (RFC 8326) and goes on to serve, and when they have had time to follow it
// withdraws its own. BGP has no acknowledgement, so that the time is all there is
// to wait for.
//
// It is pure: the caller has the clock, keeps the State where it outlives the
// agent, and acts on the Phase. In the agent that is the goroutine of the node loop.
package drain

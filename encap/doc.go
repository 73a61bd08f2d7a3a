// SPDX-License-Identifier: Apache-2.0

// Package encap holds what Waymark knows of tunnels without touching one: the
// tunnel types and their ports, how many bytes they cost and the MTU that this
// leaves for Pods, and which address of a remote node is the tunnel's far end.
//
// It is pure: every function computes its result from its arguments alone and
// may be called from any goroutine. The agent calls it whenever the
// configuration, a node's addresses or the uplink's MTU change; package vsdb
// creates the tunnel port, package pipeline the flows that choose the far end.
package encap

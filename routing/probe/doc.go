// SPDX-License-Identifier: Apache-2.0

// Package probe finds out whether the routed path to another node carries what
// Pods send. BGP that is up does not say so: fabrics drop addresses that they do
// not expect, lose packets in one direction, or have a link with a smaller MTU
// and nobody who tells.
//
//	e := probe.New(probe.Params{OnVerdicts: ...})
//	go e.Run(ctx)               // owns everything, until ctx ends
//	err := e.Set(ctx, config)   // all that is wanted; idempotent
//
// Who uses it reserves an address of each node's Pod CIDR for probes, puts the
// local one on an interface, and routes the remote ones over exactly the next
// hops that are in question, also while Pods' packets go another way. Requests go
// from probe address to probe address, from several source ports, small ones and
// ones of the size of Pods' largest, without leave to fragment; the engine on the
// other node sends them back as they came. A path works when all of these come
// back: see machine.go and evidence.go for how many may miss, for how long, and what that means
// in time.
//
// # What it does not see
//
// Flows are spread over equal paths by hashes of their ports, and with few flows
// one of the paths may get none: with 4 flows and 2 next hops that is so in one of
// 8 cases. A fabric or a kernel that hashes addresses alone sends all flows one
// way. Loss that is small never fails a path, since the tunnel has it as well.
//
// A peer that does not answer because its engine is not running looks like a path
// that is broken.
//
// # Damping
//
// A new path works as soon as each flow was answered in both sizes, about half a
// second. One that failed must be answered without failing for Params.Hold
// first, and twice as long after each failure more. A path without a route
// (Target.Route) has failed as well, so that routes that come and go are damped.
//
// # Goroutines
//
// The goroutine in Run owns all paths and sends all packets; Set hands it what is
// wanted and waits. One goroutine a socket brings it datagrams: for each of our
// addresses one socket that answers and one for each flow. Another calls
// OnVerdicts, so that a slow callback delays no packet. The state machine
// (machine.go) is pure: time and answers go in, probes and a verdict come out.
package probe

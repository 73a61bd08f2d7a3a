// SPDX-License-Identifier: Apache-2.0

// Package bfd tells within a fraction of a second whether a path to a router
// carries packets: Bidirectional Forwarding Detection in asynchronous mode, over
// IPv4 and IPv6. BGP alone needs its hold time for that.
//
//	e := bfd.New(bfd.Params{OnState: ...})
//	go e.Run(ctx)                 // owns everything, until ctx ends
//	err := e.Set(ctx, sessions)   // all that are wanted; idempotent
//
// A session is Up when both ends hear each other. Who uses one acts when it
// leaves Up, unless Status.RemoteState is AdminDown: then BFD was switched off at
// the other end and nothing is known of the path (RFC 5882, 3.2). A session that
// was never Up says nothing either: the peer may have no BFD.
//
// # The end
//
// Taking a session out of Set tells its peer AdminDown, at once and then for as
// long as the peer would wait, so that the peer does not take our routes for
// unreachable. Run just ends when its context does, and says nothing.
//
// Another engine, in another process, can go on with the sessions: what it needs
// is told to OnCheckpoint whenever it changes, and Resume takes it. Its packets
// have the same discriminators and, when it is free, the same source port: a peer
// notices nothing, if they come before its detection time is over. Package
// handover does so between the processes of a node. BFD does not share the fate of
// BGP then, and packets have the Control Plane Independent bit set (RFC 5882,
// 4.3.2): silence is the path's.
//
// # Goroutines
//
// The goroutine in Run owns all sessions and sends all packets; Set hands it what
// is wanted and waits. One goroutine a receiving socket (at most four: two
// families, single hop and multihop; open only while a session needs them) brings
// it datagrams, and one calls OnState, so that a slow callback delays no packet.
// The state machine (machine.go) is pure: time goes in, packets come out.
//
// # Sources
//
// RFC 5880: packets 4.1, states 6.2 and 6.8.6, timers 6.8.2 to 6.8.4 and 6.8.7,
// Poll 6.5 and 6.8.3, leaving 6.8.16. RFC 5881: ports, TTL and demultiplexing of
// single hop sessions. RFC 5883: of multihop ones. RFC 5882: what applications
// make of it. There is no authentication, no echo function and no demand mode of
// our own; a peer's demand mode and its wish for no packets are honoured.
package bfd

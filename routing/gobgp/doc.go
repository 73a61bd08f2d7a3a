// SPDX-License-Identifier: Apache-2.0

// Package gobgp runs the node's BGP speaker. It is the only package that
// imports GoBGP, whose types never leave it: configuration comes in as
// routing.BGPConfig, routes and session states go out as routing.PathEvent and
// routing.SessionStatus.
//
//	s := gobgp.New(gobgp.Params{OnRoutes: ..., OnSessions: ...})
//	go s.Run(ctx)                 // owns everything, until ctx ends
//	err := s.Set(ctx, config)     // idempotent; changes only what differs
//
// The goroutine in Run is the only one that touches the speaker; Set hands it
// the configuration and waits. The callbacks are called from it too and must
// not call Set.
//
// # Leaf
//
// A node is a leaf: it announces its own prefixes and never passes on what it
// learned. GoBGP's import policy therefore rejects every received route, so
// that its Loc-RIB holds nothing but our own announcements; received routes
// are read from the Adj-RIB-In, filtered and selected by the pure functions of
// package routing. A change of the import filter needs no route refresh, and
// the filter's bound (ImportRule.MaxPrefixes) never costs a session. Far above
// it, at prefixLimit routes of a family, the session is ended so that the
// agent's memory stays bounded, and tried again after prefixLimitRest.
//
// What a peer is told of a prefix depends on a tag, a community that the path has in
// the Loc-RIB and that the export policy takes off: see ownPath. Peers are told anew
// because a path has another tag, never by sending everything again.
//
// Since nothing is passed on, a loop in the AS path is harmless and is not
// looked for: all nodes may share one ASN behind eBGP routers without
// "as-override" there.
//
// # Route reflector
//
// A node with a peer whose Reflection.Client is set passes routes on (RFC 4456):
// those inside the Pod CIDRs of other nodes, from and to the peers with
// Reflection.PassOn, with next hop and attributes as they came. Only they are
// let into the Loc-RIB besides our own; what the node itself uses still comes
// from the Adj-RIB-In. After a restart a reflector waits longer for the
// End-of-RIB of all clients, because its own End-of-RIB makes them drop what it
// does not know yet. GoBGP takes ORIGINATOR_ID and CLUSTER_LIST off towards
// peers that are not clients.
//
// # Graceful restart
//
// When Run ends, sessions end without a NOTIFICATION and the peers keep our
// routes for the restart time (RFC 4724). The next speaker sets the restart
// state bit and the forwarding state bits in the OPEN messages of its first
// sessions, within one restart time after its start. It announces before it
// adds neighbours, and sends End-of-RIB after its announcements. Set without
// peers, Shutdown, and a change of ASN, router ID or listening addresses are
// deliberate: they send Cease (a Hard Reset under RFC 8538), and the peers
// drop our routes at once.
//
// A restarting speaker announces nothing to a peer before all peers have sent
// their End-of-RIB, so one dead peer would hold up the others: the wait is
// bounded by deferralTime for each session.
//
// GoBGP sets the forwarding state bits only while it restarts. When a session
// breaks without a restart of the speaker, a peer keeps our routes until the
// session is back, and then replaces them.
//
// # Errors in words
//
// Most of what goes wrong before a session is up is visible only in GoBGP's
// log. A log handler reads it (diagnose.go) and turns it into
// SessionStatus.LastError. The tests of this package pin the texts that are
// relied on to the version of GoBGP in go.mod. What a peer answers to our OPEN
// message is not even logged: when sessions with a peer fail over it, a
// connection of our own, at most a few a minute, asks for it (probe.go).
package gobgp

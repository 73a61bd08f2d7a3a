// SPDX-License-Identifier: Apache-2.0

// Package speaker is the node's routing speaker: BGP (routing/gobgp), and BFD
// (routing/bfd) with those peers that have it, which tells within a fraction of
// a second that the path to a peer is lost.
//
//	s := speaker.New(speaker.Params{OnRoutes: ..., OnSessions: ...})
//	go s.Run(ctx)                 // owns everything, until ctx ends
//	err := s.Set(ctx, config)     // idempotent; changes only what differs
//
// What goes in and out is plain data of package routing.
//
// # What a lost path does
//
// When BFD with a peer leaves Up, the peer's routes go at once and its BGP
// session is ended (RFC 5882, 4.3 and 10.1). What other peers announce stays, of
// a route over several next hops the others. The routes are not used again,
// whatever BGP says, before BFD is Up again, the peer says AdminDown, or BFD has
// been taken out of the configuration: the peer is suspended.
//
// AdminDown says nothing about the path (RFC 5882, 3.2). Neither does a peer that
// goes Down and has no diagnostic that speaks of the path, as FRR does when it
// removes a session or makes it anew, nor BFD that was never Up: the peer may have
// none. All of them leave BGP alone.
//
// BFD with a peer begins when its BGP session is up first, and runs on when that
// ends: routers begin anew with BFD at that moment, which is no loss.
//
// # Graceful restart
//
// BFD goes on without the process, in a standby (routing/bfd/handover): a router
// that watches over the session by BFD would otherwise drop the routes that graceful
// restart keeps. A speaker that begins goes on with the sessions as the standby left
// them, also with those that went down meanwhile. At our end a lost path is no
// restart of the peer: routes are not kept for it. The peer does as it is
// configured, and may keep our routes for the restart time.
//
// # Goroutines
//
// The goroutine in Run judges what BFD says and calls OnSessions. OnRoutes is
// called from the goroutine of BGP. No callback may call Set or Shutdown.
package speaker

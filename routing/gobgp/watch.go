// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing"
)

// watch gathers what GoBGP's goroutines tell, in events and log records, until
// the speaker's goroutine looks at it. All methods may be called from any
// goroutine.
type watch struct {
	logger klog.Logger // set before anything runs
	// changed wakes the speaker.
	changed chan struct{}

	mu     sync.Mutex
	peers  map[netip.Addr]*sighting
	marked map[netip.Addr]bool
}

// sighting is what was seen of one peer.
type sighting struct {
	peer routing.Peer
	up   bool
	// wasUp: the session has been established before.
	wasUp bool
	// since the session is up, or was last up.
	since    time.Time
	families map[routing.Family]bool
	// restarts: the peer speaks graceful restart and marks the end of its routes.
	restarts        bool
	extendedNextHop bool
	endOfRIB        map[routing.Family]bool
	// found is what the last probe learned, at probed.
	found  finding
	probed time.Time
	trouble
}

func newWatch() *watch {
	return &watch{
		logger:  klog.Background(),
		changed: make(chan struct{}, 1),
		peers:   map[netip.Addr]*sighting{},
		marked:  map[netip.Addr]bool{},
	}
}

// attach subscribes to a server's events until ctx ends.
func (w *watch) attach(ctx context.Context, s *server.BgpServer) error {
	routes := func(paths []*apiutil.Path, _ time.Time) {
		for _, p := range paths {
			w.mark(p.PeerAddress)
			return // all of one peer
		}
	}
	return s.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnPathUpdate: routes,
		OnPathEor:    w.onEndOfRIB,
		OnPeerUpdate: w.onPeer,
	}, server.WatchUpdate(false, "", ""), server.WatchAdjInWithdraw(), server.WatchEor(true), server.WatchPeer())
}

func (w *watch) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// with calls fn with the sighting of a peer, if it is expected.
func (w *watch) with(a netip.Addr, fn func(*sighting)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.peers[a.Unmap()]; ok {
		fn(s)
	}
}

// expect starts to record a peer.
func (w *watch) expect(p routing.Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.peers[p.Address]
	if !ok {
		s = &sighting{}
		w.peers[p.Address] = s
	}
	s.peer, s.found, s.probed, s.openFailed = p, finding{}, time.Time{}, false
}

// unexplained returns the peers whose OPEN messages failed and which may be
// probed, and notes that they are.
func (w *watch) unexplained(now time.Time) []routing.Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []routing.Peer
	for _, s := range w.peers {
		rest := probeEvery
		if s.found.asn == 0 {
			rest = probeSoon
		}
		if s.openFailed && !s.up && now.Sub(s.probed) >= rest {
			s.openFailed, s.probed = false, now
			out = append(out, s.peer)
		}
	}
	return out
}

// explain takes what a probe learned.
func (w *watch) explain(p routing.Peer, f finding) {
	w.with(p.Address, func(s *sighting) {
		if reflect.DeepEqual(s.peer, p) { // not reconfigured in between
			s.found = f
			s.explainOpen()
		}
	})
	w.wake()
}

func (w *watch) forget(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.peers, a)
	delete(w.marked, a)
}

func (w *watch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.peers)
	clear(w.marked)
}

// mark notes that a peer's routes changed.
func (w *watch) mark(a netip.Addr) {
	w.mu.Lock()
	w.marked[a] = true
	w.mu.Unlock()
	w.wake()
}

func (w *watch) takeMarks() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]netip.Addr, 0, len(w.marked))
	for a := range w.marked {
		out = append(out, a)
	}
	clear(w.marked)
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func (w *watch) wasUp(a netip.Addr) (up bool) {
	w.with(a, func(s *sighting) { up = s.wasUp })
	return up
}

// heardAll says whether an established peer has sent all its routes.
func (w *watch) heardAll(a netip.Addr, now time.Time) (all bool) {
	w.with(a, func(s *sighting) {
		if !s.up {
			return
		}
		all = true
		for f := range s.families {
			all = all && s.endOfRIB[f]
		}
		all = all || !s.restarts && now.Sub(s.since) >= noEndOfRIB
	})
	return all
}

// justUp says whether a peer is established for so short a time that it may
// still be sending its routes.
func (w *watch) justUp(a netip.Addr, now time.Time) (just bool) {
	w.with(a, func(s *sighting) { just = s.up && now.Sub(s.since) < noEndOfRIB })
	return just
}

// blame has the coming end of a peer's session explained, or that of an attempt
// at one.
func (w *watch) blame(a netip.Addr, words string) {
	w.with(a, func(s *sighting) {
		if s.inSession {
			s.clue = words
		} else {
			s.try, s.tryAt = words, time.Now()
		}
	})
}

// seen returns a copy of a peer's sighting.
func (w *watch) seen(a netip.Addr) (out sighting) {
	w.with(a, func(s *sighting) { out = *s })
	return out
}

func (w *watch) onEndOfRIB(p *apiutil.Path, _ time.Time) {
	w.with(p.PeerAddress, func(s *sighting) {
		ended := map[routing.Family]bool{familyOfBGP(p.Family): true}
		for f := range s.endOfRIB {
			ended[f] = true
		}
		s.endOfRIB = ended
	})
	w.mark(p.PeerAddress)
}

func (w *watch) onPeer(ev *apiutil.WatchEventMessage_PeerEvent, at time.Time) {
	if ev.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	st := ev.Peer.State
	w.with(st.NeighborAddress, func(s *sighting) {
		up := st.SessionState == bgp.BGP_FSM_ESTABLISHED
		switch {
		case up && !s.up:
			s.wasUp, s.since, s.endOfRIB = true, at, nil
			s.capabilities(st.RemoteCap)
		case !up && s.up:
			s.since = at
		case !up:
			s.failed(st.DisconnectReason, at)
		}
		s.up = up
	})
	w.mark(st.NeighborAddress)
}

// capabilities reads what the peer said of itself in its OPEN message.
func (s *sighting) capabilities(caps []bgp.ParameterCapabilityInterface) {
	s.restarts, s.extendedNextHop = false, false
	theirs := map[routing.Family]bool{}
	for _, c := range caps {
		switch c := c.(type) {
		case *bgp.CapMultiProtocol:
			theirs[familyOfBGP(c.CapValue)] = true
		case *bgp.CapGracefulRestart:
			s.restarts = true
		case *bgp.CapExtendedNexthop:
			for _, t := range c.Tuples {
				s.extendedNextHop = s.extendedNextHop || t.NLRIAFI == bgp.AFI_IP && t.NexthopAFI == bgp.AFI_IP6
			}
		}
	}
	if len(theirs) == 0 { // RFC 4760, 8: without the capability it is IPv4
		theirs[routing.IPv4] = true
	}
	s.families = map[routing.Family]bool{}
	for _, f := range families(s.peer) {
		if theirs[f] {
			s.families[f] = true
		}
	}
}

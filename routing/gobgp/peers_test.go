// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
)

// TestTwoRouters has a node with two routers that announce the same network.
func TestTwoRouters(t *testing.T) {
	t.Parallel()
	node := end{"127.0.2.1", 65001, freePort(t)}
	tors := []end{{"127.0.2.2", 65002, freePort(t)}, {"127.0.2.3", 65003, freePort(t)}}
	n := startSpeaker(t)
	c := conf(node, tors...)
	n.set(c)
	for i, tor := range tors {
		r := startSpeaker(t)
		rc := conf(tor, node)
		rc.Advertisements = []routing.Advertisement{advertise("10.10.9.0/24", []string{"192.0.2.2", "192.0.2.3"}[i])}
		r.set(rc)
	}
	both := routing.LearnedRoute{
		Prefix:   pfx("10.10.9.0/24"),
		NextHops: []routing.NextHop{{Addr: ip("192.0.2.2")}, {Addr: ip("192.0.2.3")}},
		Peers:    []string{"p127.0.2.2", "p127.0.2.3"},
	}
	n.eventually("two equal paths", has(both))
	n.eventually("converged", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return ev.Converged })
	before := n.Sessions()

	// The same again touches nothing.
	n.set(c)
	if diff := cmp.Diff(before, n.Sessions(), compareValues); diff != "" {
		t.Errorf("Set without a change (-before +after):\n%s", diff)
	}

	// One path only: no session is touched.
	c.Speaker.MaximumPaths = 1
	n.set(c)
	n.eventually("one path", has(route("10.10.9.0/24", "192.0.2.2", "p127.0.2.2")))
	c.Speaker.MaximumPaths = 8

	// A change of one peer leaves the other alone.
	c.Peers[0].Families = []routing.Family{routing.IPv6}
	n.set(c)
	n.eventually("other path left", has(route("10.10.9.0/24", "192.0.2.3", "p127.0.2.3")))
	n.eventually("changed peer is back", established("p127.0.2.2"))
	if got, want := n.Sessions()[1].Since, before[1].Since; !got.Equal(want) {
		t.Errorf("the other peer's session is of %v, was of %v", got, want)
	}

	// A wrong peer is named, the others work.
	c.Peers[0].Families = nil
	c.Peers = append(c.Peers, routing.Peer{Name: "bad", Address: ip("127.0.2.9")})
	if err := n.Set(context.Background(), c); err == nil || !strings.Contains(err.Error(), "BGP peer bad: ASN is 0") {
		t.Errorf("Set with a bad peer: %v", err)
	}
	n.eventually("both again", has(both))
	if got, want := n.Sessions()[1].Since, before[1].Since; !got.Equal(want) {
		t.Errorf("the other peer's session is of %v, was of %v", got, want)
	}

	// A peer that is removed takes its routes with it.
	c.Peers = c.Peers[1:2]
	n.set(c)
	n.eventually("routes of the removed peer gone", has(route("10.10.9.0/24", "192.0.2.3", "p127.0.2.3")))
	if got := n.Sessions(); len(got) != 1 || got[0].Peer != "p127.0.2.3" {
		t.Errorf("sessions after removal: %+v", got)
	}
}

// TestNoTransit has two routers behind a node: neither hears of the other.
func TestNoTransit(t *testing.T) {
	t.Parallel()
	node := end{"127.0.3.1", 65001, freePort(t)}
	tors := []end{{"127.0.3.2", 65002, freePort(t)}, {"127.0.3.3", 65003, freePort(t)}}
	n, a, b := startSpeaker(t), startSpeaker(t), startSpeaker(t)
	c := conf(node, tors...)
	c.Advertisements = []routing.Advertisement{
		advertise("10.10.1.0/24", "192.0.2.1"),
		{Prefix: pfx("10.10.3.0/24"), NextHops: advertise("10.10.3.0/24", "192.0.2.1").NextHops, Peers: []string{"p127.0.3.3"}},
	}
	ca, cb := conf(tors[0], node), conf(tors[1], node)
	ca.Advertisements = []routing.Advertisement{advertise("10.10.2.0/24", "192.0.2.2")}
	n.set(c)
	a.set(ca)
	b.set(cb)
	n.eventually("node learned", has(route("10.10.2.0/24", "192.0.2.2", "p127.0.3.2")))
	b.eventually("told all, but not of the other router", has(
		route("10.10.1.0/24", "192.0.2.1", "p127.0.3.1"), route("10.10.3.0/24", "192.0.2.1", "p127.0.3.1")))
	a.eventually("told what is for it", has(route("10.10.1.0/24", "192.0.2.1", "p127.0.3.1")))

	// Advertised to the other one instead, without a session reset.
	since := n.Sessions()[0].Since
	c.Advertisements[1].Peers = []string{"p127.0.3.2"}
	n.set(c)
	a.eventually("told now", has(
		route("10.10.1.0/24", "192.0.2.1", "p127.0.3.1"), route("10.10.3.0/24", "192.0.2.1", "p127.0.3.1")))
	b.eventually("withdrawn here", has(route("10.10.1.0/24", "192.0.2.1", "p127.0.3.1")))
	if got := n.Sessions()[0].Since; !got.Equal(since) {
		t.Errorf("the session is of %v, was of %v", got, since)
	}
}

func TestChangeOfASN(t *testing.T) {
	t.Parallel()
	ends := []end{{"127.0.4.1", 65001, freePort(t)}, {"127.0.4.2", 65002, freePort(t)}}
	a, b := startSpeaker(t), startSpeaker(t)
	ca, cb := conf(ends[0], ends[1]), conf(ends[1], ends[0])
	ca.Advertisements = []routing.Advertisement{advertise("10.10.1.0/24", "192.0.2.1")}
	cb.Peers[0].ASN = 4200000001
	a.set(ca)
	b.set(cb)
	b.eventually("refused", errorLike("p127.0.4.1", "Bad Peer AS"))
	ca.Speaker.ASN = 4200000001
	a.set(ca)
	b.eventually("learned", has(route("10.10.1.0/24", "192.0.2.1", "p127.0.4.1")))
}

// TestDeadPeerDefersLittle restarts with a second peer that never answers: the
// first is told the routes after the bounded wait.
func TestDeadPeerDefersLittle(t *testing.T) {
	t.Parallel()
	ends := []end{{"127.0.5.1", 65001, freePort(t)}, {"127.0.5.2", 65002, freePort(t)}, {"127.0.5.3", 65003, freePort(t)}}
	a, b := startSpeaker(t), startSpeaker(t)
	ca := conf(ends[0], ends[1], ends[2])
	ca.Advertisements = []routing.Advertisement{advertise("10.10.1.0/24", "192.0.2.1")}
	b.set(conf(ends[1], ends[0]))
	a.set(ca)
	b.eventually("learned in spite of the dead peer", has(route("10.10.1.0/24", "192.0.2.1", "p127.0.5.1")))
	a.eventually("dead peer named", errorLike("p127.0.5.3", "connection refused by 127.0.5.3 port"))
	a.eventually("converged after the restart time", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return ev.Converged })
}

// TestPeerThatDoesNotConfirm has a peer that sends OPEN and then nothing: it is
// tried again long before the hold timer ends.
func TestPeerThatDoesNotConfirm(t *testing.T) {
	t.Parallel()
	const node, router = "127.0.7.1", "127.0.7.2"
	l, err := net.Listen("tcp", router+":0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = l.Close() })
	attempts := make(chan struct{}, 2)
	wg.Go(func() {
		for range cap(attempts) {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(open(9, true))
			attempts <- struct{}{}
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	})
	s := startSpeaker(t)
	c := conf(end{node, 65001, -1})
	c.Peers = []routing.Peer{{
		Name: "mute", Address: ip(router), Port: l.Addr().(*net.TCPAddr).Port, ASN: 65002, SourceAddress: ip(node),
		Timers: routing.Timers{ConnectRetry: 2 * time.Second},
	}}
	s.set(c)
	s.eventually("named", errorLike("mute", "did not confirm our OPEN message"))
	for range cap(attempts) {
		select {
		case <-attempts:
		case <-time.After(deadline):
			t.Fatal("the peer was not tried again")
		}
	}
	s.end()
}

func TestPortInUse(t *testing.T) {
	e := end{"127.0.6.1", 65001, freePort(t)}
	other := end{"127.0.6.2", 65002, freePort(t)}
	a, b := startSpeaker(t), startSpeaker(t)
	a.set(conf(e, other))
	err := b.Set(context.Background(), conf(e, other))
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("Set with a port in use: %v", err)
	}
	if err := a.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.set(conf(e, other))
}

func TestSetAfterRun(t *testing.T) {
	s := startSpeaker(t)
	s.end()
	if err := s.Set(context.Background(), routing.BGPConfig{}); !errors.Is(err, ErrStopped) {
		t.Errorf("Set after Run: %v", err)
	}
	idle := New(Params{OnRoutes: func(routing.PathEvent) {}})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := idle.Set(ctx, routing.BGPConfig{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Set before Run: %v", err)
	}
}

// TestIncompletePeers: a peer that is missing from the configuration is waited
// for as one that does not come, with and without others.
func TestIncompletePeers(t *testing.T) {
	t.Parallel()
	const restart = 3 * time.Second
	node, other := end{"127.0.8.1", 65001, freePort(t)}, end{"127.0.8.2", 65002, freePort(t)}
	for _, peers := range [][]end{nil, {other}} {
		started := time.Now()
		s := startSpeaker(t)
		c := conf(node, peers...)
		c.Speaker.GracefulRestart.RestartTime, c.Incomplete = restart, true
		if len(peers) > 0 {
			router := startSpeaker(t)
			rc := conf(other, node)
			rc.Advertisements = []routing.Advertisement{advertise("10.10.9.0/24", "192.0.2.2")}
			router.set(rc)
		}
		s.set(c)
		s.eventually("converged", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return ev.Converged })
		if waited := time.Since(started); waited < restart {
			t.Errorf("with %d other peers it is converged after %s, want %s", len(peers), waited, restart)
		}
		s.end()
	}
}

func TestWithoutPeersConverged(t *testing.T) {
	s := startSpeaker(t)
	s.set(routing.BGPConfig{})
	s.eventually("converged with nothing", func(ev routing.PathEvent, _ []routing.SessionStatus) bool {
		return ev.Converged && len(ev.Routes) == 0
	})
}

// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/routing"
)

func TestMain(m *testing.M) {
	if os.Getenv(speakerEnv) != "" {
		os.Exit(speakerMain(os.Stdin, os.Stdout))
	}
	// GoBGP leaves one such goroutine behind when a message is still queued
	// for a neighbour that is removed.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/eapache/channels.(*InfiniteChannel).infiniteBuffer"))
}

// deadline is generous: BGP's own timers take seconds.
const deadline = 60 * time.Second

// testSpeaker is a running speaker that remembers what it told.
type testSpeaker struct {
	*Speaker
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error

	mu       sync.Mutex
	event    routing.PathEvent
	history  []routing.PathEvent
	sessions []routing.SessionStatus
	changed  chan struct{}
}

func startSpeaker(t *testing.T) *testSpeaker {
	t.Helper()
	ts := newSpeaker(t)
	ts.run()
	return ts
}

func newSpeaker(t *testing.T) *testSpeaker {
	t.Helper()
	ts := &testSpeaker{t: t, ended: make(chan error, 1), changed: make(chan struct{}, 1)}
	wake := func() {
		select {
		case ts.changed <- struct{}{}:
		default:
		}
	}
	ts.Speaker = New(Params{
		OnRoutes: func(ev routing.PathEvent) {
			ts.mu.Lock()
			ts.event = ev
			ts.history = append(ts.history, ev)
			ts.mu.Unlock()
			wake()
		},
		OnSessions: func(s []routing.SessionStatus) {
			ts.mu.Lock()
			for i, st := range s {
				if i >= len(ts.sessions) || ts.sessions[i].LastError != st.LastError || ts.sessions[i].State != st.State {
					t.Logf("session %s %s: %q", st.Peer, st.State, st.LastError)
				}
			}
			ts.sessions = s
			ts.mu.Unlock()
			wake()
		},
	})
	return ts
}

func (ts *testSpeaker) run() {
	var ctx context.Context
	ctx, ts.cancel = context.WithCancel(context.Background())
	go func() { ts.ended <- ts.Run(ctx) }()
	ts.t.Cleanup(ts.end)
}

func (ts *testSpeaker) end() {
	ts.cancel()
	select {
	case err := <-ts.ended:
		if err != nil {
			ts.t.Errorf("Run: %v", err)
		}
		ts.ended <- nil
	case <-time.After(deadline):
		ts.t.Error("Run did not end")
	}
}

func (ts *testSpeaker) set(c routing.BGPConfig) {
	ts.t.Helper()
	if err := ts.Set(context.Background(), c); err != nil {
		ts.t.Fatalf("Set: %v", err)
	}
}

// eventually waits for cond to hold of what the speaker told last.
func (ts *testSpeaker) eventually(what string, cond func(routing.PathEvent, []routing.SessionStatus) bool) {
	ts.t.Helper()
	timeout := time.After(deadline)
	for {
		ts.mu.Lock()
		ev, sessions := ts.event, ts.sessions
		ts.mu.Unlock()
		if cond(ev, sessions) {
			return
		}
		select {
		case <-ts.changed:
		case <-timeout:
			ts.t.Fatalf("timeout: %s\nroutes: %+v\nsessions: %+v", what, ev, sessions)
		}
	}
}

func established(peer string) func(routing.PathEvent, []routing.SessionStatus) bool {
	return func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return slices.ContainsFunc(ss, func(s routing.SessionStatus) bool {
			return s.Peer == peer && s.State == routing.SessionEstablished
		})
	}
}

func has(routes ...routing.LearnedRoute) func(routing.PathEvent, []routing.SessionStatus) bool {
	return func(ev routing.PathEvent, _ []routing.SessionStatus) bool {
		return cmp.Equal(routes, ev.Routes, compareValues)
	}
}

func errorLike(peer, text string) func(routing.PathEvent, []routing.SessionStatus) bool {
	return func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return slices.ContainsFunc(ss, func(s routing.SessionStatus) bool {
			return s.Peer == peer && strings.Contains(s.LastError, text)
		})
	}
}

var compareValues = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

func route(prefix, nextHop string, peers ...string) routing.LearnedRoute {
	return routing.LearnedRoute{Prefix: pfx(prefix), NextHops: []routing.NextHop{{Addr: ip(nextHop)}}, Peers: peers}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// end is one end of a session on loopback.
type end struct {
	addr string
	asn  uint32
	port int
}

// conf is the configuration of node end a with peers; Pod CIDRs of the
// cluster are 10.10.0.0/16 and fd10::/32.
func conf(a end, peers ...end) routing.BGPConfig {
	c := routing.BGPConfig{
		Speaker: routing.SpeakerConfig{
			ASN: a.asn, RouterID: ip(a.addr), ListenPort: a.port,
			ListenAddresses: []netip.Addr{ip(a.addr)},
			GracefulRestart: routing.GracefulRestart{Enabled: true, RestartTime: 20 * time.Second},
			MaximumPaths:    8,
		},
		Scope: routing.ImportScope{ClusterCIDRs: []netip.Prefix{pfx("10.10.0.0/16"), pfx("fd10::/32")}},
	}
	for _, p := range peers {
		c.Peers = append(c.Peers, routing.Peer{
			Name: "p" + p.addr, Address: ip(p.addr), Port: p.port, ASN: p.asn, SourceAddress: ip(a.addr),
			Timers: routing.Timers{ConnectRetry: 2 * time.Second},
		})
	}
	return c
}

func advertise(prefix string, nextHops ...string) routing.Advertisement {
	a := routing.Advertisement{Prefix: pfx(prefix)}
	for _, h := range nextHops {
		a.NextHops = append(a.NextHops, ip(h))
	}
	return a
}

func TestTwoSpeakers(t *testing.T) {
	ends := []end{{"127.0.1.1", 65001, freePort(t)}, {"127.0.1.2", 65002, freePort(t)}}
	a, b := startSpeaker(t), startSpeaker(t)
	ca, cb := conf(ends[0], ends[1]), conf(ends[1], ends[0])
	ca.Advertisements = []routing.Advertisement{
		advertise("10.10.1.0/24", "192.0.2.1"),
		advertise("fd10:0:0:1::/64", "2001:db8::1"),
		advertise("172.16.0.0/16", "192.0.2.1"), // outside the cluster
	}
	a.set(ca)
	b.set(cb)
	want := []routing.LearnedRoute{
		route("10.10.1.0/24", "192.0.2.1", "p127.0.1.1"),
		route("fd10:0:0:1::/64", "2001:db8::1", "p127.0.1.1"),
	}
	b.eventually("both families learned", has(want...))
	b.eventually("converged", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return ev.Converged })
	b.eventually("counted", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return len(ss) == 1 && cmp.Equal(ss[0].Families, []routing.FamilyStatus{
			{Family: routing.IPv4, Negotiated: true, Received: 2, Accepted: 1, Filtered: map[routing.FilterReason]int{routing.FilterOutside: 1}},
			{Family: routing.IPv6, Negotiated: true, Received: 1, Accepted: 1},
		})
	})
	a.eventually("advertised", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return len(ss) == 1 && ss[0].Families[0].Advertised == 2 && ss[0].Families[1].Advertised == 1
	})

	// A withdrawal, and a filter that changes without a word of the peer.
	ca.Advertisements = ca.Advertisements[1:]
	a.set(ca)
	b.eventually("withdrawn", has(want[1]))
	cb.Scope.ClusterCIDRs = append(cb.Scope.ClusterCIDRs, pfx("172.16.0.0/12"))
	b.set(cb)
	b.eventually("new filter", has(route("172.16.0.0/16", "192.0.2.1", "p127.0.1.1"), want[1]))

	// The removal is deliberate: Cease, no stale routes.
	if err := a.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.eventually("routes gone", has())
	b.eventually("said why", errorLike("p127.0.1.1", "the peer closed the session: Cease"))
}

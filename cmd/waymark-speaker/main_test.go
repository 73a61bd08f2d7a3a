// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/speakerapi"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/gobgp"
)

// deadline is generous: BGP's own timers take seconds.
const deadline = 60 * time.Second

// observer remembers what a speaker, or its client, told.
type observer struct {
	mu       sync.Mutex
	changed  chan struct{}
	events   []routing.PathEvent
	sessions [][]routing.SessionStatus
}

func newObserver() *observer { return &observer{changed: make(chan struct{}, 1)} }

func (o *observer) wake() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

func (o *observer) onRoutes(e routing.PathEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
	o.wake()
}

func (o *observer) onSessions(s []routing.SessionStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sessions = append(o.sessions, s)
	o.wake()
}

// last returns what was told last, and the session if it is established.
func (o *observer) last() (e routing.PathEvent, session *routing.SessionStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.events); n > 0 {
		e = o.events[n-1]
	}
	if n := len(o.sessions); n > 0 && len(o.sessions[n-1]) > 0 && o.sessions[n-1][0].State == routing.SessionEstablished {
		session = &o.sessions[n-1][0]
	}
	return e, session
}

// settled waits until a session that came up after a time is there and all routes
// are known, and returns both.
func (o *observer) settled(t *testing.T, what string, after time.Time) ([]routing.LearnedRoute, routing.SessionStatus) {
	t.Helper()
	timeout := time.After(deadline)
	for {
		e, session := o.last()
		if session != nil && session.Since.After(after) && e.Converged && len(e.Routes) > 0 {
			return e.Routes, *session
		}
		select {
		case <-o.changed:
		case <-timeout:
			t.Fatalf("%s: %+v, %+v", what, e, session)
		}
	}
}

// always checks that routes were the same in all events since one was first so.
func (o *observer) always(t *testing.T, who string, want []routing.LearnedRoute) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	same := func(e routing.PathEvent) bool { return cmp.Equal(e.Routes, want, compareValues) }
	for _, e := range o.events[slices.IndexFunc(o.events, same):] {
		if !same(e) {
			t.Errorf("%s once had the routes %+v", who, e.Routes)
		}
	}
}

var compareValues = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// start runs something until the test or the returned function ends it.
func start(t *testing.T, run func(context.Context) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return end
}

// endpoint is one end of the session, on loopback.
type endpoint struct {
	addr string
	asn  uint32
	port uint16
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// conf has one end announce a prefix to the other.
func conf(us, them endpoint, prefix string) routing.BGPConfig {
	addr := netip.MustParseAddr
	return routing.BGPConfig{
		Speaker: routing.SpeakerConfig{
			ASN: us.asn, RouterID: addr(us.addr), ListenPort: int(us.port), ListenAddresses: []netip.Addr{addr(us.addr)},
			GracefulRestart: routing.GracefulRestart{Enabled: true, RestartTime: 30 * time.Second},
		},
		Peers: []routing.Peer{{
			Name: "peer", Address: addr(them.addr), Port: int(them.port), ASN: them.asn, SourceAddress: addr(us.addr),
			Timers: routing.Timers{ConnectRetry: time.Second},
		}},
		Advertisements: []routing.Advertisement{{Prefix: netip.MustParsePrefix(prefix), NextHops: []netip.Addr{addr("192.0.2.1")}}},
		Scope:          routing.ImportScope{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16")}},
	}
}

// TestRestarts has a session with a router outlive the agent, and routes outlive
// the speaker.
func TestRestarts(t *testing.T) {
	dir, err := os.MkdirTemp("", "wm-speaker") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, speakerapi.SocketName)
	node, far := endpoint{"127.0.2.1", 65101, freePort(t)}, endpoint{"127.0.2.2", 65001, freePort(t)}

	atRouter := newObserver()
	router := gobgp.New(gobgp.Params{OnRoutes: atRouter.onRoutes, OnSessions: atRouter.onSessions})
	start(t, router.Run)
	if err := router.Set(t.Context(), conf(far, node, "10.10.2.0/24")); err != nil {
		t.Fatal(err)
	}
	speaker := func(ctx context.Context) error { return run(ctx, socket, "127.0.0.1:0") }
	endSpeaker := start(t, speaker)
	agent := func() (*observer, func()) {
		o := newObserver()
		client := speakerapi.NewClient(speakerapi.ClientParams{Socket: socket, OnRoutes: o.onRoutes, OnSessions: o.onSessions})
		end := start(t, client.Run)
		// An error says that the speaker is not there yet, and that it is told later.
		_ = client.Set(t.Context(), conf(node, far, "10.10.1.0/24"))
		return o, end
	}

	first, endAgent := agent()
	learned, session := first.settled(t, "first agent", time.Time{})
	known, established := atRouter.settled(t, "router", time.Time{})
	endAgent()

	second, _ := agent()
	again, same := second.settled(t, "second agent", time.Time{})
	if diff := cmp.Diff(learned, again, compareValues); diff != "" || !same.Since.Equal(session.Since) {
		t.Errorf("session since %s, it was %s; routes (-first +second):\n%s", same.Since, session.Since, diff)
	}
	if _, up := atRouter.last(); up == nil {
		t.Error("the session is down at the router")
	}

	endSpeaker()
	start(t, speaker)
	second.settled(t, "second speaker", session.Since)
	second.always(t, "the agent", learned)
	atRouter.settled(t, "router, with the second speaker", established.Since)
	atRouter.always(t, "the router", known)
}

// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
)

// config has peers with addresses in the order of their names.
func config(peers ...string) routing.BGPConfig {
	c := routing.BGPConfig{Speaker: routing.SpeakerConfig{ASN: 65101, RouterID: netip.MustParseAddr("192.0.2.1")}}
	address := netip.MustParseAddr("192.0.2.10")
	for _, name := range peers {
		c.Peers = append(c.Peers, routing.Peer{Name: name, Address: address, ASN: 65001, Password: "secret of " + name})
		address = address.Next()
	}
	return c
}

// incomplete is config with peers left out.
func incomplete(peers ...string) routing.BGPConfig {
	c := config(peers...)
	c.Incomplete = true
	return c
}

// routes is one route.
func routes(prefix string, peers ...string) []routing.LearnedRoute {
	return []routing.LearnedRoute{{
		Prefix: netip.MustParsePrefix(prefix), NextHops: []routing.NextHop{{Addr: netip.MustParseAddr("192.0.2.10")}}, Peers: peers,
	}}
}

func join(parts ...[]routing.LearnedRoute) (all []routing.LearnedRoute) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// step is what happens to a memory, and what it says afterwards.
type step struct {
	after  time.Duration
	set    *routing.BGPConfig
	says   *routing.PathEvent
	lost   bool
	routes []routing.LearnedRoute
	// complete is the convergence that the agent sees.
	complete bool
}

func TestMemory(t *testing.T) {
	a, b := routes("10.10.1.0/24", "tor-a"), routes("10.10.2.0/24", "tor-b")
	both, onlyA, none := config("tor-a", "tor-b"), config("tor-a"), config()
	all := &routing.PathEvent{Routes: join(a, b), Converged: true}
	nothing := &routing.PathEvent{}
	aOnly := &routing.PathEvent{Routes: a}
	short := config("tor-a", "tor-b")
	short.Speaker.GracefulRestart.RestartTime = 10 * time.Second
	long := config("tor-a", "tor-b")
	long.Peers[1].GracefulRestart = &routing.GracefulRestart{Enabled: true, RestartTime: 300 * time.Second}
	leavesOut := incomplete("tor-a")

	for name, steps := range map[string][]step{
		"a fresh agent and a fresh speaker": {
			{set: &both},
			{says: nothing},
			{says: aOnly, routes: a},
			{says: all, routes: all.Routes, complete: true},
		},
		"a fresh agent and a speaker that knows all": {
			{says: all, routes: all.Routes, complete: true},
			{set: &both, routes: all.Routes, complete: true},
		},
		"the speaker restarts": {
			{set: &both},
			{says: all, routes: all.Routes, complete: true},
			{after: time.Hour, lost: true, routes: all.Routes},
			{after: 5 * time.Second, says: nothing, routes: all.Routes},
			{says: &routing.PathEvent{Routes: routes("10.10.2.0/24", "tor-a")}, routes: join(a, routes("10.10.2.0/24", "tor-a"))},
			{says: &routing.PathEvent{Routes: b, Converged: true}, routes: b, complete: true},
		},
		"it restarts twice before it has converged": {
			{set: &both},
			{says: &routing.PathEvent{Routes: a, Converged: true}, routes: a, complete: true},
			{lost: true, routes: a},
			{says: &routing.PathEvent{Routes: b}, routes: join(a, b)},
			{after: time.Second, lost: true, routes: join(a, b)},
			{after: 118 * time.Second, routes: join(a, b)},
			{after: time.Second, complete: true},
		},
		"it does not come back": {
			{set: &short},
			{says: all, routes: all.Routes, complete: true},
			{after: time.Hour, lost: true, routes: all.Routes},
			{after: 9 * time.Second, routes: all.Routes},
			{after: time.Second, complete: true},
			{after: time.Hour, says: aOnly, routes: a},
			{says: all, routes: all.Routes, complete: true},
			{lost: true, routes: all.Routes},
		},
		"one peer has a longer restart time": {
			{set: &long},
			{says: all, routes: all.Routes, complete: true},
			{lost: true, routes: all.Routes},
			{after: 299 * time.Second, routes: all.Routes},
			{after: time.Second, complete: true},
		},
		"it comes back and waits for a peer for longer than that": {
			{set: &both},
			{says: all, routes: all.Routes, complete: true},
			{lost: true, routes: all.Routes},
			{after: 100 * time.Second, says: aOnly, routes: all.Routes},
			{after: 20 * time.Second, routes: a},
		},
		"a peer is removed meanwhile": {
			{set: &both},
			{says: all, routes: all.Routes, complete: true},
			{lost: true, routes: all.Routes},
			{set: &onlyA, routes: a},
			{set: &none, complete: true},
		},
		"a peer's password cannot be read meanwhile": {
			{set: &both},
			{says: all, routes: all.Routes, complete: true},
			{lost: true, routes: all.Routes},
			{set: &leavesOut, routes: all.Routes},
		},
		"no peer, and never a speaker":    {{set: &none, complete: true}},
		"peers, and never a speaker":      {{set: &both}, {after: 119 * time.Second}, {after: time.Second, complete: true}},
		"lost before there was anything":  {{lost: true}, {after: time.Hour}, {set: &both}, {after: 120 * time.Second, complete: true}},
		"lost before the agent knew more": {{says: all, routes: all.Routes, complete: true}, {lost: true, routes: all.Routes}, {after: time.Hour, routes: all.Routes}},
	} {
		t.Run(name, func(t *testing.T) {
			var m memory
			now := time.Unix(1000, 0)
			for i, s := range steps {
				now = now.Add(s.after)
				switch {
				case s.set != nil:
					m.set(*s.set, now)
				case s.says != nil:
					m.hear(*s.says, now)
				case s.lost:
					m.lose(now)
				}
				e := m.event(now)
				if diff := cmp.Diff(s.routes, e.Routes, compareValues, comparePrefixes); diff != "" || e.Converged != s.complete {
					t.Errorf("step %d: converged %t, want %t, routes (-want +got):\n%s", i, e.Converged, s.complete, diff)
				}
			}
		})
	}
}

func TestIdle(t *testing.T) {
	c := config("tor-b", "tor-a")
	c.Peers[0].Families = []routing.Family{routing.IPv6}
	since := time.Unix(1000, 0)
	both := []routing.FamilyStatus{{Family: routing.IPv4}, {Family: routing.IPv6}}
	want := []routing.SessionStatus{
		{Peer: "tor-a", Address: c.Peers[1].Address, ASN: 65001, State: routing.SessionIdle, Since: since, Families: both, LastError: "away", LastErrorAt: since},
		{Peer: "tor-b", Address: c.Peers[0].Address, ASN: 65001, State: routing.SessionIdle, Since: since, Families: both[1:], LastError: "away", LastErrorAt: since},
	}
	if diff := cmp.Diff(want, idle(c, "away", since), compareValues); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWithKept(t *testing.T) {
	other := config("tor-c") // at the address of tor-a
	for name, tc := range map[string]struct {
		config, before routing.BGPConfig
		want           []string
	}{
		"one is missing":     {incomplete("tor-a"), config("tor-a", "tor-b"), []string{"tor-a", "tor-b"}},
		"none is missing":    {incomplete("tor-a", "tor-b"), config("tor-a", "tor-b"), []string{"tor-a", "tor-b"}},
		"another address":    {incomplete("tor-b"), config("tor-a", "tor-b"), []string{"tor-b"}},
		"another's address":  {other, config("tor-a"), []string{"tor-c"}},
		"nothing was before": {incomplete("tor-a"), config(), []string{"tor-a"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(tc.config.Peers)
			var got []string
			for _, p := range withKept(tc.config, tc.before).Peers {
				got = append(got, p.Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || len(tc.config.Peers) != before {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

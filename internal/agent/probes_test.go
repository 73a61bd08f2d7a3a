// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/probe"
)

// TestPlanAuto: routed where probes say that it works, for that family and node alone,
// and probed whichever way the Pods are reached.
func TestPlanAuto(t *testing.T) {
	works := routing.Proof{Works: true}
	key := func(node string, f routing.Family) routing.ProofKey { return routing.ProofKey{Node: node, Family: f} }
	p, err := MakePlan(world(func(w *World) {
		w.Config.Mode = routing.ModeAuto
		w.Learned = []routing.LearnedRoute{{
			Prefix: prefix("10.10.3.0/24"), NextHops: []routing.NextHop{{Addr: addr("192.0.2.254")}},
		}}
		w.Proofs = map[routing.ProofKey]routing.Proof{
			key("n2", routing.IPv4): works,
			key("n2", routing.IPv6): {Reason: "no answer on any flow"},
			key("n3", routing.IPv4): works,
			key("n3", routing.IPv6): works, // and has no route any more
		}
		w.Assumed = map[routing.ProofKey]bool{key("n2", routing.IPv4): true}
	}))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []routing.PathKind
	for _, path := range p.Paths {
		kinds = append(kinds, path.Kind)
	}
	if d := cmp.Diff([]routing.PathKind{routing.PathDirect, routing.PathTunnel, routing.PathBGP, routing.PathTunnel}, kinds); d != "" {
		t.Errorf("paths (-want +got):\n%s", d)
	}
	target := func(node string, f routing.Family, a, route string, assume bool) probe.Target {
		return probe.Target{Node: node, Family: f, Address: addr(a), Size: 1450, Route: route, AssumeWorks: assume}
	}
	want := probe.Config{
		Local:  []netip.Addr{addr("10.10.1.3"), addr("fd10:1::3")},
		Answer: []netip.Addr{addr("10.10.2.3"), addr("fd10:2::3"), addr("10.10.3.3"), addr("fd10:3::3")},
		Targets: []probe.Target{
			target("n2", routing.IPv4, "10.10.2.3", "direct [192.0.2.2]", true),
			target("n2", routing.IPv6, "fd10:2::3", "direct [2001:db8:1::2]", false),
			target("n3", routing.IPv4, "10.10.3.3", "bgp [192.0.2.254]", false),
			target("n3", routing.IPv6, "fd10:3::3", "", false),
		},
	}
	if d := cmp.Diff(want, p.Probes, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("probes (-want +got):\n%s", d)
	}
	hops := map[string]string{}
	for _, r := range p.Kernel.Routes {
		if r.Prefix.IsSingleIP() {
			hops[r.Prefix.Addr().String()] = r.NextHops[0].Addr.String()
		}
	}
	wantHops := map[string]string{"10.10.2.3": "192.0.2.2", "fd10:2::3": "2001:db8:1::2", "10.10.3.3": "192.0.2.254"}
	if d := cmp.Diff(wantHops, hops); d != "" {
		t.Errorf("routes to probe addresses (-want +got):\n%s", d)
	}
}

// TestPathReport: since when paths are, which of them the agent found, and that nothing
// is told before the routes are known.
func TestPathReport(t *testing.T) {
	type told struct {
		Path  routing.PathKind
		Since time.Duration // from the start
		Found bool
	}
	type step struct {
		after time.Duration
		path  routing.PathKind
		all   bool
		want  []told
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"the speaker tells the routes", []step{
			{0, routing.PathNone, false, nil},
			{time.Second, routing.PathBGP, true, []told{{routing.PathBGP, time.Second, true}}},
			{time.Second, routing.PathBGP, false, []told{{routing.PathBGP, time.Second, true}}},
			{time.Second, routing.PathTunnel, false, []told{{routing.PathTunnel, 3 * time.Second, false}}},
			{time.Second, routing.PathBGP, true, []told{{routing.PathBGP, 4 * time.Second, false}}},
		}},
		{"no speaker", []step{
			{time.Second, routing.PathNone, false, nil},
			{awaitRoutes, routing.PathNone, false, []told{{routing.PathNone, time.Second, true}}},
			{time.Second, routing.PathBGP, true, []told{{routing.PathBGP, awaitRoutes + 2*time.Second, false}}},
		}},
		{"a node that comes later", []step{
			{0, "", true, []told{}},
			{time.Minute, routing.PathDirect, true, []told{{routing.PathDirect, time.Minute, false}}},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProber(func() {})
				seen := sight{node: &kube.Node{}, world: World{Config: &config.Config{Mode: routing.ModeAuto}}}
				for i, s := range test.steps {
					time.Sleep(s.after)
					plan := &Plan{}
					if s.path != "" {
						plan.Paths = []routing.Path{{Node: "n2", Family: routing.IPv4, Kind: s.path}}
					}
					p.follow(plan.Paths, s.all)
					var got []told
					if r := p.report(seen, plan); r != nil {
						got = []told{}
						for _, path := range r.Paths {
							got = append(got, told{path.Kind, path.Since.Sub(p.started), path.Found})
						}
						if r.Node != seen.node || r.Mode != routing.ModeAuto {
							t.Errorf("step %d: report of node %v, mode %s", i, r.Node, r.Mode)
						}
					}
					if d := cmp.Diff(s.want, got); d != "" {
						t.Errorf("step %d (-want +got):\n%s", i, d)
					}
				}
			})
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/rollout"
	"github.com/waymark-net/waymark/routing"
)

// TestEveryRolloutIsAcknowledged: also one that leads where the cluster is, after one
// that was turned round; but not one that is over.
func TestEveryRolloutIsAcknowledged(t *testing.T) {
	for phase, want := range map[rollout.Phase]bool{
		rollout.Prepare: true, rollout.Flip: true, rollout.Finish: true, rollout.Complete: false, rollout.Superseded: false,
	} {
		a := &Agent{acks: newAcknowledger(&kube.Clients{}, "n1")}
		a.acknowledge(t.Context(), World{Rollout: &rollout.Rollout{Name: "rollout-3", Phase: phase}}, nil, errors.New("no switch"))
		said := a.acks.want.Load()
		if (said != nil) != want {
			t.Errorf("in %s the agent says %v", phase, said)
		}
		if want && *said != (kube.NodeRollout{Name: "rollout-3", Problem: "no switch"}) {
			t.Errorf("in %s the agent says %v", phase, *said)
		}
	}
}

// TestPlanInRollout goes from routes to tunnels and between tunnels, as n1 sees it.
func TestPlanInRollout(t *testing.T) {
	routed := config.Traffic{Mode: routing.ModeNoEncap, Tunnel: config.Tunnel{Type: encap.Geneve, Underlay: encap.UnderlayAuto}, BGP: true}
	geneve, vxlan6 := routed, routed
	geneve.Mode, geneve.BGP = routing.ModeEncap, false
	vxlan6.Mode, vxlan6.Tunnel, vxlan6.BGP = routing.ModeEncap, config.Tunnel{Type: encap.VXLAN, Underlay: encap.UnderlayIPv6}, false
	type result struct {
		MTU, SendMTU int
		// Paths are those to n2 and n3, IPv4.
		Paths   []routing.PathKind
		Tunnels []string
		// From are the outer sources that are accepted of n2; To is where packets to
		// it are tunnelled, by which port.
		From    []netip.Addr
		To      netip.Addr
		By      string
		BGP     bool
		RouteTo int // MTU of the route to n2's Pods
	}
	direct, tunnel, none := routing.PathDirect, routing.PathTunnel, routing.PathNone
	n2v4, n2v6 := addr("192.0.2.2"), addr("2001:db8:1::2")
	for _, tt := range []struct {
		name  string
		r     rollout.Rollout
		want  result
		loses bool
	}{
		{"routes", rollout.Rollout{From: routed, To: routed, Phase: rollout.Complete},
			result{MTU: 1500, SendMTU: 1500, Paths: []routing.PathKind{direct, none}, BGP: true}, true},
		{"prepare", rollout.Rollout{From: routed, To: geneve, Phase: rollout.Prepare},
			result{MTU: 1500, SendMTU: 1450, Paths: []routing.PathKind{direct, none}, Tunnels: []string{"wm-geneve-6081"},
				From: []netip.Addr{n2v4}, BGP: true, RouteTo: 1450}, false},
		{"flip, n2 is ready", rollout.Rollout{From: routed, To: geneve, Phase: rollout.Flip, Accepting: map[string]bool{"n2": true}},
			result{MTU: 1500, SendMTU: 1450, Paths: []routing.PathKind{tunnel, none}, Tunnels: []string{"wm-geneve-6081"},
				From: []netip.Addr{n2v4}, To: n2v4, By: "wm-geneve-6081", BGP: true, RouteTo: 1450}, false},
		{"finish", rollout.Rollout{From: routed, To: geneve, Phase: rollout.Finish},
			result{MTU: 1450, SendMTU: 1450, Paths: []routing.PathKind{tunnel, tunnel}, Tunnels: []string{"wm-geneve-6081"},
				From: []netip.Addr{n2v4}, To: n2v4, By: "wm-geneve-6081", RouteTo: 1450}, false},
		{"turned round", rollout.Rollout{From: geneve, To: routed, Phase: rollout.Flip, Reverses: true},
			result{MTU: 1500, SendMTU: 1450, Paths: []routing.PathKind{direct, none}, Tunnels: []string{"wm-geneve-6081"},
				From: []netip.Addr{n2v4}, BGP: true, RouteTo: 1450}, true},
		{"back to routes, finish", rollout.Rollout{From: geneve, To: routed, Phase: rollout.Finish},
			result{MTU: 1500, SendMTU: 1450, Paths: []routing.PathKind{direct, none}, BGP: true, RouteTo: 1450}, true},
		{"another tunnel, prepare", rollout.Rollout{From: geneve, To: vxlan6, Phase: rollout.Prepare},
			result{MTU: 1450, SendMTU: 1430, Paths: []routing.PathKind{tunnel, tunnel}, Tunnels: []string{"wm-vxlan-4789", "wm-geneve-6081"},
				From: []netip.Addr{n2v6, n2v4}, To: n2v4, By: "wm-geneve-6081", RouteTo: 1430}, false},
		{"another tunnel, flip", rollout.Rollout{From: geneve, To: vxlan6, Phase: rollout.Flip, Accepting: map[string]bool{"n2": true, "n3": true}},
			result{MTU: 1450, SendMTU: 1430, Paths: []routing.PathKind{tunnel, tunnel}, Tunnels: []string{"wm-vxlan-4789", "wm-geneve-6081"},
				From: []netip.Addr{n2v6, n2v4}, To: n2v6, By: "wm-vxlan-4789", RouteTo: 1430}, false},
		{"another tunnel, complete", rollout.Rollout{From: geneve, To: vxlan6, Phase: rollout.Complete},
			result{MTU: 1430, SendMTU: 1430, Paths: []routing.PathKind{tunnel, tunnel}, Tunnels: []string{"wm-vxlan-4789"},
				From: []netip.Addr{n2v6}, To: n2v6, By: "wm-vxlan-4789", RouteTo: 1430}, false},
	} {
		p, err := MakePlan(world(func(w *World) { w.Config, w.Rollout = w.Config.With(tt.r.To), &tt.r }))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := result{MTU: p.MTU, SendMTU: p.SendMTU, BGP: p.BGP.Speaker.ASN != 0}
		for _, path := range p.Paths {
			if path.Family == routing.IPv4 {
				got.Paths = append(got.Paths, path.Kind)
			}
		}
		for _, tunnel := range p.Layout.Tunnels {
			got.Tunnels = append(got.Tunnels, tunnel.PortName())
		}
		for _, n := range p.Nodes {
			if n.Name != "n2" {
				continue
			}
			got.From = n.Sources
			if len(n.PodCIDRs) > 0 {
				got.To, got.By = n.Endpoint.Remote, n.Tunnel.PortName()
			}
		}
		for _, r := range p.Kernel.Routes {
			if r.Prefix == prefix("10.10.2.0/24") && r.Type == routing.Unicast {
				got.RouteTo = r.MTU
			}
		}
		if d := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
		if loses := strings.Contains(strings.Join(p.Loses, ""), "n3"); loses != tt.loses {
			t.Errorf("%s: loses %v", tt.name, p.Loses)
		}
	}
}

// TestPlanRefused: a node that cannot do what a rollout leads to stays as it was, says
// why, and does not hold up anything else.
func TestPlanRefused(t *testing.T) {
	routed := config.Traffic{Mode: routing.ModeNoEncap, Tunnel: config.Tunnel{Type: encap.Geneve, Underlay: encap.UnderlayAuto}, BGP: true}
	geneve := routed
	geneve.Mode, geneve.BGP = routing.ModeEncap, false
	in := func(to config.Traffic, r *rollout.Rollout) World {
		return world(func(w *World) {
			w.Config, w.Rollout, w.Uplink.MTU = w.Config.With(to), r, 1300 // IPv6 does not fit a tunnel
		})
	}
	before, err := MakePlan(in(routed, &rollout.Rollout{From: routed, To: routed, Phase: rollout.Complete}))
	if err != nil {
		t.Fatal(err)
	}
	w := in(geneve, &rollout.Rollout{Name: "rollout-2", From: routed, To: geneve, Phase: rollout.Prepare})
	p, err := MakePlan(w)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{acks: newAcknowledger(&kube.Clients{}, "n1")}
	a.acknowledge(t.Context(), w, p, nil)
	if said := *a.acks.want.Load(); said.Phase != "" || !strings.Contains(said.Problem, "MTU of uplink eth0") {
		t.Errorf("the agent says %+v", said)
	}
	p.Refused = nil
	if d := cmp.Diff(before, p, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-before +refused):\n%s", d)
	}
	if _, err := MakePlan(in(geneve, &rollout.Rollout{From: routed, To: geneve, Phase: rollout.Finish})); err == nil {
		t.Error("no error for what is in force")
	}
}

// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

var (
	routed = config.Traffic{Mode: routing.ModeNoEncap, BGP: true}
	geneve = config.Traffic{Mode: routing.ModeEncap, Tunnel: config.Tunnel{Type: encap.Geneve}}
	vxlan  = config.Traffic{Mode: routing.ModeEncap, Tunnel: config.Tunnel{Type: encap.VXLAN}}
)

func TestNext(t *testing.T) {
	at := func(p Phase) *Rollout {
		return &Rollout{Name: "rollout-7", Number: 7, From: routed, To: geneve, Phase: p}
	}
	for _, tt := range []struct {
		name    string
		current *Rollout
		want    config.Traffic
		next    *Rollout
		said    string
	}{
		{"the first", nil, geneve, &Rollout{Number: 1, From: geneve, To: geneve, Phase: Complete}, ""},
		{"nothing new", at(Complete), geneve, nil, ""},
		{"nothing new on the way", at(Flip), geneve, nil, ""},
		{"a change", at(Complete), vxlan, &Rollout{Number: 8, From: geneve, To: vxlan, Phase: Prepare}, ""},
		{"turned round before anybody moved", at(Prepare), routed, &Rollout{Number: 8, From: routed, To: routed, Phase: Prepare}, ""},
		{"another before anybody moved", at(Prepare), vxlan, &Rollout{Number: 8, From: routed, To: vxlan, Phase: Prepare}, ""},
		{"turned round while nodes move", at(Flip), routed, &Rollout{Number: 8, From: geneve, To: routed, Reverses: true, Phase: Flip}, ""},
		{"another while nodes move", at(Flip), vxlan, nil, "a change to encap (vxlan) follows"},
		{"one port for two types of tunnel", at(Complete),
			config.Traffic{Mode: routing.ModeHybrid, Tunnel: config.Tunnel{Type: encap.VXLAN, Port: 6081}}, nil,
			"no change to hybrid (vxlan, UDP port 6081): two types of tunnel cannot share UDP port 6081; change to another port"},
		{"turned round when all have moved", at(Finish), routed, &Rollout{Number: 8, From: geneve, To: routed, Phase: Prepare}, ""},
	} {
		next, said := Next(tt.current, tt.want)
		if d := cmp.Diff(tt.next, next); d != "" || said != tt.said {
			t.Errorf("%s: said %q, (-want +got):\n%s", tt.name, said, d)
		}
	}
}

// TestPaths: in no phase does a node send what another may not accept.
func TestPaths(t *testing.T) {
	for _, tt := range []struct {
		name     string
		r        Rollout
		accepts  []config.Traffic
		new, old string // nodes to which packets go by the new and the old path
		narrow   bool
	}{
		{"prepare", Rollout{Phase: Prepare}, []config.Traffic{geneve, routed}, "", "ready other", true},
		{"flip", Rollout{Phase: Flip}, []config.Traffic{geneve, routed}, "ready", "other", true},
		{"flip back", Rollout{Phase: Flip, Reverses: true}, []config.Traffic{geneve, routed}, "ready other", "", true},
		{"finish", Rollout{Phase: Finish}, []config.Traffic{geneve}, "ready other", "", true},
		{"complete", Rollout{Phase: Complete}, []config.Traffic{geneve}, "ready other", "", false},
	} {
		r := tt.r
		r.From, r.To, r.Accepting = routed, geneve, map[string]bool{"ready": true}
		if d := cmp.Diff(tt.accepts, r.Accepts()); d != "" {
			t.Errorf("%s accepts (-want +got):\n%s", tt.name, d)
		}
		for _, node := range []string{"ready", "other"} {
			if got, want := r.SendsNew(node), tt.new == "ready other" || tt.new == node; got != want {
				t.Errorf("%s: the new path to %s is %t, want %t", tt.name, node, got, want)
			}
		}
		if r.Narrow() != tt.narrow {
			t.Errorf("%s: narrow is %t", tt.name, r.Narrow())
		}
	}
	same := Rollout{From: routed, To: routed, Phase: Prepare}
	if d := cmp.Diff([]config.Traffic{routed}, same.Accepts()); d != "" {
		t.Errorf("one path accepts (-want +got):\n%s", d)
	}
}

func TestAdvance(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	all := func(p Phase) map[string]Ack {
		return map[string]Ack{"n1": {Phase: p}, "n2": {Phase: p}, "n3": {Phase: p}}
	}
	with := func(acks map[string]Ack, node string, ack Ack) map[string]Ack {
		acks[node] = ack
		return acks
	}
	noRoute := Ack{Phase: Prepare, Problem: "no usable route to n2", Loses: true}
	for _, tt := range []struct {
		name  string
		r     Rollout
		nodes []string
		acks  map[string]Ack
		want  Progress
	}{
		{"nobody has prepared", Rollout{Phase: Prepare}, nodes, nil, Progress{Prepare, 0, 3, "waiting for n1, n2, n3"}},
		{"some have", Rollout{Phase: Prepare}, nodes, with(all(Prepare), "n2", Ack{}), Progress{Prepare, 2, 3, "waiting for n2"}},
		{"all have", Rollout{Phase: Prepare}, nodes, all(Prepare), Progress{Flip, 3, 3, ""}},
		{"one is ahead", Rollout{Phase: Prepare}, nodes, with(all(Prepare), "n2", Ack{Phase: Flip}), Progress{Flip, 3, 3, ""}},
		{"one has a problem", Rollout{Phase: Prepare}, nodes, with(all(Prepare), "n1", Ack{Problem: "no switch"}), Progress{Prepare, 2, 3, "n1: no switch"}},
		{"one has a route less", Rollout{Phase: Prepare}, nodes, with(all(Prepare), "n1", noRoute),
			Progress{Prepare, 2, 3, "n1: no usable route to n2; spec.force goes on all the same"}},
		{"forced", Rollout{Phase: Prepare, Force: true}, nodes, with(all(Prepare), "n1", noRoute), Progress{Flip, 3, 3, ""}},
		{"forced, but one is silent", Rollout{Phase: Prepare, Force: true}, nodes, with(all(Prepare), "n1", Ack{}), Progress{Prepare, 2, 3, "waiting for n1"}},
		{"a route is lost after the flip", Rollout{Phase: Flip}, nodes, with(all(Flip), "n1", Ack{Phase: Flip, Problem: "x", Loses: true}), Progress{Finish, 3, 3, ""}},
		{"not all flipped", Rollout{Phase: Flip}, nodes, all(Prepare), Progress{Flip, 0, 3, "waiting for n1, n2, n3"}},
		{"one said before what it would lose", Rollout{Phase: Flip, Force: true}, nodes, with(all(Flip), "n1", noRoute), Progress{Flip, 2, 3, "waiting for n1"}},
		{"finished", Rollout{Phase: Finish}, nodes, all(Finish), Progress{Complete, 3, 3, ""}},
		{"complete stays", Rollout{Phase: Complete}, nodes, nil, Progress{Complete, 3, 3, ""}},
		{"superseded stays", Rollout{Phase: Superseded}, nodes, nil, Progress{Superseded, 3, 3, ""}},
		{"many are silent", Rollout{Phase: Prepare}, []string{"a", "b", "c", "d", "e", "f", "g"}, nil,
			Progress{Prepare, 0, 7, "waiting for a, b, c, d, e and 2 more"}},
		{"no nodes", Rollout{Phase: Prepare}, nil, nil, Progress{Flip, 0, 0, ""}},
	} {
		if d := cmp.Diff(tt.want, Advance(&tt.r, tt.nodes, tt.acks)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

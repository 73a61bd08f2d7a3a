// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/rollout"
	"github.com/waymark-net/waymark/routing"
)

// TestRolloutObject: what is written of a rollout is read again.
func TestRolloutObject(t *testing.T) {
	want := &rollout.Rollout{
		Name: "rollout-7", Number: 7, Reverses: true, Phase: rollout.Flip,
		From:      config.Traffic{Mode: routing.ModeNoEncap, Tunnel: config.Tunnel{Type: encap.Geneve, Underlay: encap.UnderlayAuto}, TrustDefaultRoute: true, BGP: true},
		To:        config.Traffic{Mode: routing.ModeEncap, Tunnel: config.Tunnel{Type: encap.VXLAN, Port: 8472, Underlay: encap.UnderlayIPv6}, MTU: 1400},
		Accepting: map[string]bool{"n1": true, "n3": true},
	}
	object := NewRollout(want)
	acks := map[string]rollout.Ack{"n1": {Phase: rollout.Flip}, "n2": {Problem: "the node is not ready"}, "n3": {Phase: rollout.Prepare}}
	at := time.Unix(1000, 5)
	SetProgress(object, rollout.Progress{Phase: rollout.Flip, Ready: 1, All: 3, Message: "n2: the node is not ready; waiting for n3"}, []string{"n1", "n2", "n3"}, acks, at)
	s := &Snapshot{RolloutObjects: []v1alpha1.NetworkRollout{{}, *object}}
	if d := cmp.Diff(want, s.Rollout()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if object.Status.Ready != "1/3" || object.Status.Nodes[1].Problem == "" || object.Status.Since.Unix() != 1000 {
		t.Errorf("status %+v", object.Status)
	}
	SetProgress(object, rollout.Progress{Phase: rollout.Flip}, nil, nil, at.Add(time.Hour))
	if object.Status.Since.Unix() != 1000 {
		t.Error("the phase begins anew")
	}
}

// TestRolloutWithoutStatus: until the status is written, the spec says the phase.
func TestRolloutWithoutStatus(t *testing.T) {
	routed, tunnelled := config.Traffic{Mode: routing.ModeNoEncap}, config.Traffic{Mode: routing.ModeEncap}
	for want, r := range map[rollout.Phase]rollout.Rollout{
		rollout.Complete: {Number: 1, From: routed, To: routed},
		rollout.Prepare:  {Number: 2, From: routed, To: tunnelled},
		rollout.Flip:     {Number: 3, From: tunnelled, To: routed, Reverses: true},
	} {
		if got := parseRollout(NewRollout(&r)).Phase; got != want {
			t.Errorf("rollout %d begins with %s, want %s", r.Number, got, want)
		}
	}
	if (&Snapshot{}).Rollout() != nil {
		t.Error("a rollout where there is none")
	}
}

func FuzzParseNodeRollout(f *testing.F) {
	for _, text := range []string{"", `{"name":"rollout-7","phase":"Flip"}`, `{"name":"rollout-7","problem":"x","loses":true}`, `{"name":7}`, `{`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := parseNodeRollout(text)
		if n.Name == "" && n.Phase == "" && n.Problem == "" {
			return
		}
		if rollout.Phase("").Reached(rollout.Prepare) || n.Phase.Reached(rollout.Complete) && n.Phase != rollout.Complete {
			t.Errorf("%q is taken for phase %s", text, n.Phase)
		}
	})
}

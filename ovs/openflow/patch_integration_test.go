// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openflow_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
)

func TestPatchMovesFlows(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target, stop := start(t, o, time.Hour)
	target.Complete()
	flows := parse(t,
		"table=0, priority=1,in_port=1 actions=drop",
		"table=0, priority=1,in_port=2 actions=drop",
		"table=0, priority=1,in_port=3 actions=drop")
	patch := func(changes ...flow.Change) {
		t.Helper()
		if err := target.Patch(changes...); err != nil {
			t.Fatal(err)
		}
	}
	patch(flow.Change{Owner: "a", Set: flows[:2]}, flow.Change{Owner: "b", Set: flows[2:]})
	syncAll(t, target)
	patch(flow.Change{Owner: "a", Remove: []flow.Key{flows[1].Key()}}, flow.Change{Owner: "b", Set: flows[1:2]})
	syncAll(t, target, "a", "b")
	if s := target.Stats(); s.Bundles != 2 || s.FlowAdds != 3 || s.FlowModifies != 1 || s.FlowDeletes != 0 {
		t.Errorf("stats %+v", s)
	}
	cookies := map[uint64]int{}
	for _, f := range o.Flows(bridge) {
		cookies[f.Cookie]++
	}
	if diff := cmp.Diff(map[uint64]int{openflow.Cookie("a"): 1, openflow.Cookie("b"): 2}, cookies); diff != "" {
		t.Errorf("cookies (-want +got):\n%s", diff)
	}
	before := o.Dump(bridge)
	patch(flow.Change{Owner: "a", Set: parse(t, "table=0, priority=9,in_port=4 actions=group:4711"), Remove: []flow.Key{flows[0].Key()}})
	if err := target.Sync(deadline(t), "a"); !errors.Is(err, openflow.ErrRefused) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, o.Dump(bridge)); diff != "" {
		t.Errorf("a refused patch changed the switch:\n%s", diff)
	}
	stop()
	again, _ := start(t, o, time.Hour)
	if err := again.Patch(flow.Change{Owner: "a", Set: flows[:1]}, flow.Change{Owner: "b", Set: flows[1:]}); err != nil {
		t.Fatal(err)
	}
	again.Complete()
	syncAll(t, again)
	if s := again.Stats(); mods(s) != 0 {
		t.Errorf("a restart with nothing changed is not silent: %+v", s)
	}
}

// TestManyFlowsAreOneBundle: what is recorded together is sent together, however
// much it is.
func TestManyFlowsAreOneBundle(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target, stop := start(t, o, time.Hour)
	target.Complete()
	const n, clauses = 20000, 4000
	all := ^uint32(0)
	address := func(i uint32, class uint32) flow.Flow {
		return flow.Flow{
			Table: 60, Priority: 100, Match: flow.Match{flow.EthType(flow.EthTypeIPv4), flow.Reg(12, i, all)},
			Actions: []flow.Action{flow.SetReg(2, class, all)},
		}
	}
	// As many conjunctive matches as policy puts on one flow, and more.
	subject := flow.Flow{Table: 71, Priority: 100, Match: flow.Match{flow.Reg(6, 1, all)}}
	for i := range uint32(clauses) {
		subject.Actions = append(subject.Actions, flow.Conjunction{ID: i + 1, Clause: 1, N: 2})
	}
	addresses := flow.Change{Owner: "addresses"}
	for i := range uint32(n) {
		addresses.Set = append(addresses.Set, address(i, i%100+1))
	}
	subjects := flow.Change{Owner: "subjects", Set: []flow.Flow{subject}}
	syncAll(t, target)
	if err := target.Patch(addresses, subjects); err != nil {
		t.Fatal(err)
	}
	syncAll(t, target)
	if s := target.Stats(); s.Bundles != 1 || s.FlowAdds != n+1 {
		t.Errorf("stats %+v", s)
	}
	if err := target.Patch(flow.Change{Owner: "addresses", Set: []flow.Flow{address(5, 777)}, Remove: []flow.Key{address(6, 0).Key()}}); err != nil {
		t.Fatal(err)
	}
	syncAll(t, target, "addresses")
	if s := target.Stats(); s.Bundles != 2 || s.FlowModifies != 1 || s.FlowDeletes != 1 {
		t.Errorf("stats %+v", s)
	}
	stop()

	again, _ := start(t, o, time.Hour)
	addresses.Set[5] = address(5, 777)
	addresses.Set = append(addresses.Set[:6], addresses.Set[7:]...)
	if err := again.Patch(addresses, subjects); err != nil {
		t.Fatal(err)
	}
	again.Complete()
	syncAll(t, again)
	if s := again.Stats(); mods(s) != 0 {
		t.Errorf("a restart with nothing changed is not silent: %+v", s)
	}

	for len(subject.Actions) < 4079 {
		subject.Actions = append(subject.Actions, flow.Conjunction{ID: uint32(len(subject.Actions) + 1), Clause: 1, N: 2})
	}
	// The actions alone would fit.
	net := netip.MustParsePrefix("fd00::/64")
	subject.Match = append(subject.Match, flow.EthType(flow.EthTypeIPv6), flow.IPSrc(net), flow.IPDst(net),
		flow.Prefix(flow.FieldTunIPv6Src, net), flow.Prefix(flow.FieldTunIPv6Dst, net), flow.XXReg(3, [16]byte{1}))
	err := again.Patch(flow.Change{Owner: "subjects", Set: []flow.Flow{subject}})
	if err == nil || !strings.Contains(err.Error(), "do not fit a message") {
		t.Error("a flow that does not fit a message is taken")
	}
}

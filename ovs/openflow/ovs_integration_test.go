// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openflow_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

const bridge = "br-int"

func startOVS(t *testing.T) *ovstest.OVS {
	t.Helper()
	o := ovstest.StartOVS(t)
	o.AddBridge(bridge, ovstest.DatapathDummy)
	return o
}

// start runs a Target until the returned function is called.
func start(t *testing.T, o *ovstest.OVS, audit time.Duration) (*openflow.Target, func()) {
	t.Helper()
	target := openflow.New(openflow.Params{Socket: o.Socket(bridge), AuditInterval: audit, Learned: []uint8{63}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := target.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	stop := func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return target, stop
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func update(t *testing.T, target *openflow.Target, owner string, flows []flow.Flow, groups ...flow.Group) {
	t.Helper()
	if err := target.Update(owner, flows, groups); err != nil {
		t.Fatal(err)
	}
}

func syncAll(t *testing.T, target *openflow.Target, owners ...string) {
	t.Helper()
	if err := target.Sync(deadline(t), owners...); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what another goroutine or process does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx := deadline(t)
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited too long: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func parse(t *testing.T, lines ...string) []flow.Flow {
	t.Helper()
	var out []flow.Flow
	for _, s := range lines {
		f, err := flow.ParseFlow(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func dump(flows []flow.Flow) string {
	flow.Sort(flows)
	var b strings.Builder
	for _, f := range flows {
		f.Cookie = 0
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// mods is every flow and group mod that the switch took.
func mods(s openflow.Stats) uint64 {
	return s.FlowAdds + s.FlowModifies + s.FlowDeletes + s.GroupAdds + s.GroupModifies + s.GroupDeletes
}

var everyGroup = []flow.Group{
	{ID: 1, Type: flow.GroupAll, Buckets: []flow.Bucket{{Actions: []flow.Action{flow.Output{Port: 1}}}, {Actions: []flow.Action{flow.Resubmit{Table: 9}}}}},
	{ID: 2, Type: flow.GroupSelect, Buckets: []flow.Bucket{
		{Weight: 100, Actions: []flow.Action{flow.SetReg(1, 5, 0xff), flow.Resubmit{Table: 3}}},
		{Weight: 7, WatchPort: 1, Actions: []flow.Action{flow.CT{Commit: true, Table: 4, NAT: &flow.NAT{Kind: flow.NATDestination, AddrMin: netip.MustParseAddr("10.0.0.9"), PortMin: 80}}}},
	}},
	{ID: 3, Type: flow.GroupFastFailover, Buckets: []flow.Bucket{{WatchPort: 1, Actions: []flow.Action{flow.Output{Port: 1}}}}},
	{ID: 4, Type: flow.GroupIndirect, Buckets: []flow.Bucket{{Actions: []flow.Action{flow.DecTTL{}}}}},
}

func everyFlow(t *testing.T) []flow.Flow {
	return append(parse(t, openflow.Everything...), parse(t, "table=9, priority=1,ip actions=group:2")...)
}

func TestEverythingIsAdopted(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	flows := everyFlow(t)
	first, stop := start(t, o, time.Hour)
	update(t, first, "all", flows, everyGroup...)
	first.Complete()
	syncAll(t, first)
	if got, want := mods(first.Stats()), uint64(len(flows)+len(everyGroup)); got != want {
		t.Errorf("%d mods for %d flows and groups", got, want)
	}
	if diff := cmp.Diff(dump(flows), o.Dump(bridge)); diff != "" {
		t.Errorf("flows in the switch (-want +got):\n%s", diff)
	}
	stop()

	again, _ := start(t, o, 20*time.Millisecond)
	update(t, again, "all", everyFlow(t), everyGroup...)
	again.Complete()
	syncAll(t, again)
	eventually(t, "audits", func() bool { return again.Stats().Audits > 5 })
	s := again.Stats()
	if mods(s) != 0 || s.Bundles != 0 || s.Repairs != 0 {
		t.Errorf("a restart with nothing changed is not silent: %+v", s)
	}
}

func TestAdoptionKeepsLeftovers(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	o.Ofctl("add-flow", o.Socket(bridge), "table=5,priority=7,tcp,nw_ecn=1 actions=drop")
	o.Ofctl("add-group", o.Socket(bridge), "group_id=99,type=all,bucket=output:1")
	first, stop := start(t, o, time.Hour)
	update(t, first, "a", parse(t, "table=0, priority=1,in_port=1 actions=drop"))
	update(t, first, "b", parse(t, "table=0, priority=1,in_port=2 actions=drop"))
	syncAll(t, first)
	stop()

	second, _ := start(t, o, 20*time.Millisecond)
	update(t, second, "a", parse(t, "table=0, priority=1,in_port=1 actions=output:9"))
	syncAll(t, second)
	eventually(t, "audits", func() bool { return second.Stats().Audits > 3 })
	s := second.Stats()
	if s.FlowModifies != 1 || mods(s) != 1 || s.Repairs != 0 {
		t.Errorf("before Complete: %+v", s)
	}
	if n := strings.Count(o.Ofctl("dump-flows", o.Socket(bridge)), "actions="); n != 3 {
		t.Errorf("%d flows before Complete, want 3", n)
	}
	second.Complete()
	syncAll(t, second)
	eventually(t, "leftovers to go", func() bool { return mods(second.Stats()) == 4 })
	if diff := cmp.Diff("table=0, priority=1,in_port=1 actions=output:9\n", o.Dump(bridge)); diff != "" {
		t.Errorf("after Complete (-want +got):\n%s", diff)
	}
	if out := o.Ofctl("dump-groups", o.Socket(bridge)); strings.Contains(out, "group_id") {
		t.Errorf("group is left:\n%s", out)
	}
}

func TestBundleIsAtomic(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target, _ := start(t, o, time.Hour)
	target.Complete()
	update(t, target, "good", parse(t, "table=0, priority=1,in_port=1 actions=drop"))
	update(t, target, "bad", parse(t, "table=0, priority=1,in_port=2 actions=drop"))
	syncAll(t, target)
	for name, refused := range map[string]string{
		"when it is added":     "table=3, priority=9,in_port=4 actions=set_field:10.0.0.1->ip_dst",
		"when it is committed": "table=3, priority=9,in_port=4 actions=group:4711",
		"by the table":         "table=254, priority=9,in_port=4 actions=drop",
	} {
		before := o.Dump(bridge)
		update(t, target, "bad", parse(t,
			"table=0, priority=2,in_port=2 actions=drop",
			refused,
			"table=9, priority=2,in_port=2 actions=drop"))
		err := target.Sync(deadline(t), "bad")
		if !errors.Is(err, openflow.ErrRefused) || !strings.Contains(err.Error(), "of bad") || !strings.Contains(err.Error(), refused) {
			t.Errorf("%s: error %v does not name the flow", name, err)
		}
		if diff := cmp.Diff(before, o.Dump(bridge)); diff != "" {
			t.Errorf("%s: the switch was changed:\n%s", name, diff)
		}
	}
	// Others go on, and the owner recovers.
	update(t, target, "other", parse(t, "table=0, priority=1,in_port=3 actions=drop"))
	syncAll(t, target, "other")
	update(t, target, "bad", parse(t, "table=0, priority=3,in_port=2 actions=drop"))
	syncAll(t, target)
	want := "table=0, priority=3,in_port=2 actions=drop\ntable=0, priority=1,in_port=1 actions=drop\ntable=0, priority=1,in_port=3 actions=drop\n"
	if diff := cmp.Diff(want, o.Dump(bridge)); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
}

func TestOneOfManyOwnersIsRefused(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target := openflow.New(openflow.Params{Socket: o.Socket(bridge), AuditInterval: time.Hour})
	for i := range 20 {
		line := fmt.Sprintf("table=0, priority=1,in_port=%d actions=drop", i)
		if i == 7 || i == 13 {
			line = fmt.Sprintf("table=0, priority=1,in_port=%d actions=group:4711", i)
		}
		update(t, target, fmt.Sprintf("pod/%d", i), parse(t, line))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- target.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	for i := range 20 {
		err := target.Sync(deadline(t), fmt.Sprintf("pod/%d", i))
		if refused := i == 7 || i == 13; refused != errors.Is(err, openflow.ErrRefused) {
			t.Errorf("pod/%d: %v", i, err)
		}
	}
	if s := target.Stats(); s.FlowAdds != 18 || s.Bundles != 1 || s.Refused != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestSwitchRestarts(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target, _ := start(t, o, 50*time.Millisecond)
	flows := everyFlow(t)
	update(t, target, "all", flows, everyGroup...)
	target.Complete()
	syncAll(t, target)
	o.StopVswitchd()
	eventually(t, "the loss to be seen", func() bool { return target.Ready() != nil })
	update(t, target, "late", parse(t, "table=0, priority=9,in_port=1 actions=drop"))
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := target.Sync(short, "late"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Sync without a switch: %v", err)
	}
	o.StartVswitchd()
	syncAll(t, target)
	if out := o.Ofctl("get-frags", o.Socket(bridge)); !strings.Contains(out, "nx-match") {
		t.Errorf("fragment mode after the restart: %s", out)
	}
	want := dump(append(flows, parse(t, "table=0, priority=9,in_port=1 actions=drop")...))
	if diff := cmp.Diff(want, o.Dump(bridge)); diff != "" {
		t.Errorf("after the restart (-want +got):\n%s", diff)
	}
	if s := target.Stats(); s.Connects < 2 || s.Repairs != 0 {
		t.Errorf("stats %+v", s)
	}
	// A bridge that is made anew has lost its flows without a restart.
	o.Vsctl("del-br", bridge)
	eventually(t, "the loss to be seen", func() bool { return target.Ready() != nil })
	o.AddBridge(bridge, ovstest.DatapathDummy)
	if err := target.WaitReady(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, o.Dump(bridge)); diff != "" {
		t.Errorf("in the new bridge (-want +got):\n%s", diff)
	}
}

func TestAuditRepairs(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target, _ := start(t, o, 20*time.Millisecond)
	flows := everyFlow(t)
	update(t, target, "all", flows, everyGroup...)
	target.Complete()
	syncAll(t, target)
	want := dump(flows)
	var repairs uint64
	for _, tc := range []struct {
		name    string
		command []string
		at      uint64
	}{
		{"all flows deleted", []string{"del-flows", o.Socket(bridge)}, uint64(len(flows))},
		{"one deleted", []string{"del-flows", "--strict", o.Socket(bridge), "table=0,priority=10,in_port=3"}, 1},
		{"actions changed", []string{"mod-flows", "--strict", o.Socket(bridge), "table=0,priority=10,in_port=3 actions=drop"}, 1},
		{"one added", []string{"add-flow", o.Socket(bridge), "table=77,tcp,nw_ecn=1 actions=drop"}, 1},
		{"one with a timeout instead", []string{"add-flow", o.Socket(bridge), fmt.Sprintf("cookie=%#x,table=0,priority=10,in_port=3,idle_timeout=600 actions=goto_table:10", openflow.Cookie("all"))}, 1},
		{"cookie changed", []string{"add-flow", o.Socket(bridge), "cookie=5,table=0,priority=10,in_port=3 actions=goto_table:10"}, 1},
		{"group changed", []string{"mod-group", o.Socket(bridge), "group_id=1,type=all"}, 1},
		{"learn changed", []string{"mod-flows", "--strict", o.Socket(bridge), "table=26,priority=99,ip actions=learn(table=63,priority=0,load:NXM_NX_REG13[]->NXM_NX_REG13[])"}, 1},
		{"group deleted", []string{"del-groups", o.Socket(bridge), "group_id=2"}, 2},
	} {
		o.Ofctl(tc.command...)
		repairs += tc.at
		eventually(t, tc.name, func() bool { return target.Stats().Repairs >= repairs })
		eventually(t, tc.name, func() bool { return o.Dump(bridge) == want })
		if got := target.Stats().Repairs; got != repairs {
			t.Errorf("%s: %d repairs, want %d", tc.name, got, repairs)
			repairs = got
		}
	}
	audits := target.Stats().Audits
	eventually(t, "quiet", func() bool { return target.Stats().Audits > audits+3 })
	if got := target.Stats().Repairs; got != repairs {
		t.Errorf("%d repairs, want %d: a repair is not stable", got, repairs)
	}
	out := o.Ofctl("dump-groups", o.Socket(bridge))
	if n := strings.Count(out, "group_id="); n != len(everyGroup) {
		t.Errorf("%d groups, want %d:\n%s", n, len(everyGroup), out)
	}
}

func TestManyOwnersShareBundles(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target, _ := start(t, o, time.Hour)
	target.Complete()
	const pods, each = 100, 20
	var wg sync.WaitGroup
	for i := range pods {
		wg.Go(func() {
			owner := fmt.Sprintf("pod/%d", i)
			var flows []flow.Flow
			for j := range each {
				flows = append(flows, flow.Flow{
					Table: uint8(j), Priority: 1, Match: flow.Match{flow.InPort(uint32(i + 1))},
					Actions: []flow.Action{flow.SetReg(0, uint32(i), ^uint32(0)), flow.GotoTable{Table: uint8(j + 1)}},
				})
			}
			if err := target.Update(owner, flows, nil); err != nil {
				t.Error(err)
			}
			if err := target.Sync(deadline(t), owner); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := target.Stats()
	t.Logf("%d flows of %d owners in %d bundles", s.FlowAdds, s.Owners, s.Bundles)
	if s.FlowAdds != pods*each || s.Bundles > pods {
		t.Errorf("stats %+v", s)
	}
	if n := target.Prune(func(owner string) bool { return owner == "pod/3" }); n != pods-1 {
		t.Errorf("pruned %d", n)
	}
	syncAll(t, target)
	if n := len(o.Flows(bridge)); n != each {
		t.Errorf("%d flows are left, want %d", n, each)
	}
	if s := target.Stats(); s.Owners != 1 || s.FlowDeletes != (pods-1)*each {
		t.Errorf("stats %+v", s)
	}
}

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// simple is the flow table/priority with an output port.
func simple(table uint8, priority uint16, port uint32) flow.Flow {
	return flow.Flow{Table: table, Priority: priority, Actions: []flow.Action{flow.Output{Port: port}}}
}

// withTarget runs a Target on switches that connect hands out, in a bubble
// where time does not pass by itself.
func withTarget(t *testing.T, connect func() (ofswitch, error), body func(t *testing.T, target *Target), change ...func(*Params)) {
	synctest.Test(t, func(t *testing.T) {
		params := Params{AuditInterval: 5 * time.Second}
		for _, c := range change {
			c(&params)
		}
		target := New(params)
		target.dial = func(context.Context) (ofswitch, error) { return connect() }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- target.Run(ctx) }()
		body(t, target)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func mustUpdate(t *testing.T, target *Target, owner string, flows ...flow.Flow) {
	t.Helper()
	if err := target.Update(owner, flows, nil); err != nil {
		t.Fatal(err)
	}
}

func mustSync(t *testing.T, target *Target, owners ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := target.Sync(ctx, owners...); err != nil {
		t.Fatal(err)
	}
}

func wantLog(t *testing.T, m *memory, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, m.drain()); diff != "" {
		t.Errorf("%s: bundles (-want +got):\n%s", what, diff)
	}
}

func TestTargetSendsDifferences(t *testing.T) {
	m := newMemory(t)
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustUpdate(t, target, "a", simple(0, 1, 1), simple(0, 2, 1))
		mustUpdate(t, target, "b", simple(1, 1, 1))
		mustSync(t, target)
		m.drain()

		mustUpdate(t, target, "a", simple(0, 1, 1), simple(0, 2, 1))
		mustSync(t, target, "a")
		wantLog(t, m, "the same again")

		mustUpdate(t, target, "a", simple(0, 2, 9), simple(0, 3, 1))
		wantLog(t, m, "one of each", "add 0/3; delete 0/1; modify 0/2")

		target.Delete("b")
		target.Delete("nobody")
		mustSync(t, target, "b")
		wantLog(t, m, "delete", "delete 1/1")

		if n := target.Prune(func(string) bool { return true }); n != 0 {
			t.Errorf("pruned %d", n)
		}
		if n := target.Prune(func(string) bool { return false }); n != 1 {
			t.Errorf("pruned %d", n)
		}
		wantLog(t, m, "prune", "delete 0/2; delete 0/3")
		s := target.Stats()
		if s.Owners != 0 || s.Flows != 0 || s.FlowAdds != 4 || s.FlowModifies != 1 || s.FlowDeletes != 4 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestTargetMovesFlowsBetweenOwners(t *testing.T) {
	m := newMemory(t)
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustUpdate(t, target, "a", simple(0, 1, 1))
		mustSync(t, target)
		m.drain()
		err := target.Update("b", []flow.Flow{simple(0, 1, 2), simple(0, 2, 2)}, nil)
		var conflict *ConflictError
		if !errors.As(err, &conflict) || !errors.Is(err, ErrConflict) {
			t.Fatalf("error %v, want a conflict", err)
		}
		if diff := cmp.Diff(ConflictError{Owner: "b", Other: "a", Entry: "flow table=0, priority=1"}, *conflict); diff != "" {
			t.Error(diff)
		}
		wantLog(t, m, "after the conflict")
		target.Delete("a")
		mustUpdate(t, target, "b", simple(0, 1, 2), simple(0, 2, 2))
		mustSync(t, target)
		// Two calls: Run may send the deletion before the second.
		m.drain()
		got := map[uint16]uint64{}
		for k, f := range m.table {
			got[k.Priority] = f.Cookie
		}
		if diff := cmp.Diff(map[uint16]uint64{1: Cookie("b"), 2: Cookie("b")}, got); diff != "" {
			t.Errorf("cookies by priority (-want +got):\n%s", diff)
		}
	})
}

// TestTargetForgetsOwners: nodes come and go, and most have nothing in the
// switch at the end.
func TestTargetForgetsOwners(t *testing.T) {
	m := newMemory(t)
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustUpdate(t, target, "never had a flow")
		mustUpdate(t, target, "has none any more", simple(0, 1, 1))
		mustSync(t, target)
		mustUpdate(t, target, "has none any more")
		mustUpdate(t, target, "has one", simple(0, 2, 1))
		mustSync(t, target)
		for _, owner := range []string{"never had a flow", "has none any more", "has one"} {
			target.Delete(owner)
		}
		mustSync(t, target)
		synctest.Wait()
		target.mu.Lock()
		defer target.mu.Unlock()
		if len(target.owners)+len(target.cookies) != 0 {
			t.Errorf("still known: owners %v, cookies %v", target.owners, target.cookies)
		}
	})
}

func TestTargetRefusesInvalid(t *testing.T) {
	target := New(Params{})
	for _, tc := range []struct {
		flows  []flow.Flow
		groups []flow.Group
		want   string
	}{
		{[]flow.Flow{{Match: flow.Match{flow.IPProto(6)}}}, nil, "update x: flow table=0, priority=0,nw_proto=6 actions=drop: nw_proto needs a match on eth_type"},
		{[]flow.Flow{simple(0, 1, 1), simple(0, 1, 2)}, nil, "flow table=0, priority=1 is named twice"},
		{nil, []flow.Group{{ID: 1}, {ID: 1}}, "group 1 is named twice"},
		{nil, []flow.Group{{ID: 1, Type: flow.GroupIndirect}}, "an indirect group has one bucket"},
	} {
		if err := target.Update("x", tc.flows, tc.groups); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
	if s := target.Stats(); s.Owners != 0 || s.Flows != 0 {
		t.Errorf("something was recorded: %+v", s)
	}
}

func TestTargetAdopts(t *testing.T) {
	m := newMemory(t)
	for owner, f := range map[string]flow.Flow{"a": simple(0, 1, 1), "b": simple(0, 2, 1), "gone": simple(0, 3, 1)} {
		f.Cookie = Cookie(owner)
		m.table[f.Key()] = f
	}
	m.alien = []rawFlow{{table: 4, priority: 4, match: []byte{0, 1, 35 << 1, 2, 0, 2}}}
	m.groupsT[5] = flow.Group{ID: 5}
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		mustUpdate(t, target, "a", simple(0, 1, 1))
		mustSync(t, target)
		wantLog(t, m, "declared as it was")
		mustUpdate(t, target, "b", simple(0, 2, 7))
		wantLog(t, m, "declared otherwise", "modify 0/2")
		mustUpdate(t, target, "b")
		mustSync(t, target)
		time.Sleep(time.Minute)
		wantLog(t, m, "audits before Complete")
		target.Complete()
		wantLog(t, m, "Complete", "delete 0/2; delete 0/3; delete foreign; delete group 5")
		target.Complete()
		time.Sleep(time.Minute)
		wantLog(t, m, "audits after Complete")
		if s := target.Stats(); s.Repairs != 0 || s.Audits < 20 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestTargetLeavesRefusedOwnersOut(t *testing.T) {
	m := newMemory(t)
	refused := uint16(2)
	m.refuse = func(o op) error {
		if o.key.Priority == refused && o.kind == flowsAdd {
			return &entryError{op: o, err: &SwitchError{Type: 5, Code: 1}}
		}
		return nil
	}
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustUpdate(t, target, "bad", simple(0, 1, 1))
		mustSync(t, target)
		m.drain()
		mustUpdate(t, target, "bad", simple(0, 2, 1), simple(1, 2, 1))
		mustUpdate(t, target, "good", simple(0, 3, 1))
		mustSync(t, target, "good")
		err := target.Sync(t.Context(), "bad")
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "flow mod failed: table full") {
			t.Errorf("error %v", err)
		}
		wantLog(t, m, "the good one alone", "add 0/3")
		time.Sleep(20 * time.Second)
		wantLog(t, m, "too early to try again")
		m.change(func() { refused = 0 })
		time.Sleep(time.Minute)
		wantLog(t, m, "tried again", "add 0/2; add 1/2; delete 0/1")
		mustSync(t, target)
		if s := target.Stats(); s.Repairs != 0 || s.Refused == 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestTargetTriesOwnersAlone(t *testing.T) {
	m := newMemory(t)
	m.refuse = func(o op) error {
		if o.key.Priority == 2 && o.kind == flowsAdd {
			return &SwitchError{Type: 0xffff, Code: 2313}
		}
		return nil
	}
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		mustSync(t, target)
		mustUpdate(t, target, "a", simple(0, 1, 1))
		mustUpdate(t, target, "b", simple(0, 2, 1))
		mustUpdate(t, target, "c", simple(0, 3, 1))
		mustSync(t, target, "a", "c")
		if err := target.Sync(t.Context(), "b"); !errors.Is(err, ErrRefused) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTargetReconnects(t *testing.T) {
	var current *memory
	var dials int
	connect := func() (ofswitch, error) {
		if dials++; dials%3 != 0 {
			return nil, errors.New("no such socket")
		}
		current = newMemory(t)
		return current.dial()
	}
	synctestSleep := func() { time.Sleep(10 * time.Second); synctest.Wait() }
	withTarget(t, connect, func(t *testing.T, target *Target) {
		mustUpdate(t, target, "a", simple(0, 1, 1), simple(0, 2, 1))
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := target.Sync(short, "a")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no such socket") {
			t.Errorf("error %v says neither what nor why", err)
		}
		if err := target.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantLog(t, current, "first", "add 0/1; add 0/2")
		close(current.gone)
		synctest.Wait()
		if err := target.Ready(); !errors.Is(err, io.EOF) {
			t.Errorf("Ready: %v", err)
		}
		target.Delete("a")
		mustUpdate(t, target, "b", simple(0, 3, 1))
		synctestSleep()
		wantLog(t, current, "after the reconnect", "add 0/3")
		mustSync(t, target)
		if s := target.Stats(); s.Connects != 2 || !s.Connected || !s.InSync {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestTargetGroups(t *testing.T) {
	m := newMemory(t)
	group := func(id uint32, port uint32) flow.Group {
		return flow.Group{ID: id, Buckets: []flow.Bucket{{Actions: []flow.Action{flow.Output{Port: port}}}}}
	}
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		for _, step := range []struct {
			groups []flow.Group
			want   []string
		}{
			{[]flow.Group{group(1, 1), group(2, 1)}, []string{"add group 1; add group 2"}},
			{[]flow.Group{group(1, 1), group(2, 5)}, []string{"modify group 2"}},
			{[]flow.Group{group(2, 5)}, []string{"delete group 1"}},
			{[]flow.Group{group(2, 5)}, nil},
		} {
			if err := target.Update("svc", nil, step.groups); err != nil {
				t.Fatal(err)
			}
			mustSync(t, target)
			wantLog(t, m, "groups", step.want...)
		}
		if err := target.Update("other", nil, []flow.Group{group(2, 5)}); !errors.Is(err, ErrConflict) {
			t.Errorf("error %v, want a conflict", err)
		}
		m.change(func() { m.groupsT[2] = group(2, 6); m.groupsT[9] = group(9, 9) })
		time.Sleep(time.Minute)
		wantLog(t, m, "drift", "delete group 9; modify group 2")
		if s := target.Stats(); s.Repairs != 2 || s.GroupAdds != 2 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestMirrorReadsWhatChanged: only groups that are reported differently are taken
// apart again.
func TestMirrorReadsWhatChanged(t *testing.T) {
	raw := func(id uint32, port uint32) rawGroup {
		b, err := encodeBuckets(flow.Group{ID: id, Buckets: []flow.Bucket{{Actions: []flow.Action{flow.Output{Port: port}}}}})
		if err != nil {
			t.Fatal(err)
		}
		return rawGroup{id: id, buckets: b}
	}
	unknown := rawGroup{id: 3, buckets: []byte{1}}
	before := newMirror(nil, []rawGroup{raw(1, 1), raw(2, 1), unknown, raw(4, 1)}, nil)
	now := []rawGroup{raw(1, 1), raw(2, 2), unknown, raw(5, 1)}
	fresh := newMirror(nil, now, nil)
	before.groups[1]++ // what was sent since does not matter
	if diff := cmp.Diff(fresh.groups, newMirror(nil, now, before).groups); diff != "" {
		t.Errorf("(-fresh +again):\n%s", diff)
	}
	if fresh.groups[3] != 0 || len(fresh.read) != 4 {
		t.Errorf("groups %v, read %v", fresh.groups, fresh.read)
	}
	for id, g := range before.read {
		before.read[id] = readGroup{hash: g.hash, sum: 42}
	}
	again := newMirror(nil, now, before)
	want := map[uint32]uint64{1: 42, 2: fresh.groups[2], 3: 42, 5: fresh.groups[5]}
	if diff := cmp.Diff(want, again.groups); diff != "" {
		t.Errorf("taken apart again (-want +got):\n%s", diff)
	}
}

func TestBundleOrder(t *testing.T) {
	target := New(Params{})
	target.Complete()
	if err := target.Update("a", []flow.Flow{simple(0, 1, 1), simple(0, 2, 1)}, []flow.Group{{ID: 1}, {ID: 2}}); err != nil {
		t.Fatal(err)
	}
	have := newMirror(nil, []rawGroup{{id: 2, kind: 1}, {id: 3}}, nil)
	f := simple(0, 2, 7)
	have.flows[f.Key()] = present{}
	g := simple(0, 9, 7)
	have.flows[g.Key()] = present{}
	var kinds []opKind
	for _, o := range target.take(have).ops {
		kinds = append(kinds, o.kind)
	}
	if diff := cmp.Diff([]opKind{groupAdd, groupModify, flowsDelete, flowsAdd, flowsModify, groupDelete}, kinds); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

func mustPatch(t *testing.T, target *Target, changes ...flow.Change) {
	t.Helper()
	if err := target.Patch(changes...); err != nil {
		t.Fatal(err)
	}
}

func set(owner string, flows ...flow.Flow) flow.Change {
	return flow.Change{Owner: owner, Set: flows}
}

func remove(owner string, flows ...flow.Flow) flow.Change {
	c := flow.Change{Owner: owner}
	for _, f := range flows {
		c.Remove = append(c.Remove, f.Key())
	}
	return c
}

func TestPatchSendsDifferences(t *testing.T) {
	m := newMemory(t)
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustSync(t, target)
		mustPatch(t, target, set("a", simple(0, 1, 1), simple(0, 2, 1)), set("b", simple(1, 1, 1)))
		mustSync(t, target, "a", "b")
		wantLog(t, m, "two owners", "add 0/1; add 0/2; add 1/1")

		mustPatch(t, target, set("a", simple(0, 1, 1)), remove("b", simple(7, 7, 7)))
		wantLog(t, m, "nothing new")

		mustPatch(t, target, set("a", simple(0, 3, 1), simple(0, 2, 5)), remove("a", simple(0, 1, 1)))
		wantLog(t, m, "one of each", "add 0/3; delete 0/1; modify 0/2")

		mustPatch(t, target, set("b", simple(0, 2, 5)), remove("a", simple(0, 2, 1)))
		mustSync(t, target, "a", "b")
		wantLog(t, m, "moved, with another cookie", "modify 0/2")
		if got, want := m.table[simple(0, 2, 1).Key()].Cookie, Cookie("b"); got != want {
			t.Errorf("cookie %#x, want %#x", got, want)
		}

		mustUpdate(t, target, "a", simple(0, 4, 1))
		wantLog(t, m, "Update replaces all", "add 0/4; delete 0/3")
		target.Delete("b")
		mustSync(t, target, "b")
		wantLog(t, m, "Delete takes all", "delete 0/2; delete 1/1")
		mustPatch(t, target, set("b", simple(1, 1, 1)))
		wantLog(t, m, "after Delete", "add 1/1")
	})
}

func TestPatchIsSentTogether(t *testing.T) {
	target := New(Params{})
	target.Complete()
	mustPatch(t, target, set("a", simple(0, 1, 1)), set("b", simple(0, 2, 1)))
	mustUpdate(t, target, "c", simple(0, 3, 1))
	if got := len(target.take(newMirror(nil, nil, nil)).ops); got != 3 {
		t.Errorf("%d operations in the bundle, want 3", got)
	}
}

func TestPatchRefusesInvalid(t *testing.T) {
	target := New(Params{})
	mustPatch(t, target, set("a", simple(0, 1, 1)))
	before := target.Stats()
	for _, tc := range []struct {
		name    string
		changes []flow.Change
		want    string
	}{
		{"other's flow", []flow.Change{set("b", simple(0, 2, 1)), set("b", simple(0, 1, 1))}, "b wants flow table=0, priority=1, which a has declared"},
		{"remove other's flow", []flow.Change{set("b", simple(0, 2, 1)), remove("b", simple(0, 1, 1))}, "which a has declared"},
		{"set twice", []flow.Change{set("b", simple(0, 2, 1)), set("c", simple(0, 2, 1))}, "named twice"},
		{"set and removed", []flow.Change{set("b", simple(0, 2, 1)), remove("b", simple(0, 2, 1))}, "both set and removed"},
		{"invalid", []flow.Change{set("b", simple(0, 2, 1)), set("c", flow.Flow{Match: flow.Match{flow.IPProto(6)}})}, "needs a match"},
	} {
		err := target.Patch(tc.changes...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
		var conflict *ConflictError
		if strings.Contains(tc.want, "declared") != errors.As(err, &conflict) {
			t.Errorf("%s: error %v is not of its kind", tc.name, err)
		}
		if diff := cmp.Diff(before, target.Stats()); diff != "" {
			t.Errorf("%s: something was recorded:\n%s", tc.name, diff)
		}
	}
}

// TestPatchRefusedBySwitch: the owner keeps what it had, the others get theirs,
// and the owner's change is tried again.
func TestPatchRefusedBySwitch(t *testing.T) {
	m := newMemory(t)
	refused := uint16(2)
	m.refuse = func(o op) error {
		if o.kind == flowsAdd && o.key.Priority == refused {
			return &entryError{op: o, err: &SwitchError{Type: 5, Code: 1}}
		}
		return nil
	}
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustPatch(t, target, set("bad", simple(0, 1, 1), simple(0, 9, 1)), set("good", simple(1, 1, 1)))
		mustSync(t, target)
		m.drain()
		mustPatch(t, target,
			flow.Change{Owner: "bad", Set: []flow.Flow{simple(0, 2, 1), simple(1, 2, 1)}, Remove: []flow.Key{simple(0, 1, 1).Key()}},
			set("good", simple(1, 3, 1)))
		mustSync(t, target, "good")
		if err := target.Sync(t.Context(), "bad"); !errors.Is(err, ErrRefused) {
			t.Errorf("error %v", err)
		}
		wantLog(t, m, "the good one alone", "add 1/3")
		if _, ok := m.table[simple(0, 1, 1).Key()]; !ok {
			t.Error("the refused owner has lost its flow")
		}
		m.change(func() { refused = 0 })
		time.Sleep(time.Minute)
		wantLog(t, m, "tried again", "add 0/2; add 1/2; delete 0/1")
		mustSync(t, target)

		m.change(func() { refused = 5 })
		mustPatch(t, target, set("bad", simple(0, 5, 1)))
		synctest.Wait()
		mustPatch(t, target, remove("bad", simple(0, 5, 1)))
		mustSync(t, target)
		wantLog(t, m, "taken back before it was tried again")
	})
}

// TestPatchAdopts: before Complete nothing is deleted, but all is recorded.
func TestPatchAdopts(t *testing.T) {
	m := newMemory(t)
	for owner, f := range map[string]flow.Flow{"a": simple(0, 1, 1), "b": simple(0, 2, 1)} {
		f.Cookie = Cookie(owner)
		m.table[f.Key()] = f
	}
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		mustPatch(t, target, set("a", simple(0, 1, 1)), set("b", simple(0, 2, 1)))
		mustSync(t, target)
		wantLog(t, m, "declared as it was")
		mustPatch(t, target, remove("a", simple(0, 1, 1)), set("b", simple(0, 3, 1)))
		mustSync(t, target)
		wantLog(t, m, "before Complete", "add 0/3")
		target.Complete()
		wantLog(t, m, "Complete", "delete 0/1")
		if n := target.Prune(func(owner string) bool { return owner == "a" }); n != 1 {
			t.Errorf("pruned %d", n)
		}
		wantLog(t, m, "prune", "delete 0/2; delete 0/3")
	})
}

// TestPatchAndUpdateAgree makes random changes and compares the switch with
// what was wanted.
func TestPatchAndUpdateAgree(t *testing.T) {
	m := newMemory(t)
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		r := rand.New(rand.NewPCG(3, 4))
		want := map[flow.Key]string{}
		for round := range 400 {
			next := maps.Clone(want)
			var err error
			if owner := fmt.Sprint(r.IntN(4)); r.IntN(5) == 0 {
				var flows []flow.Flow
				maps.DeleteFunc(next, func(_ flow.Key, o string) bool { return o == owner })
				for range r.IntN(6) {
					f := simple(0, uint16(r.IntN(20)), uint32(r.IntN(3)))
					if next[f.Key()] == "" {
						next[f.Key()] = owner
						flows = append(flows, f)
					}
				}
				err = target.Update(owner, flows, nil)
			} else {
				changes := map[string]*flow.Change{}
				of := func(owner string) *flow.Change {
					if changes[owner] == nil {
						changes[owner] = &flow.Change{Owner: owner}
					}
					return changes[owner]
				}
				for _, p := range r.Perm(20)[:r.IntN(6)] {
					f := simple(0, uint16(p), uint32(r.IntN(3)))
					had, to := next[f.Key()], fmt.Sprint(r.IntN(5))
					if had != "" && (to == "4" || had != to) {
						of(had).Remove = append(of(had).Remove, f.Key())
						delete(next, f.Key())
					}
					if to != "4" {
						of(to).Set = append(of(to).Set, f)
						next[f.Key()] = to
					}
				}
				var list []flow.Change
				for _, c := range changes {
					list = append(list, *c)
				}
				err = target.Patch(list...)
			}
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			want = next
			synctest.Wait()
			got := map[flow.Key]string{}
			for k, f := range m.table {
				got[k] = target.cookies[f.Cookie]
			}
			if !maps.Equal(want, got) {
				t.Fatalf("round %d: the switch has %v, want %v", round, got, want)
			}
		}
		if s := target.Stats(); s.Repairs != 0 || s.Flows != len(want) {
			t.Errorf("stats %+v for %d flows", s, len(want))
		}
		owners := slices.Collect(maps.Keys(target.owners))
		for _, owner := range owners {
			target.Delete(owner)
		}
		mustSync(t, target)
		if len(m.table) != 0 {
			t.Errorf("left over: %v", m.table)
		}
	})
}

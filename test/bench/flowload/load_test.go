// SPDX-License-Identifier: Apache-2.0

package flowload

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/policy/flows"
)

// applied is a set of flows by owner that patches change.
type applied map[flow.Key]string

func (a applied) patch(t *testing.T, p flows.Patch) {
	t.Helper()
	for _, c := range p.Changes {
		for _, k := range c.Remove {
			if a[k] != c.Owner {
				t.Fatalf("%s removes what it does not have: %s", c.Owner, k)
			}
			delete(a, k)
		}
		for _, f := range c.Set {
			a[f.Key()] = c.Owner
		}
	}
}

func TestLoad(t *testing.T) {
	for _, size := range []Load{100, 1000, 20000} {
		e, have := flows.New(flows.Params{}), applied{}
		install := e.Apply(size.Install())
		have.patch(t, install)
		if got := e.RuleCount(); got != int(size) {
			t.Errorf("%d: %d rules", size, got)
		}
		addresses := 0
		for _, owner := range have {
			if owner == flows.OwnerAddresses {
				addresses++
			}
		}
		if addresses != int(size) {
			t.Errorf("%d: %d addresses", size, addresses)
		}
		if got := Size(install); got != len(have) || got < 2*int(size) {
			t.Errorf("%d: a patch of %d, %d flows", size, got, len(have))
		}
		for n := range 3 {
			more := e.Apply(size.OneMore(n))
			if got := Size(more); got != 1 {
				t.Errorf("%d: one address more is %d flows", size, got)
			}
			have.patch(t, more)
		}
		have.patch(t, e.Apply(size.Remove()))
		if len(have) != 0 || e.RuleCount() != 0 {
			t.Errorf("%d: %d flows and %d rules stay", size, len(have), e.RuleCount())
		}
	}
}

func TestBundle(t *testing.T) {
	patch := flows.Patch{Changes: []flow.Change{{
		Owner: "o",
		Set: []flow.Flow{{
			Table: 3, Priority: 7, Match: flow.Match{flow.InPort(1)}, Actions: []flow.Action{flow.Output{Port: 2}},
		}},
		Remove: []flow.Key{(flow.Flow{Table: 4, Priority: 8, Match: flow.Match{flow.InPort(5)}}).Key(), (flow.Flow{}).Key()},
	}}}
	want := "add cookie=COOKIE, table=3, priority=7,in_port=1 actions=output:2\n" +
		"delete_strict table=4, priority=8,in_port=5\ndelete_strict table=0, priority=0\n"
	cookie := flow.Flow{Cookie: openflow.Cookie("o")}.String()
	cookie, _, _ = strings.Cut(strings.TrimPrefix(cookie, "cookie="), ",")
	if diff := cmp.Diff(strings.Replace(want, "COOKIE", cookie, 1), string(Bundle(patch))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Size(patch); got != 3 {
		t.Errorf("size %d, want 3", got)
	}
}

func TestString(t *testing.T) {
	for load, want := range map[Load]string{0: "0", 100: "100", 1000: "1,000", 10000: "10,000", 100050: "100,050", 1234567: "1,234,567"} {
		if got := load.String(); got != want {
			t.Errorf("%d is %q, want %q", int(load), got, want)
		}
	}
}

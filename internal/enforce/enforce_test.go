// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStateAndInterfaces(t *testing.T) {
	other := local(0)
	other.UID = "uid-of-another"
	untold := local(0)
	untold.UID = ""
	moved := local(0)
	moved.Port = 30
	for name, tc := range map[string]struct {
		do   func(w *world)
		port uint32
		want string
		held int
	}{
		"no State":          {func(w *world) { w.attach(0, local(0)) }, 10, everybody, 0},
		"State, interface":  {func(w *world) { w.apply(state(0)); w.attach(0, local(0)) }, 10, allowed, 0},
		"interface, State":  {func(w *world) { w.attach(0, local(0)); w.apply(state(0)) }, 10, allowed, 0},
		"no policy":         {func(w *world) { w.attach(0, local(0)); w.apply(&policy.Update{}) }, 10, held, 1},
		"unknown Pod":       {func(w *world) { w.apply(state(1)); w.attach(0, local(0)) }, 10, held, 1},
		"unknown, known":    {func(w *world) { w.apply(state(1)); w.attach(0, local(0)); w.apply(state(0)) }, 10, allowed, 0},
		"gone Pod":          {func(w *world) { w.apply(state(0)); w.attach(0, local(0)); w.apply(gone(0)) }, 10, held, 1},
		"another UID":       {func(w *world) { w.apply(state(0)); w.attach(0, other) }, 10, held, 1},
		"UID not told":      {func(w *world) { w.apply(state(0)); w.attach(0, untold) }, 10, allowed, 0},
		"recreated":         {func(w *world) { w.apply(state(0)); w.attach(0, other); w.attach(0, local(0)) }, 10, allowed, 0},
		"renumbered":        {func(w *world) { w.apply(state(0)); w.attach(0, local(0)); w.attach(0, moved) }, 30, allowed, 0},
		"renumbered before": {func(w *world) { w.attach(0, local(0)); w.attach(0, moved); w.apply(state(0)) }, 30, allowed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.do(w)
			w.wantReach(0, tc.port, tc.want)
			if got := w.Totals().Held; got != tc.held {
				t.Errorf("%d Pods are held, want %d", got, tc.held)
			}
			for _, owner := range w.sw.Owners() {
				if rest, port := strings.CutPrefix(owner, flows.OwnerPrefix+"port/"); port && rest != fmt.Sprint(tc.port) {
					t.Errorf("flows of port %s are left", rest)
				}
			}
		})
	}
}

func gone(n int) *policy.Update { return &policy.Update{GonePods: []policy.PodKey{local(n).Pod}} }

func TestChanged(t *testing.T) {
	w := newWorld(t)
	if w.Known() {
		t.Error("a State is known before there was an Update")
	}
	w.apply(&policy.Update{})
	if !w.Known() || w.changed != 1 {
		t.Errorf("after the first Update: known %v, %d calls of Changed", w.Known(), w.changed)
	}
	w.apply(state(0))
	if w.changed != 1 {
		t.Errorf("Changed was called again")
	}
}

func TestDetach(t *testing.T) {
	w := newWorld(t)
	w.attach(0, local(0))
	if err := w.Detach(local(0).Name); err != nil {
		t.Fatal(err)
	}
	w.sw.Delete(pipeline.OwnerPod(local(0).Name))
	w.apply(state(0, 1))
	w.attach(1, local(1))
	before := w.sw.Dump()
	w.attach(0, local(0))
	for _, name := range []string{local(0).Name, local(0).Name, "never"} {
		if err := w.Detach(name); err != nil {
			t.Errorf("detach %s: %v", name, err)
		}
	}
	w.sw.Delete(pipeline.OwnerPod(local(0).Name))
	if d := cmp.Diff(before, w.sw.Dump()); d != "" {
		t.Errorf("an interface leaves flows (-before +after):\n%s", d)
	}
}

// TestRefusedPatch: the engine takes the switch for another than it is.
func TestRefusedPatch(t *testing.T) {
	refused := errors.New("the switch does not want it")
	for name, tc := range map[string]struct {
		change func(w *world) error
	}{
		"State": {func(w *world) error {
			return w.Apply(w.t.Context(), &policy.Update{GonePolicies: []policy.Key{state().Policies[0].Key}})
		}},
		"attach": {func(w *world) error { _, err := w.Attach(local(1)); return err }},
		"detach": {func(w *world) error { return w.Detach(local(0).Name) }},
	} {
		t.Run(name, func(t *testing.T) {
			w, fine := newWorld(t), newWorld(t)
			for _, x := range []*world{w, fine} {
				x.apply(state(0, 1))
				x.attach(0, local(0))
				if err := x.Configure(config.Default().NetworkPolicy); err != nil {
					t.Fatal(err)
				}
			}
			w.sw.refuse = refused
			if err := tc.change(w); !errors.Is(err, refused) {
				t.Errorf("error %v, want that of the switch", err)
			}
			if err := tc.change(fine); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(fine.sw.Dump(), w.sw.Dump()); d != "" {
				t.Errorf("flows (-want +got):\n%s", d)
			}
			again := state(0, 1)
			for _, x := range []*world{w, fine} {
				x.apply(again)
			}
			if d := cmp.Diff(fine.sw.Dump(), w.sw.Dump()); d != "" {
				t.Errorf("flows after the next change (-want +got):\n%s", d)
			}
		})
	}
}

func TestApplyWaitsForTheSwitch(t *testing.T) {
	w := newWorld(t)
	lost := errors.New("connection lost")
	w.sw.Fail(lost)
	if err := w.Apply(t.Context(), state(0)); !errors.Is(err, lost) {
		t.Errorf("error %v, want that of the switch", err)
	}
	w.sw.Fail(nil)
	w.attach(0, local(0)) // which brings what failed
	w.wantReach(0, 10, allowed)
}

func TestConfigure(t *testing.T) {
	w := newWorld(t)
	w.apply(state(0))
	w.attach(0, local(0))
	if slices.Contains(w.sw.Owners(), flows.OwnerDenied) {
		t.Error("what becomes of denied packets is declared before it is known")
	}
	rest := w.others()
	settings := config.Default().NetworkPolicy
	quiet, logged := flows.Denied{Meter: DeniedMeter().ID}.Flows(), flows.Denied{Log: true, Meter: DeniedMeter().ID}.Flows()
	for i, step := range []struct {
		change func(s *config.NetworkPolicy)
		want   []flow.Flow
	}{
		{func(*config.NetworkPolicy) {}, quiet},
		{func(s *config.NetworkPolicy) { s.LogDenied = true }, logged},
		{func(s *config.NetworkPolicy) { s.PodTimeout++ }, logged},
		{func(s *config.NetworkPolicy) { s.LogDenied = false }, quiet},
	} {
		step.change(&settings)
		for range 2 { // what is said twice changes nothing
			w.sw.updates = nil
			if err := w.Configure(settings); err != nil {
				t.Fatal(err)
			}
		}
		if len(w.sw.updates) > 0 {
			t.Errorf("step %d: the same again updates %v", i, w.sw.updates)
		}
		var got []flow.Flow
		for _, f := range w.sw.Flows() {
			if f.Table == pipeline.TableDenied && len(f.Actions) > 0 {
				got = append(got, f)
			}
		}
		flow.Sort(step.want)
		if d := cmp.Diff(fmt.Sprint(step.want), fmt.Sprint(got)); d != "" {
			t.Errorf("step %d: denied packets (-want +got):\n%s", i, d)
		}
		if d := cmp.Diff(rest, w.others()); d != "" {
			t.Errorf("step %d: other flows changed (-before +after):\n%s", i, d)
		}
		if got := w.current(); got != settings {
			t.Errorf("step %d: settings %+v, want %+v", i, got, settings)
		}
	}
	lost := errors.New("connection lost")
	settings.LogDenied = true
	w.sw.Fail(lost)
	if err := w.Configure(settings); !errors.Is(err, lost) {
		t.Errorf("error %v, want that of the switch", err)
	}
	w.sw.Fail(nil)
	if err := w.Configure(settings); err != nil || !slices.Contains(w.sw.updates, flows.OwnerDenied) {
		t.Errorf("what failed is not tried again: %v", err)
	}
}

// others are the flows outside of table Denied.
func (w *world) others() []string {
	var out []string
	for _, f := range w.sw.Flows() {
		if f.Table != pipeline.TableDenied {
			out = append(out, f.String())
		}
	}
	return out
}

func TestReport(t *testing.T) {
	w := newWorld(t)
	w.sw.packets = 7
	got, err := w.Report(t.Context())
	if d := cmp.Diff(Report{}, got); d != "" || err != nil {
		t.Errorf("%v, report before there is a State (-want +got):\n%s", err, d)
	}
	w.apply(state(0))
	for n := range 2 {
		w.attach(n, local(n))
	}
	got, err = w.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !got.Known || len(got.Rules) != 1 || len(got.Pods) != 2 {
		t.Fatalf("report %+v, want a rule and two Pods", got)
	}
	if d := cmp.Diff(flows.RuleCount{Packets: 14, Bytes: 1400, Sessions: 7}, got.Rules[0].RuleCount); d != "" {
		t.Errorf("rule (-want +got):\n%s", d)
	}
	denied := flows.DeniedCount{Packets: 7, Bytes: 700}
	want := []PodReport{
		{
			PodStatus: flows.PodStatus{LocalPod: local(0).local(), Isolated: [policy.Directions]bool{policy.Ingress: true}},
			Denied:    [policy.Directions]flows.DeniedCount{policy.Ingress: denied},
		},
		{
			PodStatus: flows.PodStatus{LocalPod: local(1).local(), Held: true},
			Denied:    [policy.Directions]flows.DeniedCount{denied, denied},
		},
	}
	if d := cmp.Diff(want, got.Pods); d != "" {
		t.Errorf("Pods (-want +got):\n%s", d)
	}
}

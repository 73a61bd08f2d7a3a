// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
)

// fakeLearned is what a switch has learned.
type fakeLearned struct {
	flows []openflow.LearnedFlow
	reads int
}

func (f *fakeLearned) LearnedFlows(context.Context, uint8) ([]openflow.LearnedFlow, error) {
	f.reads++
	return f.flows, nil
}

func (f *fakeLearned) RemoveLearned(_ context.Context, _ uint8, matches []flow.Match) error {
	f.flows = slices.DeleteFunc(f.flows, func(l openflow.LearnedFlow) bool {
		return slices.ContainsFunc(matches, func(m flow.Match) bool { return m.String() == l.Match.String() })
	})
	return nil
}

func TestAffinityBeyondTheSwitch(t *testing.T) {
	learned := func(set uint32, client, packets uint64, idle uint16) openflow.LearnedFlow {
		f := openflow.LearnedFlow{IdleTimeout: idle, Packets: packets}
		f.Match = flow.Match{flow.Reg(12, set, 0xffffffff), flow.Uint(flow.FieldMetadata, client)}
		return f
	}
	sw := &fakeLearned{}
	timeouts := map[uint32]time.Duration{}
	a := newAffinity(sw, func() map[uint32]time.Duration { return timeouts })
	now := time.Unix(0, 0)
	a.now = func() time.Time { return now }
	step := func(what string, after time.Duration, want ...uint64) {
		t.Helper()
		now = now.Add(after)
		if err := a.reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, f := range sw.flows {
			m, _ := f.Match.Get(flow.FieldMetadata)
			got = append(got, uint64(m.Value[7]))
		}
		if d := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); d != "" {
			t.Errorf("%s: -want +got: %s", what, d)
		}
	}
	const long = 86400 * time.Second
	sw.flows = []openflow.LearnedFlow{learned(5, 1, 1, 0), learned(5, 2, 1, 0), learned(6, 3, 1, 100)}
	step("nobody wants that", 0, 1, 2, 3)
	if sw.reads != 0 {
		t.Error("the switch was asked for nothing")
	}
	timeouts[5] = long
	step("first look", 0, 1, 2, 3)
	sw.flows[1].Packets++
	step("a client comes again", long-time.Second, 1, 2, 3)
	step("the other one's time is over", time.Second, 2, 3)
	step("its own as well", long, 3)
	sw.flows = append(sw.flows, learned(5, 4, 1, 0))
	step("one more", 0, 3, 4)
	delete(timeouts, 5)
	step("the Service has another timeout", 0, 3)
	reads := sw.reads
	step("nothing to look after", 0, 3)
	if sw.reads != reads {
		t.Error("the switch was asked for nothing")
	}
}

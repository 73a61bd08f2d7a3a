// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// TestAuditPause: audits of a switch with very many flows take a small part of the
// time; however long one took, the next is not far.
func TestAuditPause(t *testing.T) {
	for _, tt := range []struct{ took, want, asked time.Duration }{
		{time.Millisecond, 5 * time.Second, 100 * time.Millisecond},
		{250 * time.Millisecond, 5 * time.Second, time.Second},
		{500 * time.Millisecond, 10 * time.Second, 2 * time.Second},
		{12 * time.Second, 15 * time.Second, 5 * time.Second},
	} {
		if got := auditPause(5*time.Second, tt.took, false); got != tt.want {
			t.Errorf("after an audit of %v the next is in %v, want %v", tt.took, got, tt.want)
		}
		if got := auditPause(5*time.Second, tt.took, true); got != tt.asked {
			t.Errorf("after an audit of %v one that is asked for is in %v, want %v", tt.took, got, tt.asked)
		}
	}
}

// TestAuditWhenOthersChange: what others change is repaired when the switch says
// so, but not all the time.
func TestAuditWhenOthersChange(t *testing.T) {
	m := newMemory(t)
	var repairs []Repair
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustUpdate(t, target, "a", simple(0, 1, 1))
		mustSync(t, target)
		m.drain()
		time.Sleep(time.Second)
		remove := func() {
			m.change(func() { delete(m.table, flow.Key{Table: 0, Priority: 1}) })
			m.told <- struct{}{}
		}
		remove()
		wantLog(t, m, "at once", "add 0/1")
		remove()
		wantLog(t, m, "too soon")
		time.Sleep(minAuditPause)
		wantLog(t, m, "soon", "add 0/1")
		time.Sleep(59 * time.Second)
		if s := target.Stats(); s.Repairs != 2 || s.Audits != 2+11 {
			t.Errorf("stats %+v", s)
		}
		if diff := cmp.Diff([]Repair{{Flows: 1}, {Flows: 1, Wrong: minAuditPause}}, repairs); diff != "" {
			t.Errorf("repairs (-want +got):\n%s", diff)
		}
	}, func(p *Params) { p.Repaired = func(r Repair) { repairs = append(repairs, r) } })
}

// TestAuditAfterSlowOne: a switch that once answered late is repaired as soon as
// any other.
func TestAuditAfterSlowOne(t *testing.T) {
	m := newMemory(t)
	withTarget(t, m.dial, func(t *testing.T, target *Target) {
		target.Complete()
		mustUpdate(t, target, "a", simple(0, 1, 1))
		mustSync(t, target)
		m.change(func() { m.slow = 20 * time.Second })
		time.Sleep(10 * time.Second)
		m.change(func() { m.slow = 0 })
		time.Sleep(16 * time.Second)
		if s := target.Stats(); s.Audits != 1 {
			t.Fatalf("%d audits, want the slow one", s.Audits)
		}
		m.change(func() { delete(m.table, flow.Key{Table: 0, Priority: 1}) })
		m.drain()
		time.Sleep(maxAuditPause)
		wantLog(t, m, "repaired", "add 0/1")
	})
}

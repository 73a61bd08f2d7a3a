// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"testing"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// TestAuditPause: audits of a switch with very many flows take a small part of the
// time; however long one took, the next is not far.
func TestAuditPause(t *testing.T) {
	for _, tt := range []struct{ took, want time.Duration }{
		{time.Millisecond, 5 * time.Second},
		{250 * time.Millisecond, 5 * time.Second},
		{500 * time.Millisecond, 10 * time.Second},
		{12 * time.Second, 15 * time.Second},
	} {
		if got := auditPause(5*time.Second, tt.took); got != tt.want {
			t.Errorf("after an audit of %v the next is in %v, want %v", tt.took, got, tt.want)
		}
	}
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

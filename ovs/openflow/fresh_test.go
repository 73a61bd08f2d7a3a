// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestFresh: what is declared when a switch has lost everything is in the first
// bundle that it gets.
func TestFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full, empty := newMemory(t), newMemory(t)
		old := simple(0, 1, 1)
		old.Cookie = Cookie("a")
		full.table[old.Key()] = old
		switches := []*memory{full, empty}
		var target *Target
		called := 0
		target = New(Params{AuditInterval: 5 * time.Second, Fresh: func() {
			called++
			mustUpdate(t, target, "fresh", simple(0, 2, 1))
		}})
		target.dial = func(context.Context) (ofswitch, error) {
			m := switches[0]
			switches = switches[1:]
			return m.dial()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- target.Run(ctx) }()
		mustUpdate(t, target, "a", simple(0, 1, 1))
		mustSync(t, target)
		wantLog(t, full, "a switch that has flows")
		if called != 0 {
			t.Error("called for a switch that has flows")
		}
		close(full.gone)
		time.Sleep(10 * time.Second)
		wantLog(t, empty, "an empty switch", "add 0/1; add 0/2")
		if called != 1 {
			t.Errorf("called %d times", called)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

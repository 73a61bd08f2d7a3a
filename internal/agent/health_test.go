// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"testing"
)

// TestHealthTells says which of a sequence of reports is the one that the last
// part came with.
func TestHealthTells(t *testing.T) {
	told := 0
	h := newHealth(func() { told++ }, "switch", "pods")
	for i, step := range []struct {
		part  string
		err   error
		ready int // calls until then
	}{
		{"pods", nil, 0}, {"routes", errors.New("no gateway"), 0}, {"switch", nil, 0},
		{"routes", nil, 1}, {"routes", nil, 1}, // once
		{"switch", errors.New("gone"), 1}, {"pods", nil, 1}, {"switch", nil, 2},
	} {
		h.set(step.part, step.err)
		if told != step.ready {
			t.Errorf("step %d: told %d times, want %d", i, told, step.ready)
		}
		if (h.err() == nil) != (step.ready > 0 && step.err == nil && i != 6) {
			t.Errorf("step %d: %v", i, h.err())
		}
	}
}

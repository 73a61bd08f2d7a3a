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
		well  bool
		ready int // calls until then
	}{
		{"pods", nil, false, 0}, {"routes", errors.New("no gateway"), false, 0}, {"switch", nil, false, 0},
		{"routes", nil, true, 1}, {"routes", nil, true, 1}, // once
		{"switch", errors.New("gone"), false, 1}, {"pods", nil, false, 1}, {"switch", nil, true, 2},
	} {
		h.set(step.part, step.err)
		if err := h.err(); told != step.ready || (err == nil) != step.well {
			t.Errorf("step %d: told %d times, %v; want %d, well %t", i, told, err, step.ready, step.well)
		}
	}
}

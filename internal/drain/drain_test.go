// SPDX-License-Identifier: Apache-2.0

package drain_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/drain"
)

// step is something that happens after a while, and what comes of it.
type step struct {
	after  time.Duration
	reason string
	// told says that the speaker takes what it is told.
	told bool
	want drain.Phase
	left time.Duration
}

func TestDrain(t *testing.T) {
	const s, wait = time.Second, 5 * time.Second
	tests := map[string][]step{
		"stays": {{0, "", true, drain.None, 0}, {time.Hour, "", true, drain.None, 0}},
		"leaves": {
			{0, "cordoned", true, drain.Leaving, 0}, {2 * s, "cordoned", true, drain.Leaving, 3 * s},
			{3 * s, "cordoned", true, drain.Withdrawn, 0}, {time.Hour, "cordoned", true, drain.Withdrawn, 0},
		},
		"the time begins when the speaker knows": {
			{0, "cordoned", false, drain.Leaving, 0}, {time.Minute, "cordoned", true, drain.Leaving, 0},
			{4 * s, "cordoned", true, drain.Leaving, s}, {s, "cordoned", true, drain.Withdrawn, 0},
		},
		"turns round while it leaves": {
			{0, "cordoned", true, drain.Leaving, 0}, {s, "", true, drain.None, 0},
			{s, "cordoned", true, drain.Leaving, 0}, {4 * s, "cordoned", true, drain.Leaving, s},
		},
		"comes back": {
			{0, "cordoned", true, drain.Leaving, 0}, {wait, "cordoned", true, drain.Withdrawn, 0}, {s, "", true, drain.None, 0},
		},
		"another reason does not begin again": {
			{0, "cordoned", true, drain.Leaving, 0}, {4 * s, "shut down", true, drain.Leaving, s}, {s, "shut down", true, drain.Withdrawn, 0},
		},
		"a clock that was set back": {{0, "cordoned", true, drain.Leaving, 0}, {-time.Hour, "cordoned", true, drain.Withdrawn, 0}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var state drain.State
			for i, step := range steps {
				now = now.Add(step.after)
				// The agent may restart at any time.
				text, err := json.Marshal(state)
				if err != nil {
					t.Fatal(err)
				}
				state = drain.State{}
				if err := json.Unmarshal(text, &state); err != nil {
					t.Fatal(err)
				}
				state = state.Next(step.reason)
				phase, left := state.Phase(now, wait)
				if d := cmp.Diff([]any{step.want, step.left}, []any{phase, left}); d != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, d)
				}
				if step.told {
					state = state.Tell(now)
				}
			}
		})
	}
}

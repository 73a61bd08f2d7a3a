// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTracker(t *testing.T) {
	const s = time.Second
	failed := errors.New("failed")
	// Each step comes a second after the last one ended; a run takes a second.
	type step struct {
		notice  Kind // alone, if set
		desired []string
		written int
		err     error
	}
	a, b := []string{"a"}, []string{"b"}
	for _, tt := range []struct {
		name  string
		steps []step
		want  []Repair
	}{
		{name: "first run and ordinary change", steps: []step{{desired: a, written: 1}, {desired: b, written: 2}, {desired: b}}},
		{
			name:  "found by a regular run",
			steps: []step{{desired: a}, {desired: a, written: 3}},
			want:  []Repair{{Routes, 3, s}},
		},
		{
			name:  "from the first notice on",
			steps: []step{{desired: a}, {notice: Routes}, {notice: Routes}, {desired: a, written: 1}},
			want:  []Repair{{Routes, 1, 3 * s}},
		},
		{
			name:  "a notice of nothing, and of something else",
			steps: []step{{desired: a}, {notice: Routes}, {desired: a}, {notice: Links}, {desired: a, written: 1}},
			want:  []Repair{{Routes, 1, s}},
		},
		{
			name:  "a repair that fails first",
			steps: []step{{desired: a}, {notice: Routes}, {desired: a, err: failed}, {desired: a, written: 1}},
			want:  []Repair{{Routes, 1, 4 * s}},
		},
		{
			name:  "a change that fails first",
			steps: []step{{desired: a}, {desired: b, err: failed}, {desired: b, written: 1}, {desired: b}},
		},
		{
			name:  "a change that fails and is taken back",
			steps: []step{{desired: a}, {desired: b, written: 1, err: failed}, {desired: a, written: 1}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []Repair
				tracker := New(func(r Repair) { got = append(got, r) })
				for _, step := range tt.steps {
					time.Sleep(s)
					if step.notice != "" {
						tracker.Notice(step.notice)
						continue
					}
					run := tracker.Begin(Routes, "main")
					time.Sleep(s)
					run.End(step.desired, step.written, step.err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestNoticeDuringRun: what is noticed while a run looks may be its own doing, or
// too late for it; the next run knows.
func TestNoticeDuringRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Repair
		tracker := New(func(r Repair) { got = append(got, r) })
		tracker.Begin(Routes, "main").End(1, 0, nil)
		tracker.Begin(Routes, "other").End(1, 0, nil)
		run := tracker.Begin(Routes, "main")
		tracker.Notice(Routes, "main", "other")
		tracker.Begin(Routes, "third").End(1, 0, nil)
		tracker.Notice(Routes, "third")
		time.Sleep(time.Second)
		run.End(1, 0, nil)
		time.Sleep(time.Second)
		tracker.Begin(Routes, "main").End(1, 2, nil)
		tracker.Begin(Routes, "other").End(1, 3, nil)
		tracker.Begin(Routes, "other").End(1, 4, nil)
		want := []Repair{{Routes, 2, 2 * time.Second}, {Routes, 3, 2 * time.Second}, {Routes, 4, 0}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

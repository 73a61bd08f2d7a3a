// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLatencies(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	denial := func(asked, answered, known int) Denial { return Denial{at(asked), at(answered), at(known)} }
	silence := func(from, to int) Silence { return Silence{at(from), at(to)} }
	for name, test := range map[string]struct {
		denials  []Denial
		silences []Silence
		want     []time.Duration
		leftOut  int
		wrong    bool
	}{
		"nothing": {},
		"two, and a silence of something else": {
			denials:  []Denial{denial(100, 110, 600), denial(1000, 1010, 1500)},
			silences: []Silence{silence(50, 90), silence(117, 700), silence(1040, 1600)},
			want:     []time.Duration{7 * time.Millisecond, 30 * time.Millisecond},
		},
		"before the answer":   {denials: []Denial{denial(100, 110, 600)}, silences: []Silence{silence(105, 700)}, want: []time.Duration{0}},
		"to the end":          {denials: []Denial{denial(100, 110, 600)}, silences: []Silence{{From: at(111)}}, want: []time.Duration{time.Millisecond}},
		"silent before":       {denials: []Denial{denial(100, 110, 600)}, silences: []Silence{silence(99, 700)}, leftOut: 1},
		"never denied":        {denials: []Denial{denial(100, 110, 600)}, wrong: true},
		"ended too early":     {denials: []Denial{denial(100, 110, 600)}, silences: []Silence{silence(120, 600)}, wrong: true},
		"began when it ended": {denials: []Denial{denial(100, 110, 600)}, silences: []Silence{silence(600, 700)}, wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, leftOut, err := Latencies(test.denials, test.silences)
			if (err != nil) != test.wrong {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || leftOut != test.leftOut {
				t.Errorf("%d left out, want %d (-want +got):\n%s", leftOut, test.leftOut, diff)
			}
		})
	}
}

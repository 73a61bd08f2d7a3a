// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAlternate(t *testing.T) {
	for _, test := range []struct {
		things, times int
		want          []int
	}{
		{0, 3, []int{Limit}},
		{1, 2, []int{Limit, 0, Limit, 0, Limit}},
		{2, 2, []int{Limit, 0, Limit, 1, Limit, 0, Limit, 1, Limit}},
	} {
		if diff := cmp.Diff(test.want, Alternate(test.things, test.times)); diff != "" {
			t.Errorf("%d things, %d times (-want +got):\n%s", test.things, test.times, diff)
		}
	}
}

// TestBesideDrift: of a machine that gets slower and slower the ratios say nothing.
func TestBesideDrift(t *testing.T) {
	shares := []float64{0.5, 0.75}
	order := Alternate(len(shares), 4)
	var values []float64
	for k, n := range order {
		speed := float64(1000 - 20*k)
		if n != Limit {
			speed *= shares[n]
		}
		values = append(values, speed)
	}
	for thing, share := range shares {
		own, limits := Beside(order, values, thing)
		want := []float64{share, share, share, share}
		if diff := cmp.Diff(want, Ratios(own, limits)); diff != "" {
			t.Errorf("thing %d (-want +got):\n%s", thing, diff)
		}
	}
}

func TestBeside(t *testing.T) {
	order := Alternate(2, 1)
	own, limits := Beside(order, []float64{10, 5, 20, 6, 40}, 1)
	if diff := cmp.Diff([][]float64{{6}, {30}}, [][]float64{own, limits}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if own, limits := Beside(order, make([]float64, len(order)), 2); own != nil || limits != nil {
		t.Errorf("none of these: %v, %v", own, limits)
	}
}

func TestRatios(t *testing.T) {
	if diff := cmp.Diff([]float64{0.5, 2}, Ratios([]float64{1, 3, 8}, []float64{2, 0, 4})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

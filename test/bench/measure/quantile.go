// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"math"
	"slices"
)

// Quantile returns the smallest sample that at least the share q of all samples
// do not exceed (nearest rank), 0 of none. The order of the samples is of no
// meaning and stays.
func Quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Median returns the sample in the middle, of an even number the mean of both.
func Median(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// Quartiles return between which samples the half in the middle is, 0 of none.
func Quartiles(samples []float64) (low, high float64) {
	return Quantile(samples, 0.25), Quantile(samples, 0.75)
}

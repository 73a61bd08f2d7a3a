// SPDX-License-Identifier: Apache-2.0

package measure

// Limit stands in an order of [Alternate] for the limit.
const Limit = -1

// Alternate returns the order in which a number of things (0 and up) and their
// limit are measured: each of them in turn, so many times, and the limit before
// and after each. What the machine does meanwhile then meets all alike.
func Alternate(things, times int) []int {
	order := []int{Limit}
	for range times {
		for n := range things {
			order = append(order, n, Limit)
		}
	}
	return order
}

// Beside returns of values measured in an order of [Alternate] those of one thing,
// and for each of these the mean of the limit before it and after it: what the
// limit would have been just then, if it drifts.
func Beside(order []int, values []float64, thing int) (own, limits []float64) {
	for k, n := range order {
		if n == thing {
			own = append(own, values[k])
			limits = append(limits, (values[k-1]+values[k+1])/2)
		}
	}
	return own, limits
}

// Ratios returns those of values to limits, without limits of 0.
func Ratios(values, limits []float64) []float64 {
	var out []float64
	for k, limit := range limits {
		if limit != 0 {
			out = append(out, values[k]/limit)
		}
	}
	return out
}

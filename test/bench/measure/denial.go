// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"fmt"
	"time"
)

// Denial is one attempt to have packets denied.
type Denial struct {
	// Asked is just before the request for it, Answered when it was answered,
	// and Known a later moment at which packets were denied still.
	Asked, Answered, Known time.Time
}

// Silence is a time in which no packet came through: From is when the first of
// those was sent, To when the next one was sent that came through, zero if none
// was.
type Silence struct{ From, To time.Time }

// Latencies returns how long each denial took: from the answer to the first
// packet that did not come through, 0 if that was sent before. A denial that is
// in a silence from before it was asked for says nothing and is left out. One
// without a silence is an error.
func Latencies(denials []Denial, silences []Silence) (took []time.Duration, leftOut int, err error) {
	for n, d := range denials {
		found := false
		for _, s := range silences {
			if !s.From.Before(d.Known) || !s.To.IsZero() && !s.To.After(d.Known) {
				continue
			}
			found = true
			if s.From.Before(d.Asked) {
				leftOut++
			} else {
				took = append(took, max(0, s.From.Sub(d.Answered)))
			}
			break
		}
		if !found {
			return nil, 0, fmt.Errorf("denial %d, answered at %s: packets came through at %s",
				n, d.Answered.Format(time.StampMicro), d.Known.Format(time.StampMicro))
		}
	}
	return took, leftOut, nil
}

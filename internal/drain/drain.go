// SPDX-License-Identifier: Apache-2.0

package drain

import "time"

// Phase is how far a node is.
type Phase string

// The phases, in order. A node that is to stay after all goes back to None from
// any of them.
const (
	// None announces as ever.
	None Phase = "None"
	// Leaving announces as what is to be used last.
	Leaving Phase = "Leaving"
	// Withdrawn announces no address of a Service.
	Withdrawn Phase = "Withdrawn"
)

// Phases are all of them.
func Phases() []Phase { return []Phase{None, Leaving, Withdrawn} }

// State is what has to be remembered of a drain. The zero State is none.
type State struct {
	// Reason why the node leaves, in words.
	Reason string `json:"reason,omitempty"`
	// Told is when the speaker was told first; zero: not yet.
	Told time.Time `json:"told,omitzero"`
}

// Next is the state when the node leaves for a reason, empty: it stays. A drain
// that has begun goes on when the reason becomes another.
func (s State) Next(reason string) State {
	if reason == "" {
		return State{}
	}
	s.Reason = reason
	return s
}

// Tell is the state once the speaker knows that the node leaves.
func (s State) Tell(now time.Time) State {
	if s.Reason != "" && s.Told.IsZero() {
		s.Told = now
	}
	return s
}

// Phase is the phase now, where routers get some time to follow. After left it is
// another; 0 if that is up to somebody else. A clock that was set back does not
// make the time longer.
func (s State) Phase(now time.Time, wait time.Duration) (p Phase, left time.Duration) {
	switch gone := now.Sub(s.Told); {
	case s.Reason == "":
		return None, 0
	case s.Told.IsZero():
		return Leaving, 0
	case gone >= wait || gone < 0:
		return Withdrawn, 0
	default:
		return Leaving, wait - gone
	}
}

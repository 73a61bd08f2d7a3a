// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// lost is the age from which a probe counts as not answered.
func (m *machine) lost() time.Duration { return min(max(lostAfter, 3*m.rtt), lostAtMost) }

// suspect is the age from which it is asked again.
func (m *machine) suspect() time.Duration { return min(max(suspectAfter, 2*m.rtt), lostAtMost/2) }

// quiet is how long nothing at all is answered on a path that failed.
func (m *machine) quiet() time.Duration { return max(silence, 2*m.lost()) }

// overdue counts the probes of a cell that were not answered in time.
func (m *machine) overdue(c *cell, now time.Time) int {
	n := 0
	for _, a := range c.waiting {
		if now.Sub(a.from) >= m.lost() {
			n++
		}
	}
	return n
}

// first is when the time of the first probe began that was sent after all that
// were answered, zero: there is none.
func (m *machine) first() time.Time {
	var first time.Time
	for i := range m.cells {
		for _, a := range m.cells[i].waiting {
			if a.sent.After(m.last) && (first.IsZero() || a.from.Before(first)) {
				first = a.from
			}
		}
	}
	return first
}

// broken says whether a cell fails the path: others were answered in the middle of
// its losses. Losses before and after a moment in which nothing was answered do
// not count as that.
func (m *machine) broken(c *cell, now time.Time) bool {
	n := m.overdue(c, now)
	if n < lossesMax {
		return false
	}
	for _, x := range m.recent {
		before := 0
		for before < n && c.waiting[before].sent.Before(x) {
			before++
		}
		if before >= besides && n-before >= besides {
			return true
		}
	}
	return false
}

// silent says whether nothing is answered at all.
func (m *machine) silent(now time.Time) bool {
	first := m.first()
	if first.IsZero() || now.Sub(first) < m.quiet() {
		return false
	}
	n := 0
	for i := range m.cells {
		for _, a := range m.cells[i].waiting {
			if a.sent.After(m.last) && now.Sub(a.from) >= m.lost() {
				n++
			}
		}
	}
	return n >= lossesMax
}

// proven says whether all cells were answered since begin, and none is waited for
// for too long.
func (m *machine) proven(now time.Time) bool {
	for i := range m.cells {
		c := &m.cells[i]
		if c.answered.IsZero() || c.answered.Before(m.begin) || m.overdue(c, now) > 0 {
			return false
		}
	}
	return true
}

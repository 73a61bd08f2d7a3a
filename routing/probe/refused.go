// SPDX-License-Identifier: Apache-2.0

package probe

import "time"

// A node whose agent restarts has nobody at Port for some seconds. Its kernel says
// so: it answers requests with ICMP port unreachable, from the probe address. Such
// an error came the whole way there and back, so the path is no worse than before.
//
// Linux sends one a second to each address, after a burst of six. refusedFor
// lets one of them be lost, and leaves half a second for the probe that causes
// the next one. frozenAtMost is the longest that an agent is away when all is
// well: it lets an image be pulled. A node without an agent for longer programs no
// Pod, and a host that rejects probes for good looks the same.
const (
	refusedFor   = 2500 * time.Millisecond
	frozenAtMost = time.Minute
)

// refuse notes that nobody listened for a probe where it arrived. It says whether
// the probe was waiting.
func (m *machine) refuse(now time.Time, s slot, seq uint32) bool {
	if m.route == "" || s.flow >= m.p.Flows {
		return false
	}
	for _, a := range m.cell(s.flow, s.kind).waiting {
		if a.seq == seq {
			m.refused = now
			return true
		}
	}
	return false
}

// refusing says whether the other node has no agent now.
func (m *machine) refusing(now time.Time) bool { return now.Sub(m.refused) < refusedFor }

// freeze says whether the path is not judged now: it works, or holds, and what is
// missing is the agent's fault. A path that does not work has nothing to lose, and
// is proven by answers as ever.
func (m *machine) freeze(now time.Time) bool {
	was := m.frozen
	m.frozen = (m.state == working || m.state == holding) &&
		m.refusing(now) && now.Sub(m.heard) < frozenAtMost
	switch {
	case m.frozen && !was:
		m.froze = now
	case was && !m.frozen:
		m.thaw(now)
	}
	return m.frozen
}

// thaw has the path judged again, by nothing of what was lost meanwhile. The time
// for which it was frozen is no time for which it held.
func (m *machine) thaw(now time.Time) {
	m.held = m.held.Add(now.Sub(m.froze))
	for i := range m.cells {
		c := &m.cells[i]
		left := c.waiting[:0]
		for _, a := range c.waiting {
			if now.Sub(a.from) < m.lost() {
				left = append(left, a)
			}
		}
		c.waiting = left
	}
}

// thaws is when a frozen path is judged again, unless more is heard.
func (m *machine) thaws() time.Time {
	at := m.refused.Add(refusedFor)
	if most := m.heard.Add(frozenAtMost); most.Before(at) {
		return most
	}
	return at
}

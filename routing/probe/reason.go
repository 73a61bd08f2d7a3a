// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"time"
)

// counted is the number of flows that fail a kind of packet.
type counted struct {
	any  int // of either kind
	kind [kinds]int
	err  string // why packets of one could not be sent
}

// count counts the flows of which more than a stray packet is missing.
func (m *machine) count(now time.Time) counted {
	var n counted
	for flow := range m.p.Flows {
		bad := false
		for k := range kinds {
			c := m.cell(flow, k)
			if m.overdue(c, now) < 2 {
				continue
			}
			bad = true
			n.kind[k]++
			if c.err != "" {
				n.err = c.err
			}
		}
		if bad {
			n.any++
		}
	}
	return n
}

// classify names the way in which a path fails that is not silent.
func (m *machine) classify(now time.Time) Class {
	if m.count(now).kind[small] == 0 {
		return ClassFullSize
	}
	return ClassSomeFlows
}

// describe says in words why the path has a class.
func (m *machine) describe(now time.Time, c Class) string {
	n := m.count(now)
	text := ""
	switch c {
	case ClassAnswered:
		return fmt.Sprintf("answered on all %d flows, packets of %d bytes too", m.p.Flows, m.size)
	case ClassHold:
		failures := "1 failure"
		if m.flaps != 1 {
			failures = fmt.Sprintf("%d failures", m.flaps)
		}
		return fmt.Sprintf("answered for %v of %v after %s",
			now.Sub(m.held).Truncate(time.Second), m.hold, failures)
	case ClassSilent:
		text = "no answer on any flow"
		if m.last.IsZero() {
			text = "no answer yet on any flow"
		}
	case ClassNoAgent:
		text = "no agent answers at " + m.node
	case ClassFullSize:
		text = fmt.Sprintf("no answer to packets of %d bytes on %d of %d flows, small ones are answered",
			m.size, n.kind[full], m.p.Flows)
	case ClassSomeFlows:
		text = fmt.Sprintf("no answer on %d of %d flows", n.any, m.p.Flows)
		if n.kind[full] > n.kind[small] {
			text = fmt.Sprintf("no answer on %d of %d flows, on %d to packets of %d bytes",
				n.kind[small], m.p.Flows, n.kind[full], m.size)
		}
	}
	if n.err != "" {
		text += " (" + n.err + ")"
	}
	return text
}

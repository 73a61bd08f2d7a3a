// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-net/waymark/routing"
)

// defaultRestartTime is that of routing.GracefulRestart.
const defaultRestartTime = 120 * time.Second

// restartTime is how long routers keep the node's routes without a session.
func restartTime(c routing.BGPConfig) time.Duration {
	longest := cmp.Or(c.Speaker.GracefulRestart.RestartTime, defaultRestartTime)
	for _, p := range c.Peers {
		if p.GracefulRestart != nil {
			longest = max(longest, cmp.Or(p.GracefulRestart.RestartTime, defaultRestartTime))
		}
	}
	return longest
}

// memory decides which routes the agent is told, from what the speaker says and
// what it said before it restarted. It is pure but for what it remembers.
type memory struct {
	// wanted is the last configuration, told that there is one.
	wanted routing.BGPConfig
	told   bool
	// said is what the speaker that is connected said last.
	said *routing.PathEvent
	// kept are the routes that were complete last, or less those that time took.
	kept []routing.LearnedRoute
	// until is when routes are no longer kept, zero: nothing ends.
	until time.Time
}

// set takes a configuration.
func (m *memory) set(c routing.BGPConfig, now time.Time) {
	m.wanted, m.told = c, true
	m.start(now)
}

// hear takes what the speaker says.
func (m *memory) hear(e routing.PathEvent, now time.Time) {
	m.said = &e
	if e.Converged {
		m.kept, m.until = e.Routes, time.Time{}
		return
	}
	m.start(now)
}

// lose takes that the speaker is gone.
func (m *memory) lose(now time.Time) {
	if m.said != nil && !m.said.Converged {
		m.kept = m.merged(now)
	}
	m.said = nil
	m.start(now)
}

// complete says that the speaker knows all routes.
func (m *memory) complete() bool { return m.said != nil && m.said.Converged }

// start begins the time for which routes are kept, if nothing is complete. Before
// there is a configuration nobody acts on routes, and the restart time is unknown.
func (m *memory) start(now time.Time) {
	if m.told && !m.complete() && m.until.IsZero() {
		m.until = now.Add(restartTime(m.wanted))
	}
}

// deadline is when event returns something else although nothing was said.
func (m *memory) deadline(now time.Time) (time.Time, bool) {
	return m.until, !m.until.IsZero() && now.Before(m.until)
}

// event is what the agent is to know now.
func (m *memory) event(now time.Time) routing.PathEvent {
	switch {
	case m.complete():
		return *m.said
	case m.told && len(m.wanted.Peers) == 0 && !m.wanted.Incomplete:
		return routing.PathEvent{Converged: true, At: now}
	case m.until.IsZero() || now.Before(m.until):
		return routing.PathEvent{Routes: m.merged(now), At: now}
	case m.said != nil:
		return *m.said
	}
	return routing.PathEvent{Converged: true, At: now}
}

// merged are the routes of the speaker, and for other prefixes those that are
// kept, sorted by prefix.
func (m *memory) merged(now time.Time) []routing.LearnedRoute {
	var out []routing.LearnedRoute
	fresh := map[netip.Prefix]bool{}
	if m.said != nil {
		out = slices.Clone(m.said.Routes)
		for _, r := range out {
			fresh[r.Prefix] = true
		}
	}
	if !m.until.IsZero() && !now.Before(m.until) {
		return out
	}
	for _, r := range m.kept {
		if !fresh[r.Prefix] && m.wants(r.Peers) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b routing.LearnedRoute) int { return routing.ComparePrefix(a.Prefix, b.Prefix) })
	return out
}

// wants says whether one of the peers may still be one.
func (m *memory) wants(peers []string) bool {
	if !m.told || m.wanted.Incomplete {
		return true
	}
	return slices.ContainsFunc(m.wanted.Peers, func(p routing.Peer) bool { return slices.Contains(peers, p.Name) })
}

// idle are the sessions of a configuration whose speaker cannot be asked.
func idle(c routing.BGPConfig, why string, since time.Time) []routing.SessionStatus {
	var out []routing.SessionStatus
	for _, p := range c.Peers {
		s := routing.SessionStatus{
			Peer: p.Name, Address: p.Address, ASN: p.ASN, State: routing.SessionIdle,
			Since: since, LastError: why, LastErrorAt: since,
		}
		families := p.Families
		if len(families) == 0 {
			families = routing.Families()
		}
		for _, f := range families {
			s.Families = append(s.Families, routing.FamilyStatus{Family: f})
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b routing.SessionStatus) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

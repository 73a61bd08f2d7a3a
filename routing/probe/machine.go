// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"fmt"
	"time"
)

// When a path fails. A cell is a flow and a kind of packet. A path of which other
// packets are answered fails when lossesMax probes of one cell in succession are
// not; a path of which nothing is answered has silence besides, so that a peer
// that has no processor for a moment is not taken for a broken fabric.
//
// In time, at the default interval: what breaks one cell meets a probe of it
// within two rounds, 400 ms. Its absence raises suspicion 50 ms later, and four
// more probes of the cell follow 40 ms apart; the last is lost 100 ms after it
// was sent: 400 + 50 + 3*40 + 100 = 670 ms. What breaks all flows meets a probe
// within 25 ms and needs 400 ms more. Each is longer by the round-trip time where
// that is above 30 ms.
//
// Random loss: when a network loses 1 % of the packets, each way, a probe is not
// answered with p = 1 - 0.99² = 0.0199. A chain of five such in one cell begins
// with each probe with probability p⁵ = 3.1e-9. A target has 44 probes a second,
// jitter included: one false failure in 7,270,000 s, 84 days, of a target.
// Three probes in place of five would have one in 48 minutes.
const (
	lossesMax    = 5
	besides      = 2 // of them at least before, and after, one that was answered
	silence      = 400 * time.Millisecond
	lostAfter    = 100 * time.Millisecond // or 3 round-trip times
	lostAtMost   = time.Second
	suspectAfter = 50 * time.Millisecond // or 2 round-trip times
	confirmEvery = 40 * time.Millisecond
	kept         = 16 // probes in flight that are remembered, a cell
	jitter       = 0.2
)

type state uint8

const (
	unproven state = iota // never worked
	working
	failed
	holding // answered since it failed
)

// asked is a probe that waits for its answer.
type asked struct {
	seq  uint32
	size int
	sent time.Time
	// from is when its time began to run: later than sent when we were not there
	// to take the answer.
	from time.Time
}

// cell is a kind of packet on a flow.
type cell struct {
	waiting  []asked   // sent after the last one that was answered, oldest first
	answered time.Time // when the last one that was answered was sent
	err      string    // of the last one that could not be sent
}

// slot is a probe to be sent.
type slot struct {
	flow int
	kind kind
}

// machine is what is known of a path. It is pure: time and events go in, probes to
// send and a verdict come out.
type machine struct {
	p        Params
	random   func() float64 // [0, 1)
	interval time.Duration
	size     int // of full packets, IP header included
	route    string
	node     string

	state   state
	assumed bool      // works, but was not seen to
	since   time.Time // Works is what it is
	begin   time.Time // answers to earlier probes prove nothing
	held    time.Time // holding began
	hold    time.Duration
	flaps   int
	failing bool // by the last look
	why     string
	class   Class

	cells   []cell      // by flow and kind
	last    time.Time   // when the last one of all that were answered was sent
	recent  []time.Time // when some before it were, and it
	heard   time.Time   // when the last answer came, or we began
	refused time.Time   // see refused.go
	frozen  bool
	froze   time.Time
	rtt     time.Duration
	seq     uint32
	turn    int // of regular probes
	turnAt  time.Time
	extraAt time.Time // no confirming probe before
}

func newMachine(now time.Time, p Params, t Target, interval time.Duration, random func() float64) *machine {
	m := &machine{p: p, random: random, interval: interval, since: now, heard: now, node: t.Node}
	if t.AssumeWorks && t.Route != "" {
		m.state, m.assumed = working, true
	}
	m.change(now, t)
	return m
}

// change makes the target what is wanted.
func (m *machine) change(now time.Time, t Target) {
	m.size = t.Size
	// Another address is another way to go, even where the route has the same name.
	route := ""
	if t.Route != "" {
		route = t.Address.String() + " " + t.Route
	}
	fresh := m.cells == nil
	if route == m.route && !fresh {
		return
	}
	m.route = route
	m.cells, m.last, m.failing = make([]cell, m.p.Flows*int(kinds)), time.Time{}, false
	m.recent = nil
	m.begin, m.extraAt = now, now
	m.turnAt = now.Add(time.Duration(m.random() * float64(m.interval) / float64(m.p.Flows)))
	switch {
	case route == "":
		if m.state == working {
			m.fail(now)
		}
		m.class, m.why = ClassNoRoute, "no usable route"
	case m.state == unproven:
		m.class, m.why = ClassUnproven, "not answered yet"
	case m.state != working:
		m.class, m.why = ClassUnproven, "not answered yet by the new route"
	}
	if m.state == holding {
		m.state = failed
	}
}

func (m *machine) cell(flow int, k kind) *cell { return &m.cells[flow*int(kinds)+int(k)] }

// advance makes of the time that went by what follows.
func (m *machine) advance(now time.Time) {
	if m.route == "" {
		return
	}
	if m.freeze(now) {
		return
	}
	m.failing = m.judge(now)
	switch {
	case m.failing:
		m.begin = now
		switch m.state {
		case working:
			m.fail(now)
		case holding:
			m.state = failed
		}
	case m.state == holding:
		if now.Sub(m.held) >= m.hold {
			m.state, m.since = working, now
		}
	case !m.proven(now):
	case m.state == unproven:
		m.state, m.since = working, now
	case m.state == failed:
		m.state, m.held = holding, now
	default:
		m.assumed = false
	}
}

// judge says whether the path fails now, and remembers why.
func (m *machine) judge(now time.Time) bool {
	if m.silent(now) {
		if m.class = ClassSilent; m.refusing(now) {
			m.class = ClassNoAgent
		}
		m.why = m.describe(now, m.class)
		return true
	}
	for i := range m.cells {
		if m.broken(&m.cells[i], now) {
			m.class = m.classify(now)
			m.why = m.describe(now, m.class)
			return true
		}
	}
	return false
}

// fail takes the path out of use.
func (m *machine) fail(now time.Time) {
	m.flaps = max(0, m.flaps-int(now.Sub(m.since)/m.p.Decay))
	m.hold = m.p.Hold
	for range m.flaps {
		m.hold = min(2*m.hold, m.p.MaxHold)
	}
	// More failures than it takes to get to MaxHold change nothing but how long
	// they are remembered.
	if m.hold < m.p.MaxHold || m.flaps == 0 {
		m.flaps++
	}
	m.state, m.since, m.assumed = failed, now, false
}

// poll returns the probes to be sent now. extra says whether there may be one
// more than the regular ones.
func (m *machine) poll(now time.Time, extra func() bool) []slot {
	if m.route == "" {
		return nil
	}
	var out []slot
	if !now.Before(m.turnAt) {
		flow := m.turn % m.p.Flows
		out = append(out, slot{flow, kind((flow + m.turn/m.p.Flows) % int(kinds))})
		m.turn++
		m.turnAt = now.Add(m.spacing())
	}
	if at, s := m.suspicion(); !at.IsZero() && !now.Before(at) {
		m.extraAt = now.Add(confirmEvery)
		if extra() {
			out = append(out, s)
		}
	}
	return out
}

// spacing is the time to the next regular probe.
func (m *machine) spacing() time.Duration {
	return time.Duration(float64(m.interval) / float64(m.p.Flows) * (1 - jitter*m.random()))
}

// suspicion returns the cell that is asked next out of turn, and when. The one
// that most is missing of comes first, so that one of them is sure soon.
func (m *machine) suspicion() (time.Time, slot) {
	if m.failing || m.frozen {
		return time.Time{}, slot{} // sure already, or nothing would come of it
	}
	var oldest time.Time
	var of slot
	most := 0
	for i := range m.cells {
		w := m.cells[i].waiting
		if len(w) > most || (len(w) == most && most > 0 && w[0].from.Before(oldest)) {
			oldest, most = w[0].from, len(w)
			of = slot{i / int(kinds), kind(i % int(kinds))}
		}
	}
	if most == 0 {
		return time.Time{}, slot{}
	}
	at := oldest.Add(m.suspect())
	if at.Before(m.extraAt) {
		at = m.extraAt
	}
	return at, of
}

// asks notes that a probe is sent, or could not be, and returns its number.
func (m *machine) asks(now time.Time, s slot, size int) uint32 {
	m.seq++
	c := m.cell(s.flow, s.kind)
	c.waiting = append(c.waiting, asked{seq: m.seq, size: size, sent: now, from: now})
	if n := len(c.waiting); n > kept {
		c.waiting = append(c.waiting[:0], c.waiting[n-kept:]...)
	}
	return m.seq
}

// told notes whether the last probe of a cell could be sent.
func (m *machine) told(s slot, err error) {
	c := m.cell(s.flow, s.kind)
	if c.err = ""; err != nil {
		c.err = err.Error()
	}
}

// answer notes an answer. It says whether one was waited for.
func (m *machine) answer(now time.Time, s slot, seq uint32, size int) bool {
	if m.route == "" || s.flow >= m.p.Flows {
		return false
	}
	c := m.cell(s.flow, s.kind)
	for i, a := range c.waiting {
		if a.seq != seq || a.size != size {
			continue
		}
		c.waiting = append(c.waiting[:0], c.waiting[i+1:]...)
		c.answered, m.heard = a.sent, now
		if a.sent.After(m.last) {
			m.last = a.sent
			if len(m.recent) == kept*m.p.Flows/2 {
				m.recent = append(m.recent[:0], m.recent[1:]...)
			}
			m.recent = append(m.recent, a.sent)
		}
		if took := now.Sub(a.sent); m.rtt == 0 {
			m.rtt = max(took, 1)
		} else {
			m.rtt = max(m.rtt+(took-m.rtt)/8, 1)
		}
		return true
	}
	return false
}

// excuse has probes that wait run as long again as nobody was there to take
// their answers.
func (m *machine) excuse(d time.Duration) {
	m.refused = m.refused.Add(d)
	for i := range m.cells {
		for j := range m.cells[i].waiting {
			a := &m.cells[i].waiting[j]
			a.from = a.from.Add(d)
		}
	}
}

// next is when there is something to do, zero: never.
func (m *machine) next(now time.Time) time.Time {
	if m.route == "" {
		return time.Time{}
	}
	next := m.turnAt
	before := func(t time.Time) {
		if !t.IsZero() && t.After(now) && t.Before(next) {
			next = t
		}
	}
	if m.frozen {
		before(m.thaws())
		return next
	}
	if at, _ := m.suspicion(); !at.IsZero() && at.Before(next) {
		next = at
	}
	if first := m.first(); !first.IsZero() {
		before(first.Add(m.quiet()))
	}
	for i := range m.cells {
		for _, a := range m.cells[i].waiting {
			before(a.from.Add(m.lost()))
		}
	}
	if m.state == holding {
		before(m.held.Add(m.hold))
	}
	return next
}

// verdict says what is known. The caller fills in what it is of.
func (m *machine) verdict(now time.Time) Verdict {
	v := Verdict{
		Works: m.state == working, Since: m.since, Class: m.class, Reason: m.why,
		RTT: m.rtt, Interval: m.interval, Failures: m.flaps,
	}
	switch {
	case (v.Works || m.state == holding) && m.refused.After(m.heard):
		v.Class = ClassNoAgent
		v.Reason = fmt.Sprintf("%s for %v", m.describe(now, ClassNoAgent), now.Sub(m.heard).Truncate(time.Second))
	case m.assumed:
		v.Class, v.Reason = ClassAssumed, "in use before, not proven yet"
	case m.state == working:
		v.Class, v.Reason = ClassAnswered, m.describe(now, ClassAnswered)
	case m.state == holding:
		v.Class, v.Reason = ClassHold, m.describe(now, ClassHold)
	}
	v.Reason = cmp.Or(v.Reason, string(v.Class))
	return v
}

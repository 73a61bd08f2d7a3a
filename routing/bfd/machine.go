// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"time"
)

const (
	// slow is the least interval of packets while a session is not Up (RFC 5880,
	// 6.8.3).
	slow = time.Second
	// gap is the least time between packets that are sent because their contents
	// changed. It keeps two ends that never agree from flooding each other.
	gap = 10 * time.Millisecond
)

// timing is what may change while a session runs.
type timing struct {
	desiredMinTx  time.Duration
	requiredMinRx time.Duration
	detectMult    uint8
}

// machine is one session's state machine (RFC 5880, 6.8). It has no clock, no
// socket and no goroutine: every method is told what time it is, and leaves the
// packets that are to be sent in out.
type machine struct {
	timing
	local  uint32
	jitter func() float64 // in [0, 1)
	out    []packet

	state State
	diag  Diagnostic
	since time.Time
	downs uint64

	remote struct {
		discr      uint32
		state      State
		diag       Diagnostic
		demand     bool
		minRx      time.Duration
		minTx      time.Duration
		detectMult uint8
	}

	// txBase and rxBase are the values in force of what timing and state ask for:
	// they lag behind until a poll sequence has told the peer (6.8.3).
	txBase, rxBase time.Duration
	polling        bool
	// pollNext says that another poll sequence is due. It begins after a packet
	// without Final, which no late answer to the last one can be mistaken for.
	pollNext bool

	lastTx, nextTx time.Time
	lastRx         time.Time // zero: nothing to expire
	sent           packet    // the last one, without Poll and Final
	polled         bool      // the running poll sequence has begun on the wire

	// held is a detection time that has become shorter but still counts, until the
	// peer has begun to send faster, or heldUntil at the latest; zero: none is.
	held      time.Duration
	heldUntil time.Time
}

// newMachine returns a session that is Down and sends its first packet at once.
func newMachine(now time.Time, t timing, local uint32, jitter func() float64) *machine {
	m := &machine{timing: t, local: local, jitter: jitter, state: Down, since: now}
	m.remote.state = Down
	m.remote.minRx = time.Microsecond // 6.8.1: 1 until it is known
	m.txBase, m.rxBase = m.minTx(), t.requiredMinRx
	m.nextTx = now
	return m
}

// minTx is the Desired Min TX Interval that is told to the peer.
func (m *machine) minTx() time.Duration {
	if m.state != Up {
		return max(slow, m.desiredMinTx)
	}
	return m.desiredMinTx
}

// interval is that of our periodic packets before jitter, 0: none are sent.
func (m *machine) interval() time.Duration {
	quiet := m.remote.demand && m.state == Up && m.remote.state == Up && !m.polling
	if m.remote.minRx == 0 || quiet {
		return 0
	}
	return max(m.txBase, m.remote.minRx)
}

// jittered shortens an interval such that no two systems fall into step, and
// that with a multiplier of 1 the peer does not expire before the next packet
// (6.8.7).
func (m *machine) jittered(d time.Duration) time.Duration {
	if m.detectMult == 1 {
		return time.Duration(float64(d) * (0.75 + 0.15*m.jitter()))
	}
	return time.Duration(float64(d) * (0.75 + 0.25*m.jitter()))
}

// detectionTime is how long the peer may be silent (6.8.4), 0 before it spoke.
func (m *machine) detectionTime() time.Duration {
	return time.Duration(m.remote.detectMult) * max(m.rxBase, m.remote.minTx)
}

// patience is the detection time in force.
func (m *machine) patience() time.Duration { return max(m.held, m.detectionTime()) }

// hold keeps an old detection time that has just become shorter. The peer may
// send one more packet at the old pace, and a peer may keep its pace until it
// has our Final. Held is not longer than the peer may be silent by the old time:
// one that breaks its word expires after all.
func (m *machine) hold(now time.Time, old time.Duration) {
	m.held, m.heldUntil = old, now.Add(old)
}

// expiry is when the peer was silent for too long; zero: never.
func (m *machine) expiry() time.Time {
	if m.lastRx.IsZero() {
		return time.Time{}
	}
	return m.lastRx.Add(m.patience())
}

// next is when advance has something to do; zero: never.
func (m *machine) next() time.Time {
	e := m.expiry()
	if e.IsZero() || (!m.nextTx.IsZero() && m.nextTx.Before(e)) {
		return m.nextTx
	}
	return e
}

// advance does what is due.
func (m *machine) advance(now time.Time) {
	if e := m.expiry(); !e.IsZero() && !now.Before(e) {
		m.lastRx, m.held = time.Time{}, 0
		m.remote.discr = 0 // 6.8.1
		if m.state == Init || m.state == Up {
			m.enter(now, Down, DiagDetectionExpired)
		}
	}
	m.settle(now)
	if !m.nextTx.IsZero() && !now.Before(m.nextTx) {
		m.transmit(now)
	}
}

// receive takes a packet that belongs to this session. Those that it discards
// are named by the reason.
func (m *machine) receive(now time.Time, p packet) Discard {
	if p.Auth {
		return DiscardAuth
	}
	shorter := p.RequiredMinRx < m.remote.minRx
	told, old := m.detectionTime(), m.patience()
	r := &m.remote
	r.discr, r.state, r.diag, r.demand = p.Mine, p.State, p.Diagnostic, p.Demand
	r.minRx, r.minTx, r.detectMult = p.RequiredMinRx, p.DesiredMinTx, p.DetectMult
	switch {
	case p.Final && m.polling && m.polled: // else it answers an older poll sequence
		m.polling = false
		m.adopt()
	case !p.Final && !m.polling && m.pollNext && m.state == Up:
		m.pollNext, m.polling, m.polled = false, true, false
	}
	if m.state == AdminDown {
		return DiscardAdminDown
	}
	m.follow(now, p.State)
	switch t := m.detectionTime(); {
	case m.lastRx.IsZero() || t >= old:
		m.held = 0
	case t < told:
		m.hold(now, old)
	case !p.Poll && !p.Final || !now.Before(m.heldUntil):
		// Neither asked nor answered: sent by the peer's timer, which goes by what
		// it was told. It has the Final if it polled.
		m.held = 0
	}
	m.lastRx = now
	if shorter {
		m.hasten()
	}
	if p.Poll {
		m.answer(now)
	}
	m.settle(now)
	return ""
}

// follow is the state machine proper.
func (m *machine) follow(now time.Time, remote State) {
	switch {
	case remote == AdminDown:
		if m.state != Down {
			m.enter(now, Down, DiagNeighborSignaled)
		}
	case m.state == Down && remote == Down:
		m.enter(now, Init, m.diag)
	case m.state == Down && remote == Init:
		m.enter(now, Up, DiagNone)
	case m.state == Init && remote >= Init:
		m.enter(now, Up, DiagNone)
	case m.state == Up && remote == Down:
		m.enter(now, Down, DiagNeighborSignaled)
	}
}

// enter changes the state, and with it the pace.
func (m *machine) enter(now time.Time, s State, d Diagnostic) {
	if m.state == Up {
		m.downs++
	}
	m.state, m.diag, m.since = s, d, now
	m.polling, m.pollNext = false, false
	if s == Up {
		// The fast pace was not agreed on yet: the peer knows of our second.
		m.repace()
		return
	}
	m.adopt()
}

// change takes other parameters.
func (m *machine) change(now time.Time, t timing) {
	if m.timing == t {
		return
	}
	told, old := m.detectionTime(), m.patience()
	paced := m.desiredMinTx != t.desiredMinTx || m.requiredMinRx != t.requiredMinRx
	m.timing = t
	switch {
	case m.state != Up:
		m.adopt()
	case paced:
		m.repace()
	}
	if m.detectionTime() < told && !m.lastRx.IsZero() {
		m.hold(now, old)
	}
	m.settle(now)
}

// repace begins a poll sequence for new intervals. What makes us expect more, or
// send less, than the peer knows waits for its end; the rest is in force at once.
func (m *machine) repace() {
	m.txBase = min(m.txBase, m.minTx())
	m.rxBase = max(m.rxBase, m.requiredMinRx)
	if m.polling {
		// What is answered next may be the older question.
		m.pollNext = m.pollNext || m.polled
		return
	}
	m.polling, m.polled = true, false
	m.hasten()
}

// adopt puts the intervals in force that the peer now knows. With another
// question to come it may know older ones only, and nothing is adopted.
func (m *machine) adopt() {
	if m.pollNext {
		return
	}
	m.txBase, m.rxBase = m.minTx(), m.requiredMinRx
}

// hasten keeps the new interval from the last packet on (6.8.3).
func (m *machine) hasten() {
	if i := m.interval(); i != 0 {
		if t := m.lastTx.Add(m.jittered(i)); m.nextTx.IsZero() || t.Before(m.nextTx) {
			m.nextTx = t
		}
	}
}

// disable takes the session down on purpose and says so at once.
func (m *machine) disable(now time.Time) {
	m.enter(now, AdminDown, DiagAdminDown)
	m.transmit(now)
}

// settle sends what the peer does not know yet, and keeps the timer running or
// stopped as the peer wants.
func (m *machine) settle(now time.Time) {
	news := m.current() != m.sent || (m.polling && !m.polled)
	switch {
	case news && now.Sub(m.lastTx) >= gap:
		m.transmit(now)
	case news:
		if t := m.lastTx.Add(gap); m.nextTx.IsZero() || t.Before(m.nextTx) {
			m.nextTx = t
		}
	case m.interval() == 0:
		m.nextTx = time.Time{}
	case m.nextTx.IsZero():
		m.hasten()
	}
}

// current is the packet that describes the session as it is.
func (m *machine) current() packet {
	return packet{
		Diagnostic: m.diag, State: m.state, DetectMult: m.detectMult,
		Mine: m.local, Yours: m.remote.discr,
		DesiredMinTx: m.minTx(), RequiredMinRx: m.requiredMinRx,
	}
}

// transmit sends a packet and sets the timer for the next one.
func (m *machine) transmit(now time.Time) {
	p := m.current()
	m.sent = p
	p.Poll = m.polling
	m.polled = m.polling
	m.out = append(m.out, p)
	m.lastTx, m.nextTx = now, time.Time{}
	if i := m.interval(); i != 0 {
		m.nextTx = now.Add(m.jittered(i))
	}
}

// answer replies to a Poll, whatever the timer says. It leaves the timer alone:
// a peer that polls all the time must not keep our own Poll from being sent.
func (m *machine) answer(now time.Time) {
	p := m.current()
	m.sent = p
	p.Final = true
	m.out = append(m.out, p)
	m.lastTx = now
}

// take returns the packets that are to be sent.
func (m *machine) take() []packet {
	out := m.out
	m.out = nil
	return out
}

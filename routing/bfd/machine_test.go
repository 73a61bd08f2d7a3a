// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"math/rand/v2"
	"testing"
	"time"
)

const ms = time.Millisecond

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fast  = timing{desiredMinTx: 50 * ms, requiredMinRx: 50 * ms, detectMult: 3}
)

// whole is a jitter that takes nothing away.
func whole() float64 { return 1 }

// said is a packet of a peer with discriminator 2.
func said(s State, tx, rx time.Duration) packet {
	return packet{State: s, DetectMult: 3, Mine: 2, Yours: 1, DesiredMinTx: tx, RequiredMinRx: rx}
}

func polls(p packet) packet    { p.Poll = true; return p }
func finishes(p packet) packet { p.Final = true; return p }

// upMachine is Up at now, with a peer of the same pace, no poll sequence runs,
// and what it sent was taken.
func upMachine(t *testing.T) (*machine, time.Time) {
	t.Helper()
	m := newMachine(start, fast, 1, whole)
	now := start
	for _, p := range []packet{
		said(Down, time.Second, 50*ms), said(Init, time.Second, 50*ms),
		polls(said(Up, 50*ms, 50*ms)), finishes(said(Up, 50*ms, 50*ms)), said(Up, 50*ms, 50*ms),
	} {
		m.advance(now)
		m.receive(now, p)
		now = now.Add(20 * ms)
		m.advance(now)
	}
	if m.state != Up || m.polling || m.patience() != 150*ms || m.interval() != 50*ms {
		t.Fatalf("state %v, polling %v, patience %v, interval %v", m.state, m.polling, m.patience(), m.interval())
	}
	m.take()
	return m, now
}

// TestTransitions is the figure of RFC 5880, 6.2, with 6.8.6 for AdminDown.
func TestTransitions(t *testing.T) {
	for _, test := range []struct {
		state, heard, want State
		diag               Diagnostic
	}{
		{Down, AdminDown, Down, DiagNone},
		{Down, Down, Init, DiagNone},
		{Down, Init, Up, DiagNone},
		{Down, Up, Down, DiagNone},
		{Init, AdminDown, Down, DiagNeighborSignaled},
		{Init, Down, Init, DiagNone},
		{Init, Init, Up, DiagNone},
		{Init, Up, Up, DiagNone},
		{Up, AdminDown, Down, DiagNeighborSignaled},
		{Up, Down, Down, DiagNeighborSignaled},
		{Up, Init, Up, DiagNone},
		{Up, Up, Up, DiagNone},
	} {
		t.Run(test.state.String()+" hears "+test.heard.String(), func(t *testing.T) {
			m := newMachine(start, fast, 1, whole)
			m.state = test.state
			if why := m.receive(start, said(test.heard, time.Second, time.Second)); why != "" {
				t.Fatalf("discarded: %s", why)
			}
			if m.state != test.want || m.diag != test.diag || m.remote.state != test.heard {
				t.Errorf("%v (%v), remote %v; want %v (%v)", m.state, m.diag, m.remote.state, test.want, test.diag)
			}
		})
	}
	for _, test := range []struct{ state, want State }{{Down, Down}, {Init, Down}, {Up, Down}, {AdminDown, AdminDown}} {
		t.Run(test.state.String()+" hears nothing", func(t *testing.T) {
			m := newMachine(start, fast, 1, whole)
			m.receive(start, said(Down, time.Second, time.Second))
			m.state = test.state
			m.advance(start.Add(3*time.Second - 1))
			if m.state != test.state {
				t.Fatalf("%v too early", m.state)
			}
			m.advance(start.Add(3 * time.Second))
			if m.state != test.want || m.remote.discr != 0 {
				t.Errorf("%v, remote discriminator %d", m.state, m.remote.discr)
			}
		})
	}
}

func TestDiscards(t *testing.T) {
	m, now := upMachine(t)
	p := said(Down, time.Second, time.Second)
	p.Auth = true
	if why := m.receive(now, p); why != DiscardAuth || m.state != Up || m.remote.minTx != 50*ms {
		t.Errorf("%q, %v: %+v", why, m.state, m.remote)
	}
	m.disable(now)
	if out := m.take(); len(out) != 1 || out[0].State != AdminDown || out[0].Diagnostic != DiagAdminDown {
		t.Errorf("disabled: %+v", out)
	}
	if why := m.receive(now, polls(said(Up, 50*ms, 50*ms))); why != DiscardAdminDown || len(m.take()) != 0 {
		t.Errorf("%q", why)
	}
}

// TestPoll: a Poll is repeated until Final, and each Poll of the peer is answered.
func TestPoll(t *testing.T) {
	m, now := upMachine(t)
	m.change(now, timing{desiredMinTx: 100 * ms, requiredMinRx: 100 * ms, detectMult: 3})
	for range 5 {
		for now = m.next(); m.next().Equal(now); {
			m.advance(now)
		}
		m.receive(now, said(Up, 50*ms, 50*ms))
		out := m.take()
		if len(out) != 1 || !out[0].Poll || out[0].DesiredMinTx != 100*ms || out[0].RequiredMinRx != 100*ms {
			t.Fatalf("want one Poll, have %+v", out)
		}
		if m.interval() != 50*ms {
			t.Fatalf("interval %v while the peer may not know", m.interval())
		}
	}
	m.receive(now, polls(said(Up, 50*ms, 50*ms)))
	if out := m.take(); len(out) != 1 || !out[0].Final || out[0].Poll {
		t.Fatalf("answer to a Poll: %+v", out)
	}
	m.receive(now, finishes(said(Up, 50*ms, 50*ms)))
	if m.polling || m.interval() != 100*ms {
		t.Errorf("after Final: polling %v, interval %v", m.polling, m.interval())
	}
	m.advance(m.next())
	if out := m.take(); len(out) != 1 || out[0].Poll {
		t.Errorf("after Final: %+v", out)
	}
}

// TestLateFinal: the answer to a question that was asked before the last change
// changes nothing.
func TestLateFinal(t *testing.T) {
	m, now := upMachine(t)
	slower := timing{desiredMinTx: 400 * ms, requiredMinRx: 400 * ms, detectMult: 3}
	m.change(now, slower)
	m.receive(now, finishes(said(Up, 50*ms, 50*ms))) // nothing was asked yet
	m.advance(m.next())
	if !m.polling || m.interval() != 50*ms {
		t.Fatalf("polling %v, interval %v", m.polling, m.interval())
	}
	m.change(now, timing{desiredMinTx: 500 * ms, requiredMinRx: 500 * ms, detectMult: 3})
	m.receive(now, finishes(said(Up, 50*ms, 50*ms))) // the first question
	if m.interval() != 50*ms {
		t.Fatalf("interval %v by an older answer", m.interval())
	}
	m.receive(now, said(Up, 50*ms, 50*ms))
	m.advance(m.next())
	m.receive(now, finishes(said(Up, 50*ms, 50*ms)))
	if m.polling || m.interval() != 500*ms {
		t.Errorf("polling %v, interval %v", m.polling, m.interval())
	}
}

// TestShorterDetection: what the peer is told or tells counts when it has begun
// to send faster.
func TestShorterDetection(t *testing.T) {
	m, now := upMachine(t)
	wait := func(want time.Duration, when string) {
		t.Helper()
		if m.patience() != want {
			t.Fatalf("%s the peer may be silent for %v, want %v", when, m.patience(), want)
		}
	}
	m.change(now, timing{desiredMinTx: 50 * ms, requiredMinRx: time.Second, detectMult: 3})
	wait(3*time.Second, "when more is wanted, at once")
	m.advance(m.next())
	m.receive(now, finishes(said(Up, 50*ms, 50*ms)))
	m.change(now, fast)
	m.advance(m.next())
	wait(3*time.Second, "while it polls")
	m.receive(now, said(Up, 50*ms, 50*ms))
	wait(3*time.Second, "while the answer is out")
	m.receive(now, finishes(said(Up, 50*ms, 50*ms)))
	wait(3*time.Second, "for the first packet")
	m.receive(now, said(Up, 50*ms, 50*ms))
	wait(150*ms, "after the first packet")

	m.receive(now, said(Up, time.Second, 50*ms))
	wait(3*time.Second, "a slow peer")
	for range 3 { // it keeps its pace until it hears Final, as FRR does
		m.receive(now, polls(said(Up, 50*ms, 50*ms)))
		wait(3*time.Second, "when the peer polls")
		now = now.Add(900 * ms)
		m.advance(now)
	}
	m.receive(now, said(Up, 50*ms, 50*ms))
	wait(150*ms, "when the poll sequence has ended")

	m.receive(now, said(Up, 100*ms, 50*ms))
	for range 7 { // it polls for good
		m.receive(now, polls(said(Up, 50*ms, 50*ms)))
		now = now.Add(50 * ms)
	}
	wait(150*ms, "when the old time has passed")
}

// TestPeerPace: no periodic packets for a peer that wants none, or in demand mode.
func TestPeerPace(t *testing.T) {
	m, now := upMachine(t)
	m.receive(now, said(Up, 50*ms, 0))
	if m.interval() != 0 || !m.nextTx.IsZero() {
		t.Errorf("interval %v for a peer that wants nothing", m.interval())
	}
	m.receive(now, said(Up, 50*ms, 200*ms))
	if m.interval() != 200*ms || m.nextTx.Sub(m.lastTx) != 200*ms {
		t.Errorf("interval %v, next after %v", m.interval(), m.nextTx.Sub(m.lastTx))
	}
	m.receive(now, said(Up, 50*ms, 70*ms))
	if m.nextTx.Sub(m.lastTx) != 70*ms {
		t.Errorf("a shorter interval counts %v from the last packet", m.nextTx.Sub(m.lastTx))
	}
	p := said(Up, 50*ms, 50*ms)
	p.Demand = true
	m.receive(now, p)
	if m.interval() != 0 || !m.nextTx.IsZero() {
		t.Errorf("interval %v in demand mode", m.interval())
	}
	m.change(now, timing{desiredMinTx: 60 * ms, requiredMinRx: 60 * ms, detectMult: 3})
	if m.advance(m.next()); m.interval() == 0 {
		t.Error("a Poll is not repeated in demand mode")
	}
}

func TestJitter(t *testing.T) {
	for _, test := range []struct {
		mult     uint8
		min, max time.Duration
	}{{3, 75 * ms, 100 * ms}, {1, 75 * ms, 90 * ms}} {
		m := newMachine(start, timing{100 * ms, 100 * ms, test.mult}, 1, rand.Float64)
		for range 1000 {
			if d := m.jittered(100 * ms); d < test.min || d > test.max {
				t.Fatalf("multiplier %d: %v", test.mult, d)
			}
		}
	}
}

// flying is a packet on its way.
type flying struct {
	at time.Time
	to int
	p  packet
}

// link is two machines and what is between them.
type link struct {
	ends  [2]*machine
	now   time.Time
	delay time.Duration
	lose  func(packet) bool
	air   []flying
}

func newLink(r *rand.Rand, a, b timing) *link {
	return &link{now: start, delay: 3 * ms, lose: func(packet) bool { return false }, ends: [2]*machine{
		newMachine(start, a, 1, r.Float64), newMachine(start, b, 2, r.Float64)}}
}

// run lets time pass.
func (l *link) run(d time.Duration) {
	for end := l.now.Add(d); ; {
		for i, m := range l.ends {
			for _, p := range m.take() {
				if !l.lose(p) {
					l.air = append(l.air, flying{l.now.Add(l.delay), 1 - i, p})
				}
			}
		}
		next := end
		for _, m := range l.ends {
			if t := m.next(); !t.IsZero() && t.Before(next) {
				next = t
			}
		}
		if len(l.air) > 0 && !next.Before(l.air[0].at) {
			f := l.air[0]
			l.air, l.now = l.air[1:], f.at
			l.ends[f.to].receive(l.now, f.p)
			continue
		}
		if next.After(l.now) {
			l.now = next
		}
		if !l.now.Before(end) {
			return
		}
		for _, m := range l.ends {
			m.advance(l.now)
		}
	}
}

// TestChangesKeepUp changes parameters at any time, at both ends, while some
// packets with Final, which matter most here, are lost.
func TestChangesKeepUp(t *testing.T) {
	intervals := []time.Duration{10 * ms, 50 * ms, 300 * ms, 2 * time.Second}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		pick := func() timing {
			return timing{intervals[r.IntN(4)], intervals[r.IntN(4)], uint8(2 + r.IntN(3))}
		}
		l := newLink(r, pick(), pick())
		l.run(15 * time.Second)
		last := false
		l.lose = func(p packet) bool { // never two of them
			last = p.Final && !last && r.IntN(2) == 0
			return last
		}
		for range 40 {
			l.ends[r.IntN(2)].change(l.now, pick())
			l.run(time.Duration(r.IntN(3000)) * ms)
			for i, m := range l.ends {
				if m.state != Up || m.downs != 0 {
					t.Fatalf("seed %d: end %d is %v after %v (%v), was down %d times", seed, i, m.state, l.now.Sub(start), m.diag, m.downs)
				}
			}
		}
		l.lose = func(packet) bool { return false }
		l.run(20 * time.Second)
		for i, m := range l.ends {
			other := l.ends[1-i]
			if m.polling || m.interval() != max(m.desiredMinTx, other.requiredMinRx) ||
				m.patience() != time.Duration(other.detectMult)*max(m.requiredMinRx, other.desiredMinTx) {
				t.Errorf("seed %d: end %d: polling %v, interval %v, patience %v", seed, i, m.polling, m.interval(), m.patience())
			}
		}
	}
}

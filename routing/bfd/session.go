// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"math/rand/v2"
	"time"
)

// session is a machine with a path for its packets.
type session struct {
	Session
	machine *machine
	path    path   // nil: could not be opened
	port    uint16 // that path sends from, or that one before it did; 0: none
	err     error  // of the last packet
	told    Status
	// until is when a session that is not wanted any more has told its peer often
	// enough; zero: it is wanted.
	until time.Time
}

// join begins a wanted session.
func (e *Engine) join(w Session, now time.Time) *session {
	// One that takes its leave from the same peer would contradict it.
	for _, s := range e.byDiscr {
		if !s.until.IsZero() && s.key() == w.key() {
			e.drop(s)
		}
	}
	discr := rand.Uint32()
	for discr == 0 || e.byDiscr[discr] != nil {
		discr = rand.Uint32()
	}
	s := &session{Session: w, machine: newMachine(now, w.timing(), discr, rand.Float64)}
	e.sessions[w.Name], e.byDiscr[discr] = s, s
	return s
}

// leave tells the peer of a session that it is not wanted any more, for as long
// as the peer would wait for us (RFC 5880, 6.8.16).
func (e *Engine) leave(s *session, now time.Time) {
	delete(e.sessions, s.Name)
	if e.notify != nil {
		e.notify.forget(s.Name)
	}
	s.machine.disable(now)
	interval := min(max(s.machine.minTx(), s.machine.remote.minRx), MaxInterval)
	s.until = now.Add(time.Duration(s.DetectMult) * interval)
	e.flush(s, now)
}

// drop forgets a session.
func (e *Engine) drop(s *session) {
	s.shut()
	delete(e.byDiscr, s.machine.local)
}

// next is when the session has something to do.
func (s *session) next() time.Time {
	t := s.machine.next()
	if !s.until.IsZero() && (t.IsZero() || s.until.Before(t)) {
		return s.until
	}
	return t
}

// flush sends what the machine wants sent, and ends a session that has said
// goodbye.
func (e *Engine) flush(s *session, now time.Time) {
	for _, p := range s.machine.take() {
		e.send(s, p)
	}
	if !s.until.IsZero() && !now.Before(s.until) {
		e.drop(s)
		_ = e.listen(now) // told in the statuses
	}
}

func (e *Engine) send(s *session, p packet) {
	if s.err != nil && s.machine.state != Up {
		s.shut() // the address or the interface may have come back as another
	}
	if s.path == nil {
		if s.path, s.err = e.transport.open(s.Session, s.port); s.err != nil {
			s.path = nil
			e.counted.SendErrors++
			return
		}
		s.port = s.path.source()
	}
	if s.err = s.path.send(p.append(nil)); s.err != nil {
		e.counted.SendErrors++
		return
	}
	e.counted.Sent++
}

func (s *session) shut() {
	if s.path != nil {
		s.path.close()
		s.path = nil
	}
}

// take gives a datagram to its session.
func (e *Engine) take(d datagram) {
	e.counted.Received++
	if why := e.dispatch(d); why != "" {
		e.counted.Discarded[why]++
	}
}

// dispatch follows RFC 5880, 6.8.6 and the rules for TTLs of RFC 5881, 5 and RFC
// 5883, 5.
func (e *Engine) dispatch(d datagram) Discard {
	if !d.multihop && d.ttl != 255 {
		return DiscardTTL
	}
	p, why := parse(d.payload)
	if why != "" {
		return why
	}
	var s *session
	switch {
	case p.Yours != 0:
		s = e.byDiscr[p.Yours]
		// The other port has another rule for the TTL, which must not be evaded.
		if s == nil || s.Multihop != d.multihop {
			return DiscardYourDiscriminator
		}
	case p.State != Down && p.State != AdminDown:
		return DiscardState
	default:
		if s = e.match(d); s == nil {
			return DiscardNoSession
		}
	}
	if d.ttl < int(s.MinTTL) {
		return DiscardTTL
	}
	if !s.on(d.ifindex) {
		return DiscardInterface
	}
	why = s.machine.receive(d.at, p)
	e.flush(s, d.at)
	return why
}

// match finds the wanted session of a peer that does not know our discriminator
// yet. The one that asks for more is meant.
func (e *Engine) match(d datagram) *session {
	var best *session
	rank := -1
	for _, s := range e.sessions {
		r := 0
		if s.Multihop != d.multihop || s.Peer != d.src {
			continue
		}
		if s.Local.IsValid() {
			if s.Local != d.dst {
				continue
			}
			r += 2
		}
		if !s.on(d.ifindex) {
			continue
		}
		if s.Interface != "" {
			r++
		}
		if r > rank {
			best, rank = s, r
		}
	}
	return best
}

// on says whether packets of the session may come by an interface.
func (s *session) on(ifindex int) bool {
	return s.Interface == "" || (s.path != nil && s.path.ifindex() == ifindex)
}

// status describes the session; deaf is why packets may not be received.
func (s *session) status(deaf error) Status {
	m := s.machine
	st := Status{
		Name: s.Name, State: m.state, Diagnostic: m.diag, Since: m.since, Downs: m.downs,
		RemoteState: m.remote.state, RemoteDiagnostic: m.remote.diag,
		LocalDiscriminator: m.local, RemoteDiscriminator: m.remote.discr,
		TxInterval: m.interval(), DetectionTime: m.patience(),
	}
	switch {
	case s.err != nil:
		st.Error = s.err.Error()
	case deaf != nil:
		st.Error = deaf.Error()
	}
	return st
}

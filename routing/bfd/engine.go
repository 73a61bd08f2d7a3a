// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// queued is how many datagrams may wait for the engine; readers wait then.
	queued = 256
	// late is how much later than due the engine may look for silent peers. Later
	// than that, the process had no processor, and its readers had none either:
	// they get respite to bring what has arrived.
	late    = 10 * time.Millisecond
	respite = 10 * time.Millisecond
	// retry is how often sockets that could not be opened are tried again.
	retry = time.Second
)

// ErrStopped is returned by Set after Run has ended.
var ErrStopped = errors.New("BFD has stopped")

// Params are the parameters of New.
type Params struct {
	// OnState is told the status of a session when anything of it changes, and
	// when the session begins. Status has it by then, or what came after it. All calls come from one goroutine, in order. It may
	// take its time, but of more than 32 statuses of a session that wait for it
	// the oldest are dropped. Optional.
	OnState func(name string, s Status)
	// OnCheckpoint is told what another engine needs to go on with the wanted
	// sessions (Resume) whenever that changes, which is when a session begins, ends
	// or changes its state, and when a peer asks for other intervals. The engine
	// waits for it. Optional.
	OnCheckpoint func(Checkpoint)
}

// Engine runs the node's BFD sessions.
type Engine struct {
	onState  func(string, Status)
	onSave   func(Checkpoint)
	requests chan request
	stopped  chan struct{}
	arrived  chan datagram
	halt     chan struct{} // closed when readers need not deliver any more
	// transport is what newTransport makes in Run; tests have their own.
	newTransport func(deliver func(datagram)) transport

	// Owned by Run's goroutine.
	transport transport
	notify    *notifier
	sessions  map[string]*session // wanted, by name
	byDiscr   map[uint32]*session // wanted ones and those that take their leave
	counted   Counters
	saved     Checkpoint // as onSave was told
	deaf      error      // why a socket that receives is not open
	retryAt   time.Time  // when that is tried again; zero: never

	mu       sync.Mutex
	statuses []Status
	counters Counters
}

type request struct {
	sessions []Session
	done     chan error
}

// New returns an engine that does nothing before Run.
func New(p Params) *Engine {
	return &Engine{
		onState:      p.OnState,
		onSave:       p.OnCheckpoint,
		requests:     make(chan request),
		stopped:      make(chan struct{}),
		arrived:      make(chan datagram, queued),
		halt:         make(chan struct{}),
		newTransport: func(deliver func(datagram)) transport { return newUDP(deliver) },
		sessions:     map[string]*session{},
		byDiscr:      map[uint32]*session{},
		counted:      Counters{Discarded: map[Discard]uint64{}},
	}
}

// Run runs sessions until ctx ends, and returns nil. It may be called once. At
// the end it sends nothing: the peers notice after their detection time. For a
// deliberate end call Set without sessions before.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.stopped)
	e.transport = e.newTransport(e.deliver)
	var notifying sync.WaitGroup
	defer notifying.Wait()
	defer e.stop()
	if e.onState != nil {
		e.notify = newNotifier(e.onState)
		notifying.Go(func() { e.notify.run(e.halt) })
	}
	_ = e.listen(time.Now()) // for what was resumed; told in the statuses
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due := e.due()
		if due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return nil
		case r := <-e.requests:
			err := e.apply(r.sessions)
			e.publish()
			r.done <- err
			continue
		case d := <-e.arrived:
			e.take(d)
			e.drain()
		case <-timer.C:
			if now := time.Now(); now.Sub(due) > late {
				e.listenFor(respite)
			}
			e.drain()
			e.advance(time.Now())
		}
		e.publish()
	}
}

// stop closes sockets and ends the readers and the notifier.
func (e *Engine) stop() {
	close(e.halt)
	e.transport.close()
	for _, s := range e.byDiscr {
		s.shut()
	}
}

// deliver is called by readers.
func (e *Engine) deliver(d datagram) {
	select {
	case e.arrived <- d:
	case <-e.halt:
	}
}

// drain takes what has arrived, so that no session expires over a packet that is
// there. It is bounded: a flood must not stop the timers.
func (e *Engine) drain() {
	for range queued {
		select {
		case d := <-e.arrived:
			e.take(d)
		default:
			return
		}
	}
}

// listenFor takes what arrives for a while.
func (e *Engine) listenFor(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case d := <-e.arrived:
			e.take(d)
		case <-timer.C:
			return
		}
	}
}

// due is when the first session has something to do; zero: never. There are as
// many sessions as a node has routers: they are looked at one by one.
func (e *Engine) due() time.Time {
	first := e.retryAt
	for _, s := range e.byDiscr {
		if t := s.next(); !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// advance does what is due.
func (e *Engine) advance(now time.Time) {
	if !e.retryAt.IsZero() && !now.Before(e.retryAt) {
		_ = e.listen(now) // told in the statuses
	}
	for _, s := range e.byDiscr {
		s.machine.advance(now)
		e.flush(s, now)
	}
}

// Set makes sessions all that are wanted. Those that run as wanted are not
// disturbed, changed intervals are agreed on with the peer while the session
// stays up, and those that are not wanted any more are told AdminDown before Set
// returns. A session that is wrong is named in the error and left out, the rest
// is done. A socket that cannot be opened now (an address that is not there yet)
// is an error too, and is tried again without being asked. Set waits for Run, or
// for the end of ctx. It must not be called from OnState.
func (e *Engine) Set(ctx context.Context, sessions []Session) error {
	r := request{sessions: slices.Clone(sessions), done: make(chan error, 1)}
	select {
	case e.requests <- r:
	case <-e.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-r.done
}

// Status returns the status of all wanted sessions, sorted by name.
func (e *Engine) Status() []Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.statuses)
}

// Counters returns the counters of packets.
func (e *Engine) Counters() Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.counters
	c.Discarded = maps.Clone(c.Discarded)
	return c
}

// apply is Set.
func (e *Engine) apply(sessions []Session) error {
	now := time.Now()
	wanted, err := normalizeAll(sessions)
	for name, s := range e.sessions {
		if w, ok := wanted[name]; !ok || w.key() != s.key() {
			e.leave(s, now)
		}
	}
	errs := []error{err}
	var fresh []*session
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		w := wanted[name]
		if s := e.sessions[name]; s != nil {
			s.Session = w
			s.machine.change(now, w.timing())
			e.flush(s, now)
			continue
		}
		fresh = append(fresh, e.join(w, now))
	}
	// Sockets that receive are open before the first packet asks for an answer.
	errs = append(errs, e.listen(now))
	for _, s := range fresh {
		s.machine.advance(now)
		e.flush(s, now)
		if s.err != nil {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}

// normalizeAll returns the good sessions by name, and what is wrong with others.
func normalizeAll(sessions []Session) (map[string]Session, error) {
	wanted := map[string]Session{}
	names := map[key]string{}
	var errs []error
	for _, s := range sessions {
		s, err := s.normalize()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, ok := wanted[s.Name]; ok {
			errs = append(errs, fmt.Errorf("BFD session %q: there are two of this name", s.Name))
			continue
		}
		if other, ok := names[s.key()]; ok {
			errs = append(errs, fmt.Errorf("BFD session %q: it is the same as %q", s.Name, other))
			continue
		}
		wanted[s.Name], names[s.key()] = s, s.Name
	}
	return wanted, errors.Join(errs...)
}

// listen opens the sockets that the sessions need, and closes others.
func (e *Engine) listen(now time.Time) error {
	want := map[listener]bool{}
	for _, s := range e.byDiscr {
		want[listener{v6: s.Peer.Is6(), multihop: s.Multihop}] = true
	}
	e.deaf, e.retryAt = e.transport.listen(want), time.Time{}
	if e.deaf != nil {
		e.retryAt = now.Add(retry)
	}
	return e.deaf
}

// publish makes statuses and counters readable and tells what has changed.
func (e *Engine) publish() {
	statuses := make([]Status, 0, len(e.sessions))
	var news []Status
	for _, s := range e.sessions {
		st := s.status(e.deaf)
		if st != s.told {
			s.told = st
			news = append(news, st)
		}
		statuses = append(statuses, st)
	}
	slices.SortFunc(statuses, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	e.mu.Lock()
	e.statuses = statuses
	e.counters = e.counted
	e.counters.Discarded = maps.Clone(e.counted.Discarded)
	e.mu.Unlock()
	if e.onSave != nil {
		if c := e.checkpoint(); !slices.Equal(c, e.saved) {
			e.saved = c
			e.onSave(slices.Clone(c))
		}
	}
	// Last: who is told may ask for the statuses.
	if e.notify != nil {
		for _, st := range news {
			e.notify.add(st)
		}
	}
}

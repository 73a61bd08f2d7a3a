// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// queued is how many datagrams may wait for the engine; readers wait then.
	queued = 1024
	// late is how much later than due the engine may look at its paths. Later than
	// that, the process had no processor, and its readers had none either: they get
	// respite to bring what has arrived.
	late    = 50 * time.Millisecond
	respite = 20 * time.Millisecond
	// retry is how often sockets that could not be opened are tried again.
	retry = time.Second
)

// ErrStopped is returned by Set after Run has ended.
var ErrStopped = errors.New("probing has stopped")

// Engine probes the node's paths and answers the probes of others.
type Engine struct {
	params   Params
	requests chan request
	stopped  chan struct{}
	arrived  chan datagram
	halt     chan struct{} // closed when readers need not deliver any more
	changed  chan struct{} // holds one: there are verdicts to tell
	nonce    uint64
	// newTransport is what makes the transport in Run; tests have their own.
	newTransport func(deliver func(datagram)) transport

	// Owned by Run's goroutine.
	transport transport
	retryAt   time.Time // when sockets are opened again; zero: all are open

	mu      sync.Mutex // held where Run changes what follows, and by its readers
	config  Config
	paths   map[key]*path
	byAddr  map[netip.Addr]*path
	local   map[bool]netip.Addr // by IPv6
	answer  map[netip.Addr]bool
	extra   bucket // confirming probes
	replies bucket
	counted Counters
}

// path is a target with what is known of it.
type path struct {
	Target
	machine *machine
	next    time.Time // when there is something to do
	works   bool      // as told last
	class   Class
}

type request struct {
	config Config
	done   chan error
}

// New returns an engine that does nothing before Run.
func New(p Params) *Engine {
	p = p.defaults()
	return &Engine{
		params:       p,
		requests:     make(chan request),
		stopped:      make(chan struct{}),
		arrived:      make(chan datagram, queued),
		halt:         make(chan struct{}),
		changed:      make(chan struct{}, 1),
		nonce:        rand.Uint64(),
		newTransport: func(deliver func(datagram)) transport { return newUDP(p.Flows, deliver) },
		paths:        map[key]*path{},
		byAddr:       map[netip.Addr]*path{},
		local:        map[bool]netip.Addr{},
		answer:       map[netip.Addr]bool{},
		extra:        newBucket(float64(p.Budget) * shareExtra),
		replies:      newBucket(float64(p.Budget)),
		counted:      Counters{Discarded: map[Discard]uint64{}},
	}
}

// Run probes and answers until ctx ends, and returns nil. It may be called once.
// Peers that probe us see silence then.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.stopped)
	e.transport = e.newTransport(e.deliver)
	var telling sync.WaitGroup
	defer telling.Wait()
	defer e.transport.close()
	defer close(e.halt)
	if e.params.OnVerdicts != nil {
		telling.Go(e.tell)
	}
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
			r.done <- e.apply(r.config)
			continue
		case d := <-e.arrived:
			e.take(d)
			e.drain()
		case <-timer.C:
		}
		now := time.Now()
		if due.IsZero() || now.Before(due) {
			continue
		}
		if away := now.Sub(due); away > late {
			e.excuse(away)
			e.listenFor(respite)
		}
		e.drain()
		e.advance(time.Now())
	}
}

// deliver is called by readers.
func (e *Engine) deliver(d datagram) {
	select {
	case e.arrived <- d:
	case <-e.halt:
	}
}

// drain takes what has arrived, so that no path fails over an answer that is
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

// excuse tells all paths that we were away.
func (e *Engine) excuse(away time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.paths {
		p.machine.excuse(away)
	}
}

// due is when the first path has something to do; zero: never.
func (e *Engine) due() time.Time {
	first := e.retryAt
	for _, p := range e.paths {
		if !p.next.IsZero() && (first.IsZero() || p.next.Before(first)) {
			first = p.next
		}
	}
	return first
}

// advance does what is due.
func (e *Engine) advance(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.retryAt.IsZero() && !now.Before(e.retryAt) {
		_ = e.listen(now) // seen in what cannot be sent
	}
	for _, p := range e.paths {
		if !p.next.IsZero() && !now.Before(p.next) {
			e.step(p, now)
		}
	}
}

// step does what is due of a path.
func (e *Engine) step(p *path, now time.Time) {
	p.machine.advance(now)
	for _, s := range p.machine.poll(now, func() bool { return e.extra.take(now) }) {
		e.ask(p, s, now)
	}
	p.next = p.machine.next(now)
	e.compare(p, now)
}

// compare has the verdicts told when one of them is another than before.
func (e *Engine) compare(p *path, now time.Time) {
	v := p.machine.verdict(now)
	if v.Works == p.works && v.Class == p.class {
		return
	}
	p.works, p.class = v.Works, v.Class
	e.mark()
}

func (e *Engine) mark() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// tell calls OnVerdicts whenever there is something new, until the end.
func (e *Engine) tell() {
	for {
		select {
		case <-e.halt:
			return
		case <-e.changed:
			e.params.OnVerdicts(e.Status())
		}
	}
}

// Set makes c all that is wanted. Targets that stay keep what is known of them.
// What is wrong is named in the error and left out, the rest is done. A socket
// that cannot be opened now is an error too, and is tried again without being
// asked. Set waits for Run, or for the end of ctx. It must not be called
// from OnVerdicts.
func (e *Engine) Set(ctx context.Context, c Config) error {
	r := request{config: c, done: make(chan error, 1)}
	select {
	case e.requests <- r:
	case <-e.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-r.done
}

// Status returns the verdicts on all targets, sorted by node and family.
func (e *Engine) Status() []Verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	out := make([]Verdict, 0, len(e.paths))
	for _, p := range e.paths {
		v := p.machine.verdict(now)
		v.Node, v.Family = p.Node, p.Family
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Family, b.Family))
	})
	return out
}

// Counters returns the counters of packets.
func (e *Engine) Counters() Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.counted
	c.Discarded = maps.Clone(c.Discarded)
	return c
}

// apply is Set.
func (e *Engine) apply(c Config) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	c, wrong := c.normalize()
	e.local, e.answer = map[bool]netip.Addr{}, map[netip.Addr]bool{}
	for _, a := range c.Local {
		e.local[a.Is6()] = a
	}
	for _, a := range c.Answer {
		e.answer[a] = true
	}
	e.config = c
	deaf := e.listen(now)

	probed := 0
	for _, t := range c.Targets {
		if t.Route != "" {
			probed++
		}
	}
	interval := e.params.stretched(probed)
	paths, byAddr := map[key]*path{}, map[netip.Addr]*path{}
	for _, t := range c.Targets {
		p := e.paths[t.key()]
		if p == nil {
			p = &path{machine: newMachine(now, e.params, t, interval, rand.Float64)}
			e.mark()
		} else {
			p.machine.interval = interval
			p.machine.change(now, t)
		}
		p.Target, p.next = t, p.machine.next(now)
		paths[t.key()], byAddr[t.Address] = p, p
		e.compare(p, now)
	}
	for k := range e.paths {
		if paths[k] == nil {
			e.mark()
		}
	}
	e.paths, e.byAddr = paths, byAddr
	return errors.Join(wrong, deaf)
}

// listen opens the sockets of our addresses, and closes others.
func (e *Engine) listen(now time.Time) error {
	err := e.transport.listen(e.config.Local)
	if e.retryAt = (time.Time{}); err != nil {
		e.retryAt = now.Add(retry)
	}
	return err
}

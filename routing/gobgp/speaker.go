// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing"
)

const (
	// settle is how long routes may gather before they are delivered.
	settle = 10 * time.Millisecond
	// pause is how many times as long as reading the routes took the speaker
	// rests before it reads them again: a peer that floods it costs at most
	// a fifth of a CPU.
	pause = 4
	// tick is how often timers of convergence and counters are looked at.
	tick = time.Second
)

// ErrStopped is returned by Set and Shutdown after Run has ended.
var ErrStopped = errors.New("BGP speaker has stopped")

// Params are the parameters of New.
type Params struct {
	// OnRoutes is told all learned routes whenever they or their convergence
	// change. Required.
	OnRoutes func(routing.PathEvent)
	// OnSessions is told the status of all peers, sorted by name, whenever one
	// changes. Optional.
	OnSessions func([]routing.SessionStatus)
}

// Speaker is the node's BGP speaker.
type Speaker struct {
	params   Params
	requests chan request
	stopped  chan struct{}
	watch    *watch
	limit    int       // of received prefixes a family
	started  time.Time // of Run

	// Owned by Run's goroutine.
	inst      *instance
	config    routing.BGPConfig
	told      bool // config
	suspended map[string]string
	filter    *routing.ImportFilter
	delivered *routing.PathEvent
	reported  []routing.SessionStatus

	probes   sync.WaitGroup
	mu       sync.Mutex
	sessions []routing.SessionStatus
}

// request is something for Run's goroutine to do.
type request struct {
	do   func(ctx context.Context) error
	done chan error
}

// New returns a speaker that does nothing before Run.
func New(p Params) *Speaker {
	return &Speaker{
		params:   p,
		requests: make(chan request),
		stopped:  make(chan struct{}),
		watch:    newWatch(),
		limit:    prefixLimit,
	}
}

// Run runs the speaker until ctx ends, then closes its sessions such that the
// peers keep our routes (graceful restart). It may be called once.
func (s *Speaker) Run(ctx context.Context) error {
	defer close(s.stopped)
	s.started = time.Now()
	s.watch.logger = klog.FromContext(ctx).WithName("bgp")
	routes := time.NewTimer(time.Hour)
	routes.Stop()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var rest time.Duration // since the last delivery cost so much
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			s.probes.Wait()
			return s.stop(false)
		case r := <-s.requests:
			r.done <- r.do(ctx)
			routes.Reset(settle)
		case <-s.watch.changed:
			routes.Reset(max(settle, rest-time.Since(last)))
		case <-routes.C:
			begin := time.Now()
			s.deliver(ctx)
			last = time.Now()
			rest = last.Sub(begin) * pause
		case <-ticker.C:
			s.deliver(ctx)
		}
	}
}

// Set makes the speaker what config says and changes only what differs: peers
// that stay as they are keep their sessions. A part that is wrong is named in
// the error and left out, the rest is done. Set waits for Run, or for the end
// of ctx.
func (s *Speaker) Set(ctx context.Context, config routing.BGPConfig) error {
	return s.ask(ctx, func(ctx context.Context) error { return s.apply(ctx, config) })
}

// ask has Run's goroutine do something, which gets Run's context.
func (s *Speaker) ask(ctx context.Context, do func(context.Context) error) error {
	r := request{do: do, done: make(chan error, 1)}
	select {
	case s.requests <- r:
	case <-s.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-s.stopped:
		return ErrStopped
	}
}

// Shutdown ends all sessions with Cease, so that the peers drop our routes at
// once: for the deliberate removal of the node from the network.
func (s *Speaker) Shutdown(ctx context.Context) error {
	return s.Set(ctx, routing.BGPConfig{})
}

// Sessions returns the status of all peers, sorted by name.
func (s *Speaker) Sessions() []routing.SessionStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// stop ends the running server; deliberate says whether with Cease.
func (s *Speaker) stop(deliberate bool) error {
	if s.inst == nil {
		return nil
	}
	err := s.inst.stop(deliberate)
	s.inst = nil
	return err
}

// deliver reads what changed and tells the callbacks.
func (s *Speaker) deliver(ctx context.Context) {
	now := time.Now()
	if s.inst == nil {
		if s.told && !s.waiting(now) {
			s.deliverRoutes(routing.PathEvent{Converged: true})
			s.deliverSessions(nil)
		}
		return
	}
	// Asked before the routes are read: a peer's last routes and its End-of-RIB
	// may come at any time, and an event that is said to be complete without
	// them would make its receiver remove what is in use.
	converged := !s.waiting(now) && s.inst.converged(now)
	readErr := s.inst.readRoutes(ctx, s.filter)
	err := errors.Join(readErr, s.inst.wake(ctx, now))
	sessions, statusErr := s.inst.status(ctx)
	if statusErr == nil {
		err = errors.Join(err, s.inst.free(ctx, sessions, now))
		s.deliverSessions(sessions)
	}
	if err = errors.Join(err, statusErr); err != nil && ctx.Err() == nil {
		s.watch.logger.Error(err, "Looking after BGP sessions failed")
	}
	s.explain(ctx, now)
	s.deliverRoutes(routing.PathEvent{
		Routes:    s.inst.selected(s.config.Speaker.MaximumPaths, s.suspended),
		Converged: converged && readErr == nil,
	})
}

// waiting says whether a peer may still come that was one in an earlier run.
func (s *Speaker) waiting(now time.Time) bool {
	return s.config.Incomplete && now.Sub(s.started) < gracefulRestart(s.config.Speaker, routing.Peer{}).RestartTime
}

// explain probes the peers whose sessions fail for a reason that GoBGP does
// not tell.
func (s *Speaker) explain(ctx context.Context, now time.Time) {
	for _, p := range s.watch.unexplained(now) {
		config := s.inst.config
		s.probes.Go(func() {
			found, err := probe(ctx, config, p)
			if err != nil {
				s.watch.logger.V(2).Info("Probing a BGP peer failed", "peer", p.Name, "err", err)
				return
			}
			s.watch.explain(p, found)
		})
	}
}

func (s *Speaker) deliverRoutes(ev routing.PathEvent) {
	if s.delivered != nil && s.delivered.Converged == ev.Converged && reflect.DeepEqual(s.delivered.Routes, ev.Routes) {
		return
	}
	s.delivered = &ev
	ev.At = time.Now()
	s.params.OnRoutes(ev)
}

func (s *Speaker) deliverSessions(sessions []routing.SessionStatus) {
	if reflect.DeepEqual(s.reported, sessions) {
		return
	}
	s.reported = sessions
	s.mu.Lock()
	s.sessions = sessions
	s.mu.Unlock()
	if s.params.OnSessions != nil {
		s.params.OnSessions(sessions)
	}
}

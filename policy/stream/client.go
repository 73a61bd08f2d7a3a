// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

// Endpoints knows the controllers. It is called from the client's goroutine.
type Endpoints interface {
	// Controllers returns where controllers serve, in any order, those to try
	// first if some are better than others, and what is closed when that changes.
	Controllers() ([]netip.AddrPort, <-chan struct{})
}

// Consumer enforces what the client receives.
type Consumer interface {
	// Apply takes an update, which it does not change, in order, each once; after
	// an error what the update named comes again. The update is acknowledged
	// once it returns. The first one of all comes even if it is empty: from then
	// on it is known what is to be enforced.
	Apply(ctx context.Context, u *policy.Update) error
}

// ClientParams describe a Client.
type ClientParams struct {
	// Node is the agent's own.
	Node      string
	Endpoints Endpoints
	// Bundle returns the CA certificates to trust as PEM, as they are now.
	Bundle func() ([]byte, error)
	// Token returns the token to show, as it is now.
	Token    func() (string, error)
	Consumer Consumer
	// Disk keeps the State.
	Disk Disk
	// Now is the clock that judges certificates.
	Now func() time.Time
}

// The delay before the next try doubles from one to the other with failures in
// a row. A stream that lived for steady is no failure. The longest delay leaves a
// Pod that waits for its policy several tries before its ADD gives up.
const (
	retryBase = 100 * time.Millisecond
	retryMax  = 5 * time.Second
	steady    = time.Second
	// moveDelay spreads the agents of a controller that ended or that came.
	moveDelay = 100 * time.Millisecond
)

// Status says how a Client is.
type Status struct {
	// Known says whether there is a State: received, or read from disk.
	Known bool
	// Connected says whether a controller is keeping the State up to date, Since
	// when it is or is not, Controller which one it is.
	Connected  bool
	Since      time.Time
	Controller netip.AddrPort
	// Err is why there is no connection.
	Err error
	// Problems are policies that are enforced in the direction of denying since
	// they were not understood, with what was not.
	Problems []wire.Problem
}

// Client subscribes a node to a controller. Its methods may be called from any
// goroutine.
type Client struct {
	params ClientParams
	saver  *saver

	mu       sync.Mutex
	status   Status
	state    *policy.State
	position policy.Position
	problems map[policy.Key]string

	// storing is held while an update is logged and enforced, so that a snapshot
	// is not taken between the two. It is taken before mu.
	storing sync.Mutex
	// journal is guarded by storing.
	journal *journal

	// forget says to subscribe as if nothing were known. Owned by Run.
	forget bool
}

// NewClient returns a Client that knows nothing before Run.
func NewClient(params ClientParams) *Client {
	c := &Client{params: params, state: policy.NewState(), problems: map[policy.Key]string{}}
	c.saver, c.journal = newSaver(c), newJournal(&c.params.Disk)
	return c
}

// Status returns how the client is now.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	for key, reason := range c.problems {
		s.Problems = append(s.Problems, wire.Problem{Policy: key, Reason: reason})
	}
	slices.SortFunc(s.Problems, func(a, b wire.Problem) int {
		return strings.Compare(a.Policy.String(), b.Policy.String())
	})
	return s
}

// Run first gives the State on disk to the Consumer, if there is one, then
// keeps it up to date until ctx ends, and stores it a last time. Whatever the
// Consumer is given is on disk before, so that an agent that is killed instead
// gives the same to its Consumer when it runs again.
func (c *Client) Run(ctx context.Context) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.saver.run(ctx) })
	group.Go(func() error { return c.follow(ctx) })
	return group.Wait()
}

// load gives the Consumer what is on disk, until it takes it.
func (c *Client) load(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	c.set(func(s *Status) { s.Since = c.params.Now() })
	found, err := c.params.Disk.load()
	if err != nil {
		logger.Error(err, "Starting without what cannot be used of the stored policy")
	}
	if found == nil {
		return nil
	}
	u := found.state.Whole()
	for failures := 1; ; failures++ {
		if err = c.params.Consumer.Apply(ctx, u); err == nil {
			break
		}
		logger.Error(err, "The stored policy cannot be enforced, will try again")
		if err := sleep(ctx, retryDelay(failures)); err != nil {
			return err
		}
	}
	c.storing.Lock()
	defer c.storing.Unlock()
	c.journal.resume(found)
	if found.logged {
		c.saver.mark()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.position, c.problems, c.status.Known = found.state, found.position, found.problems, true
	logger.Info("Enforcing stored policy", "policies", len(found.state.Policies), "pods", len(found.state.Pods))
	return nil
}

// follow subscribes to one controller after the other.
func (c *Client) follow(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	var last netip.AddrPort
	failures := 0
	for ctx.Err() == nil {
		controllers, changed := c.params.Endpoints.Controllers()
		if len(controllers) == 0 {
			c.set(func(s *Status) { s.Err = errors.New("no controller is known") })
			if err := pause(ctx, nil, changed); err != nil {
				return err
			}
			continue
		}
		last = pick(controllers, last)
		started := time.Now()
		worked, err := c.subscribe(ctx, last)
		if ctx.Err() != nil {
			break
		}
		c.disconnected(err)
		failures++
		delay := retryDelay(failures)
		if worked && time.Since(started) >= steady {
			failures, delay = 0, rand.N(moveDelay)
		}
		if errors.Is(err, errInconsistent) {
			c.forget = true
		}
		logger.Info("Not subscribed", "controller", last, "reason", err, "failures", failures, "after", delay)
		if err := pause(ctx, time.After(delay), changed); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// pick returns a controller at random, another than the last one if possible.
func pick(controllers []netip.AddrPort, last netip.AddrPort) netip.AddrPort {
	others := slices.DeleteFunc(slices.Clone(controllers), func(a netip.AddrPort) bool { return a == last })
	if len(others) == 0 {
		return last
	}
	return others[rand.N(len(others))]
}

// retryDelay is between half of the full delay and all of it.
func retryDelay(failures int) time.Duration {
	delay := retryBase
	for i := 1; i < failures && delay < retryMax; i++ {
		delay *= 2
	}
	delay = min(delay, retryMax)
	return delay/2 + rand.N(delay/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// pause waits until the time has come, or until shortly after the controllers
// changed.
func pause(ctx context.Context, until <-chan time.Time, changed <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-until:
		return nil
	case <-changed:
		return sleep(ctx, rand.N(moveDelay))
	}
}

func (c *Client) set(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

func (c *Client) disconnected(err error) {
	c.set(func(s *Status) {
		if s.Connected {
			s.Connected, s.Since = false, c.params.Now()
		}
		s.Err = err
	})
}

// what returns what to say that there is.
func (c *Client) what() *have {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forget {
		return haveOf(c.params.Node, policy.NewState(), c.position)
	}
	return haveOf(c.params.Node, c.state, c.position)
}

// apply logs an update, enforces it and keeps what came of it.
func (c *Client) apply(ctx context.Context, u *policy.Update, problems []wire.Problem, position policy.Position) error {
	// Only this goroutine changes the State; the locks are for those who read it.
	known := c.state
	if c.forget {
		known = policy.NewState()
	}
	if err := check(known, u); err != nil {
		return err
	}
	if c.forget {
		complete(c.state, u)
	}
	c.storing.Lock()
	defer c.storing.Unlock()
	if isKnown := c.Status().Known; !u.Empty() || !isKnown || !maps.Equal(position, c.position) {
		c.log(ctx, u, position)
		if !u.Empty() || !isKnown {
			if err := c.params.Consumer.Apply(ctx, u); err != nil {
				return err
			}
		}
		c.journal.enforced()
		c.saver.mark()
	}
	c.forget = false
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Apply(u)
	c.position, c.status.Known = position, true
	note(c.problems, u, problems)
	for _, p := range problems {
		klog.FromContext(ctx).Info("Policy not understood, enforced in the direction of denying", "policy", p.Policy, "reason", p.Reason)
	}
	return nil
}

// log makes an update outlive this process. A disk that fails does not keep it
// from being enforced.
func (c *Client) log(ctx context.Context, u *policy.Update, position policy.Position) {
	if err := c.journal.append(u, position); err != nil {
		klog.FromContext(ctx).Error(err, "Policy is enforced but not stored")
	}
	if c.journal.full() {
		c.saver.mark()
		c.saver.hurry()
	}
}

// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing"
)

const (
	// retryBase and retryMax bound the time between two attempts to connect.
	retryBase, retryMax = 100 * time.Millisecond, 2 * time.Second
	// dialTimeout bounds one attempt.
	dialTimeout = 5 * time.Second
)

// ErrStopped is returned by Set and Shutdown after Run has ended.
var ErrStopped = errors.New("the connection to the routing speaker has ended")

// ClientParams are the parameters of NewClient.
type ClientParams struct {
	// Socket is the speaker's.
	Socket string
	// OnRoutes is told all learned routes whenever they or their convergence
	// change. Both are called on the goroutine of Run and must not call Set.
	OnRoutes func(routing.PathEvent)
	// OnSessions is told the status of all peers, sorted by name, whenever one
	// changes.
	OnSessions func([]routing.SessionStatus)
}

// Client is the routing speaker, as the agent sees it.
type Client struct {
	params   ClientParams
	dial     func(context.Context) (net.Conn, error)
	requests chan request
	stopped  chan struct{}

	mu sync.Mutex
	// away is why there is no speaker, nil: there is one.
	away error

	// What follows belongs to the goroutine of Run.
	memory   memory
	link     *link
	since    time.Time // there is a speaker, or there is none
	tried    bool      // to connect
	shutdown bool      // is what was asked for last
	lastID   uint64    // of a request
	// waiting are requests that came before the first attempt to connect ended,
	// pending those that the speaker has.
	waiting []chan<- error
	pending map[uint64][]chan<- error
	// routes and sessions are what was delivered last, told says that the speaker
	// that is connected has told sessions.
	routes   *routing.PathEvent
	sessions []routing.SessionStatus
	told     bool
	running  sync.WaitGroup
}

type request struct {
	config   routing.BGPConfig
	shutdown bool
	done     chan<- error
}

// NewClient returns a Client that does nothing before Run.
func NewClient(p ClientParams) *Client {
	return &Client{
		params: p,
		dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", p.Socket)
		},
		requests: make(chan request),
		stopped:  make(chan struct{}),
		away:     errors.New("not tried yet"),
		pending:  map[uint64][]chan<- error{},
	}
}

// Set makes the speaker what config says, and waits until it is. The error is the
// speaker's, or says why there is none; it is then told as soon as there is one.
func (c *Client) Set(ctx context.Context, config routing.BGPConfig) error {
	return c.ask(ctx, request{config: config})
}

// Shutdown ends all sessions such that the peers drop our routes at once: for the
// deliberate removal of the node from the network.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.ask(ctx, request{shutdown: true})
}

func (c *Client) ask(ctx context.Context, r request) error {
	done := make(chan error, 1)
	r.done = done
	select {
	case c.requests <- r:
	case <-c.stopped:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-done:
		return err
	case <-c.stopped:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("the routing speaker on %s does not answer: %w", c.params.Socket, context.Cause(ctx))
	}
}

// Err returns why there is no speaker now, nil when there is one.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away
}

func (c *Client) setAway(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = err
}

// outcome is what came of an attempt to connect.
type outcome struct {
	link *link
	err  error
}

// heard is a message of the speaker, or the end of the connection.
type heard struct {
	message message
	err     error
}

// Run keeps a connection to the speaker until ctx ends, and returns its cause. The
// speaker goes on without us. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	defer close(c.stopped)
	ctx, cancel := context.WithCancel(ctx)
	defer c.running.Wait()
	defer func() {
		if c.link != nil {
			c.link.close()
		}
	}()
	defer cancel()
	c.since = time.Now()
	outcomes, messages := make(chan outcome), make(chan heard)
	retry, expiry := time.NewTimer(0), time.NewTimer(time.Hour)
	defer retry.Stop()
	defer expiry.Stop()
	delay := retryBase
	for {
		if at, ok := c.memory.deadline(time.Now()); ok {
			expiry.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case r := <-c.requests:
			c.request(r)
		case <-retry.C:
			c.running.Go(func() { c.connect(ctx, outcomes) })
		case o := <-outcomes:
			if c.connected(ctx, o, messages) {
				continue
			}
			retry.Reset(delay)
			delay = min(2*delay, retryMax)
		case h := <-messages:
			if h.err == nil {
				c.hear(ctx, h.message)
				continue
			}
			if time.Since(c.since) > retryMax {
				delay = retryBase
			}
			c.lost(ctx, h.err)
			retry.Reset(delay)
			delay = min(2*delay, retryMax)
		case <-expiry.C:
			c.deliver()
		}
	}
}

// connect tries once, and says what came of it.
func (c *Client) connect(ctx context.Context, out chan<- outcome) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := c.dial(dialing)
	o := outcome{err: err}
	if err == nil {
		o.link = newLink(conn)
		stop := context.AfterFunc(ctx, o.link.close)
		defer stop()
		o.link.send(greeting())
		c.running.Go(func() { _ = o.link.write() }) // the reader tells of its end
		if o.err = o.link.greeted(); o.err != nil {
			o.link.close()
		}
	}
	select {
	case out <- o:
	case <-ctx.Done():
		if o.link != nil {
			o.link.close()
		}
	}
}

// connected takes what came of an attempt, and says whether there is a speaker.
func (c *Client) connected(ctx context.Context, o outcome, messages chan<- heard) bool {
	first := !c.tried
	c.tried = true
	if o.err != nil {
		err := c.unreachable(o.err)
		if before := c.Err(); first || before == nil || before.Error() != err.Error() {
			klog.FromContext(ctx).Error(err, "No routing speaker, will try again")
		}
		c.setAway(err)
		c.answerAll(err)
		c.deliver()
		return false
	}
	klog.FromContext(ctx).Info("Connected to the routing speaker", "socket", c.params.Socket)
	c.link, c.since, c.told = o.link, time.Now(), false
	c.setAway(nil)
	c.running.Go(func() {
		for {
			m, err := o.link.read()
			select {
			case messages <- heard{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	if c.memory.told {
		c.tell(c.waiting...)
		c.waiting = nil
	}
	return true
}

// lost takes that the connection has ended.
func (c *Client) lost(ctx context.Context, err error) {
	c.link.close()
	c.link = nil
	err = c.unreachable(fmt.Errorf("the connection ended: %w", err))
	klog.FromContext(ctx).Error(err, "Lost the routing speaker")
	c.setAway(err)
	c.since = time.Now()
	c.memory.lose(c.since)
	c.answerAll(err)
	c.deliver()
}

// unreachable says what to look at when there is no speaker.
func (c *Client) unreachable(err error) error {
	return fmt.Errorf("no routing speaker on %s: %w (is the Pod of DaemonSet waymark-speaker on this node ready?)", c.params.Socket, err)
}

// request takes what the agent wants.
func (c *Client) request(r request) {
	c.shutdown = r.shutdown
	c.memory.set(r.config, time.Now())
	switch {
	case c.link != nil:
		c.tell(r.done)
	case !c.tried:
		c.waiting = append(c.waiting, r.done)
	default:
		r.done <- c.Err()
	}
	c.deliver()
}

// tell sends what the agent wants. The answer is for those that wait for it.
func (c *Client) tell(done ...chan<- error) {
	c.lastID++
	c.pending[c.lastID] = done
	m := message{Set: &setRequest{ID: c.lastID, Config: c.memory.wanted}}
	if c.shutdown {
		m = message{Shutdown: &shutdownRequest{ID: c.lastID}}
	}
	c.link.send(m)
}

// answerAll answers all requests that wait.
func (c *Client) answerAll(err error) {
	for _, done := range c.pending {
		c.waiting = append(c.waiting, done...)
	}
	clear(c.pending)
	for _, done := range c.waiting {
		done <- err
	}
	c.waiting = nil
}

// hear takes a message of the speaker.
func (c *Client) hear(ctx context.Context, m message) {
	switch {
	case m.Answer != nil:
		c.answered(ctx, *m.Answer)
	case m.Routes != nil:
		c.memory.hear(*m.Routes, time.Now())
		c.deliver()
	case m.Sessions != nil:
		c.told = true
		c.deliverSessions(m.Sessions.List)
	}
}

// answered takes the answer to a request.
func (c *Client) answered(ctx context.Context, a answer) {
	var err error
	if a.Error != "" {
		err = errors.New(a.Error)
	}
	waiting := c.pending[a.ID]
	delete(c.pending, a.ID)
	for _, done := range waiting {
		done <- err
	}
	if err == nil {
		return
	}
	if len(waiting) == 0 {
		klog.FromContext(ctx).Error(err, "The routing speaker cannot be what it should be")
	}
	if !c.told {
		// Perhaps it cannot even try.
		c.deliverSessions(idle(c.memory.wanted, a.Error, c.since))
	}
}

// deliver tells the agent what changed.
func (c *Client) deliver() {
	e := c.memory.event(time.Now())
	before := c.routes
	if before == nil {
		before = &routing.PathEvent{} // as good as nothing
	}
	if before.Converged != e.Converged || len(before.Routes)+len(e.Routes) > 0 && !reflect.DeepEqual(before.Routes, e.Routes) {
		c.routes = &e
		c.params.OnRoutes(e)
	}
	if c.link == nil && c.tried && c.memory.told {
		c.deliverSessions(idle(c.memory.wanted, c.Err().Error(), c.since))
	}
}

func (c *Client) deliverSessions(s []routing.SessionStatus) {
	if len(c.sessions)+len(s) == 0 || reflect.DeepEqual(c.sessions, s) {
		return
	}
	c.sessions = s
	c.params.OnSessions(s)
}

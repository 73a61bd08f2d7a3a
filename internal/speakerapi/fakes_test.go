// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
)

// fakeSpeaker is a speaker that does what a test says.
type fakeSpeaker struct {
	onRoutes   func(routing.PathEvent)
	onSessions func([]routing.SessionStatus)

	mu sync.Mutex
	// sets are the configurations that it got; a nil one is Shutdown.
	sets []*routing.BGPConfig
	// answer is what Set returns; hang has it wait for the end.
	answer error
	hang   bool
}

func (f *fakeSpeaker) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *fakeSpeaker) Set(ctx context.Context, c routing.BGPConfig) error { return f.take(ctx, &c) }
func (f *fakeSpeaker) Shutdown(ctx context.Context) error                 { return f.take(ctx, nil) }

func (f *fakeSpeaker) take(ctx context.Context, c *routing.BGPConfig) error {
	f.mu.Lock()
	f.sets = append(f.sets, c)
	answer, hang := f.answer, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	return answer
}

// got returns the configurations since the last call.
func (f *fakeSpeaker) got() []*routing.BGPConfig {
	f.mu.Lock()
	defer f.mu.Unlock()
	sets := f.sets
	f.sets = nil
	return sets
}

// pipes is a listener whose connections need no kernel, and the way to it.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// host is a node's run directory: whatever speaker runs is in it.
type host struct {
	mu sync.Mutex
	at *pipes
}

func (h *host) dial(ctx context.Context) (net.Conn, error) {
	h.mu.Lock()
	at := h.at
	h.mu.Unlock()
	if at == nil {
		return nil, errors.New("no such file or directory")
	}
	return at.dial(ctx)
}

// process is a speaker's or an agent's.
type process struct {
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, run func(context.Context) error) *process {
	ctx, stop := context.WithCancel(t.Context())
	p := &process{stop, make(chan error, 1)}
	go func() { p.done <- run(ctx) }()
	t.Cleanup(stop)
	return p
}

func (p *process) end(t *testing.T) {
	t.Helper()
	p.stop()
	if err := <-p.done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

type testSpeaker struct {
	*process
	*fakeSpeaker
	server *Server
}

// speaker starts one on the host.
func (h *host) speaker(t *testing.T) *testSpeaker {
	s := &testSpeaker{fakeSpeaker: &fakeSpeaker{}}
	s.server = NewServer(ServerParams{Speaker: func(r func(routing.PathEvent), l func([]routing.SessionStatus)) Speaker {
		s.onRoutes, s.onSessions = r, l
		return s.fakeSpeaker
	}})
	at := newPipes()
	h.mu.Lock()
	h.at = at
	h.mu.Unlock()
	s.process = start(t, func(ctx context.Context) error { return s.server.serve(ctx, at) })
	return s
}

type testAgent struct {
	*process
	*Client

	mu       sync.Mutex
	events   []routing.PathEvent
	sessions [][]routing.SessionStatus
}

// agent starts one on the host.
func (h *host) agent(t *testing.T) *testAgent {
	a := &testAgent{}
	a.Client = NewClient(ClientParams{
		Socket: "/run/speaker.sock",
		OnRoutes: func(e routing.PathEvent) {
			a.mu.Lock()
			defer a.mu.Unlock()
			e.At = time.Time{}
			a.events = append(a.events, e)
		},
		OnSessions: func(s []routing.SessionStatus) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.sessions = append(a.sessions, s)
		},
	})
	a.dial = h.dial
	a.process = start(t, a.Run)
	return a
}

// told checks what routes the agent was told since the last time.
func (a *testAgent) told(t *testing.T, want ...routing.PathEvent) {
	t.Helper()
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if diff := cmp.Diff(want, a.events, compareValues, comparePrefixes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	a.events = nil
}

// saw checks the last sessions that the agent was told, as peer and error.
func (a *testAgent) saw(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	var got []string
	if n := len(a.sessions); n > 0 {
		for _, s := range a.sessions[n-1] {
			got = append(got, s.Peer+" "+string(s.State)+" "+s.LastError)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
}

func up(peer string) []routing.SessionStatus {
	return []routing.SessionStatus{{Peer: peer, State: routing.SessionEstablished}}
}

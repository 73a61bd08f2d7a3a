// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/unixsocket"
	"github.com/waymark-net/waymark/routing"
)

// Speaker is the routing speaker that is served.
type Speaker interface {
	// Run runs it until ctx ends, and then closes sessions such that the peers
	// keep the node's routes.
	Run(ctx context.Context) error
	// Set makes it what the configuration says and changes only what differs.
	Set(ctx context.Context, config routing.BGPConfig) error
	// Shutdown ends all sessions such that the peers drop the node's routes.
	Shutdown(ctx context.Context) error
}

// ServerParams are the parameters of NewServer.
type ServerParams struct {
	// Socket is the path of the socket, which only root may use.
	Socket string
	// Speaker makes the speaker, which calls the two functions with all routes and
	// sessions whenever they change.
	Speaker func(onRoutes func(routing.PathEvent), onSessions func([]routing.SessionStatus)) Speaker
}

// Server runs the speaker and serves it to the agent.
type Server struct {
	socket  string
	speaker Speaker

	// setting is held while a configuration is carried out.
	setting sync.Mutex
	config  *routing.BGPConfig // nil: none yet

	mu         sync.Mutex
	links      map[*link]bool
	configured bool
	routes     *routing.PathEvent
	sessions   *sessionList
}

// NewServer returns a Server that does nothing before Run.
func NewServer(p ServerParams) *Server {
	s := &Server{socket: p.Socket, links: map[*link]bool{}}
	s.speaker = p.Speaker(s.onRoutes, s.onSessions)
	return s
}

// Run runs the speaker and serves it until ctx ends, and returns its cause, or why
// it cannot go on.
func (s *Server) Run(ctx context.Context) error {
	listener, err := unixsocket.Listen(s.socket)
	if err != nil {
		return fmt.Errorf("listen for the agent: %w", err)
	}
	return s.serve(ctx, listener)
}

func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := s.speaker.Run(running)
		if running.Err() == nil {
			return fmt.Errorf("the speaker ended: %w", err)
		}
		return err
	})
	group.Go(func() error {
		<-running.Done()
		return listener.Close()
	})
	group.Go(func() error {
		for {
			conn, err := listener.Accept()
			if running.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("listen for the agent on %s: %w", s.socket, err)
			}
			group.Go(func() error {
				s.attend(running, conn)
				return nil
			})
		}
	})
	err := group.Wait()
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// Ready returns why the speaker is not what an agent wants it to be, nil when it
// is and all routes are known.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.configured:
		return errors.New("no agent has said yet what to do")
	case s.routes == nil || !s.routes.Converged:
		return errors.New("not all BGP peers have sent their routes yet")
	}
	return nil
}

// Agents returns how many agents are connected.
func (s *Server) Agents() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.links)
}

func (s *Server) onRoutes(e routing.PathEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes = &e
	for l := range s.links {
		l.send(message{Routes: &e})
	}
}

func (s *Server) onSessions(list []routing.SessionStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = &sessionList{list}
	for l := range s.links {
		l.send(message{Sessions: s.sessions})
	}
}

// join has a link told everything from now on.
func (s *Server) join(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[l] = true
	if s.routes != nil {
		l.send(message{Routes: s.routes})
	}
	if s.sessions != nil {
		l.send(message{Sessions: s.sessions})
	}
}

func (s *Server) leave(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
}

// attend serves a connection until either end has had enough.
func (s *Server) attend(ctx context.Context, conn net.Conn) {
	logger := klog.FromContext(ctx)
	l := newLink(conn)
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	var writing sync.WaitGroup
	defer writing.Wait()
	defer l.close()
	l.send(greeting())
	writing.Go(func() {
		if err := l.write(); !errors.Is(err, net.ErrClosed) {
			logger.Info("Writing to the agent failed", "reason", err.Error())
		}
	})
	if err := l.greeted(); err != nil {
		logger.Error(err, "An agent was refused")
		return
	}
	logger.Info("Agent connected")
	s.join(l)
	defer s.leave(l)
	a := agent{since: time.Now()}
	for {
		m, err := l.read()
		if err != nil {
			logger.Info("Agent gone, sessions stay as they are", "reason", err.Error())
			return
		}
		switch {
		case m.Set != nil:
			l.send(reply(m.Set.ID, s.set(ctx, &a, m.Set.Config)))
		case m.Shutdown != nil:
			l.send(reply(m.Shutdown.ID, s.shutdown(ctx)))
		}
	}
}

func reply(id uint64, err error) message {
	a := &answer{ID: id}
	if err != nil {
		a.Error = err.Error()
	}
	return message{Answer: a}
}

// agent is what is known of an agent that is connected.
type agent struct {
	since time.Time
	// complete says that it has sent a configuration that leaves out nothing.
	complete bool
}

// set carries out what an agent wants, also when the agent ends meanwhile.
func (s *Server) set(ctx context.Context, a *agent, config routing.BGPConfig) error {
	s.setting.Lock()
	defer s.setting.Unlock()
	a.complete = a.complete || !config.Incomplete
	if s.config != nil && !a.complete && time.Since(a.since) < restartTime(config) {
		config = withKept(config, *s.config)
	}
	if s.config == nil || !reflect.DeepEqual(*s.config, config) {
		klog.FromContext(ctx).Info("Configuration changes", "peers", len(config.Peers),
			"incomplete", config.Incomplete, "advertisements", len(config.Advertisements))
	}
	s.keep(config)
	return s.speaker.Set(ctx, config)
}

func (s *Server) shutdown(ctx context.Context) error {
	s.setting.Lock()
	defer s.setting.Unlock()
	klog.FromContext(ctx).Info("Sessions end for good, as the agent says")
	s.keep(routing.BGPConfig{})
	return s.speaker.Shutdown(ctx)
}

func (s *Server) keep(config routing.BGPConfig) {
	s.config = &config
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configured = true
}

// withKept adds to an incomplete configuration the peers of the one before that it
// may have left out.
func withKept(config, before routing.BGPConfig) routing.BGPConfig {
	config.Peers = slices.Clone(config.Peers)
	for _, old := range before.Peers {
		if !slices.ContainsFunc(config.Peers, func(p routing.Peer) bool {
			return p.Name == old.Name || p.Address == old.Address && p.Address.IsValid()
		}) {
			config.Peers = append(config.Peers, old)
		}
	}
	return config
}

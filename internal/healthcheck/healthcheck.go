// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// HealthCheck is a Service whose load balancer asks for its local endpoints.
type HealthCheck struct {
	Namespace, Name string
	// Port is the healthCheckNodePort of the Service.
	Port uint16
	// Endpoints is how many of them are on this node.
	Endpoints int
}

func (h HealthCheck) service() string { return h.Namespace + "/" + h.Name }

// Params are what New needs.
type Params struct {
	// Healthy says whether Services are served on this node. It is called on
	// any goroutine.
	Healthy func() bool
	// Node is for SetNode.
	Node NodeParams
	// Listen opens a TCP port at all addresses; nil: net.Listen.
	Listen func(port uint16) (net.Listener, error)
}

// Server answers at a port for each Service, and at one for the node.
type Server struct {
	p Params

	mu       sync.Mutex
	services map[uint16]*checked // by port
	node     *opened             // nil while it is closed
	closed   bool
	serving  sync.WaitGroup
}

// opened is a port that is open.
type opened struct {
	http     *http.Server
	listener net.Listener
}

// checked is that of a Service.
type checked struct {
	*opened

	mu    sync.RWMutex
	check HealthCheck
}

// New makes a Server without ports.
func New(p Params) *Server {
	if p.Listen == nil {
		p.Listen = listen
	}
	return &Server{p: p, services: map[uint16]*checked{}}
}

// listen opens a port at all addresses of both families, where the node has both.
func listen(port uint16) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
}

// Set makes the open ports those of the health checks. A port whose Service or
// number of endpoints changes stays open. An error names each Service that could
// not get its port; the next Set tries again. Of several Services that want one
// port, the first by namespace and name gets it. After Run has ended Set opens
// nothing.
func (s *Server) Set(ctx context.Context, checks []HealthCheck) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	sorted := slices.Clone(checks)
	slices.SortFunc(sorted, func(a, b HealthCheck) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	wanted := map[uint16]HealthCheck{}
	var errs []error
	for _, c := range sorted {
		if first, taken := wanted[c.Port]; taken {
			errs = append(errs, fmt.Errorf("health check of Service %s: port %d is that of Service %s", c.service(), c.Port, first.service()))
			continue
		}
		wanted[c.Port] = c
	}
	for port, open := range s.services {
		if _, ok := wanted[port]; !ok {
			delete(s.services, port)
			if err := open.close(); err != nil {
				errs = append(errs, fmt.Errorf("closing health check port %d: %w", port, err))
			}
		}
	}
	for _, c := range sorted {
		if wanted[c.Port] != c {
			continue
		}
		if open, ok := s.services[c.Port]; ok {
			open.set(c)
			continue
		}
		if err := s.open(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("health check of Service %s: %w", c.service(), err))
		}
	}
	return errors.Join(errs...)
}

// open starts to answer for a Service.
func (s *Server) open(ctx context.Context, c HealthCheck) error {
	if c.Port == 0 {
		return errors.New("port 0 is not from 1 to 65535")
	}
	o, err := s.bind(c.Port)
	if err != nil {
		return err
	}
	open := &checked{opened: o, check: c}
	s.services[c.Port] = open
	s.serve(ctx, o, s.handler(open), func() {
		if s.services[c.Port] == open {
			delete(s.services, c.Port)
		}
	}, "service", c.service(), "port", c.Port)
	return nil
}

// bind opens a port that serve is to answer at.
func (s *Server) bind(port uint16) (*opened, error) {
	l, err := s.p.Listen(port)
	if err != nil {
		return nil, err
	}
	return &opened{listener: l, http: &http.Server{
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// serve answers until the port is closed. If it ends by itself, forget has the
// next call open the port again; s.mu is held then. words are for the log.
func (s *Server) serve(ctx context.Context, o *opened, h http.Handler, forget func(), words ...any) {
	o.http.Handler = h
	log := klog.FromContext(ctx).WithValues(words...)
	s.serving.Go(func() {
		if err := o.http.Serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error(err, "Health check port does not answer any more")
			s.mu.Lock()
			defer s.mu.Unlock()
			forget()
		}
	})
}

// Run closes all ports when ctx is done, and then returns nil.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	var errs []error
	for port, open := range s.services {
		errs = append(errs, open.close())
		delete(s.services, port)
	}
	if s.node != nil {
		errs = append(errs, s.node.close())
		s.node = nil
	}
	s.mu.Unlock()
	s.serving.Wait()
	return errors.Join(errs...)
}

// close ends all connections and frees the port before it returns, also when
// the server has not got as far as to know its listener.
func (o *opened) close() error {
	err := o.http.Close()
	if e := o.listener.Close(); !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}

func (c *checked) set(check HealthCheck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.check = check
}

func (c *checked) get() HealthCheck {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.check
}

// answer is the body for a Service, in the words of kube-proxy.
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// handler answers whether a Service has endpoints here. Any path and method
// will do, as load balancers use what they like.
func (s *Server) handler(open *checked) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		check, healthy := open.get(), s.p.Healthy()
		var a answer
		a.Service.Namespace, a.Service.Name = check.Namespace, check.Name
		a.LocalEndpoints, a.ServiceProxyHealthy = check.Endpoints, healthy
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(check.Endpoints))
		status := http.StatusOK
		if check.Endpoints == 0 || !healthy {
			status = http.StatusServiceUnavailable
		}
		write(w, status, a)
	})
}

// write answers; a client that went away needs no answer.
func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

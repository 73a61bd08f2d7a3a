// SPDX-License-Identifier: Apache-2.0

package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/internal/unixsocket"
	"github.com/waymark-net/waymark/policy/stream"
	"github.com/waymark-net/waymark/service"
)

const (
	readTimeout = 10 * time.Second
	// answerTimeout bounds one answer; to read the counters of very many flows
	// takes seconds.
	answerTimeout = 30 * time.Second
)

// Params describe a Server.
type Params struct {
	// Socket is the path of the socket, which only root may use.
	Socket string
	// Report and Status tell of the policies. They are called on any goroutine.
	Report func(ctx context.Context) (enforce.Report, error)
	Status func() stream.Status
	// Services tells of the Services with the namespace and the name that only
	// has, where an empty field is any; if both are empty, of those with problems.
	// It may tell of more. It is called on any goroutine.
	Services func(only service.Key) ServicesReport
}

// Server answers on the socket.
type Server struct{ params Params }

// New returns a Server that does not listen before Run.
func New(params Params) *Server { return &Server{params: params} }

// Run serves until ctx ends and returns its cause, or why it cannot serve.
func (s *Server) Run(ctx context.Context) error {
	listener, err := unixsocket.Listen(s.params.Socket)
	if err != nil {
		return fmt.Errorf("listen for local requests: %w", err)
	}
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve local requests on %s: %w", s.params.Socket, err)
	case <-ctx.Done():
		err := server.Close()
		<-failed
		return errors.Join(context.Cause(ctx), err)
	}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /policy", s.policy)
	mux.HandleFunc("GET /services", s.services)
	return mux
}

func (s *Server) policy(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), answerTimeout, errors.New("the switch does not answer"))
	defer cancel()
	report, err := s.params.Report(ctx)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Local request failed", "path", r.URL.Path)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(ctx, w, policyOf(report, s.params.Status()))
}

// answer writes a document.
func answer(ctx context.Context, w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		klog.FromContext(ctx).V(2).Info("Client of a local request went away", "reason", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/unixsocket"
)

const (
	defaultTimeout     = 30 * time.Second
	defaultConcurrency = 32
	// maxRequest bounds a request; the longest is GC with all attachments of
	// a node.
	maxRequest = 4 << 20
	// readTimeout bounds reading a request, drainTimeout finishing the
	// requests that are worked on when the agent ends.
	readTimeout  = 10 * time.Second
	drainTimeout = 10 * time.Second
)

// Server answers CNI requests.
type Server struct {
	Params
	records records
	locks   keyLocks
	slots   chan struct{}
	metrics *metrics
}

// New returns a server that does not listen yet. The error is the registerer's.
func New(p Params) (*Server, error) {
	if p.Timeout == 0 {
		p.Timeout = defaultTimeout
	}
	if p.Concurrency == 0 {
		p.Concurrency = defaultConcurrency
	}
	m, err := newMetrics(p.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering CNI metrics: %w", err)
	}
	return &Server{
		Params:  p,
		records: records{dir: p.StateDir},
		slots:   make(chan struct{}, p.Concurrency),
		metrics: m,
	}, nil
}

// Run listens on the socket and serves until the context ends; requests that
// are being worked on then get a while to finish.
func (s *Server) Run(ctx context.Context) error {
	listener, err := unixsocket.Listen(s.SocketPath)
	if err != nil {
		return fmt.Errorf("listening for CNI requests: %w", err)
	}
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	klog.FromContext(ctx).Info("Serving CNI requests", "socket", s.SocketPath)
	select {
	case err := <-served:
		return fmt.Errorf("serving CNI requests on %s: %w", s.SocketPath, err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err = server.Shutdown(drain)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-served
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+cniapi.Path, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			writeError(r.Context(), w, cniError(types.ErrIOFailure, "reading request: %v", err))
			return
		}
		result, cniErr := s.answer(r.Context(), body)
		if cniErr != nil {
			writeError(r.Context(), w, cniErr)
			return
		}
		write(r.Context(), w, http.StatusOK, result)
	})
	return mux
}

// answer works on one request and returns the JSON of its result.
func (s *Server) answer(ctx context.Context, body []byte) ([]byte, *types.Error) {
	start := time.Now()
	req, cniErr := decodeRequest(body)
	if cniErr != nil {
		s.metrics.answered("", cniErr.Code, time.Since(start))
		klog.FromContext(ctx).Info("CNI request refused", "reason", cniErr.Msg, "code", cniErr.Code)
		return nil, cniErr
	}
	logger := klog.FromContext(ctx).WithValues("command", req.command)
	if req.owner.ContainerID != "" {
		logger = logger.WithValues("container", req.owner.ContainerID)
	}
	result, err := s.serve(klog.NewContext(ctx, logger), req)
	var code uint
	if err != nil {
		cniErr = toCNI(req.command, err)
		code = cniErr.Code
		logger.Error(err, "CNI request failed", "code", code)
	}
	s.metrics.answered(req.command, code, time.Since(start))
	return result, cniErr
}

// serve runs a request when it is its turn.
func (s *Server) serve(ctx context.Context, req *request) ([]byte, error) {
	if req.command == cniapi.Status {
		_, err := s.settings()
		return empty, err
	}
	if req.command != cniapi.Add {
		// The rest is worth finishing although the plugin was killed.
		ctx = context.WithoutCancel(ctx)
	}
	if req.command == cniapi.Add {
		// Before anything is held that other requests need.
		if err := s.Policies.Await(ctx, req.pod.namespace, req.pod.name, req.pod.uid); err != nil {
			return nil, fmt.Errorf("%w: %w", errNotReady, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other requests: %w", ctx.Err())
	}
	if req.command == cniapi.GC {
		return empty, s.gc(ctx, req)
	}
	unlock, err := s.locks.lock(ctx, req.host)
	if err != nil {
		return nil, fmt.Errorf("waiting for another request of the container: %w", err)
	}
	defer unlock()
	switch req.command {
	case cniapi.Add:
		return s.addJSON(ctx, req)
	case cniapi.Check:
		return empty, s.check(ctx, req)
	default:
		if err := s.detach(ctx, req.owner, req.host); err != nil {
			return nil, err
		}
		klog.FromContext(ctx).Info("Pod detached", "interface", req.host)
		return empty, nil
	}
}

var empty = []byte("{}")

func (s *Server) addJSON(ctx context.Context, req *request) ([]byte, error) {
	result, err := s.add(ctx, req)
	if err != nil {
		return nil, err
	}
	versioned, err := result.GetAsVersion(req.cniVersion)
	if err != nil {
		return nil, fmt.Errorf("converting the result to version %s: %w", req.cniVersion, err)
	}
	var out bytes.Buffer
	if err := versioned.PrintTo(&out); err != nil {
		return nil, fmt.Errorf("encoding the result: %w", err)
	}
	return out.Bytes(), nil
}

// settings returns the settings if Pods can be added.
func (s *Server) settings() (Settings, error) {
	set, err := s.Settings()
	if err != nil {
		return set, fmt.Errorf("%w: %w", errNotReady, err)
	}
	return set, nil
}

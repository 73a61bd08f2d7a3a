// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Params describe a server.
type Params struct {
	// Address to listen on, such as 127.0.0.1:10462.
	Address string
	// Ready returns why the program is not ready, nil when it is. It is called
	// on any goroutine.
	Ready    func() error
	Gatherer prometheus.Gatherer
}

// Serve serves until ctx ends and returns its cause, or why it cannot serve.
func Serve(ctx context.Context, p Params) error {
	server := &http.Server{Addr: p.Address, Handler: handler(p), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve health and metrics on %s: %w", p.Address, err)
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), server.Close())
	}
}

func handler(p Params) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { ok(w) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		ok(w)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Gatherer, promhttp.HandlerOpts{}))
	return mux
}

// ok answers; a client that went away needs no answer.
func ok(w http.ResponseWriter) { _, _ = fmt.Fprintln(w, "ok") }

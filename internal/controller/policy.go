// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/policy/stream"
	"github.com/waymark-net/waymark/policy/stream/ca"
)

// policyParams describe a policyServer.
type policyParams struct {
	Clients *kube.Clients
	// Listen is the address of the policy stream.
	Listen     string
	Hub        *stream.Hub
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// policyServer serves the policy stream, on every replica, with a certificate
// of the controllers' own authority, which it looks at every minute.
type policyServer struct {
	params policyParams
	server *stream.Server
	signer *ca.Signer
	store  *kube.AuthorityStore
	loop   *reconcile.Loop
	// trusted is closed once there is an authority to sign with.
	trusted chan struct{}
	serving atomic.Bool
}

func newPolicyServer(params policyParams) *policyServer {
	p := &policyServer{
		params:  params,
		signer:  ca.NewSigner(ca.SignerParams{Name: stream.ServerName, Now: params.Now}),
		store:   kube.NewAuthorityStore(kube.AuthorityParams{Clients: params.Clients, Now: params.Now}),
		trusted: make(chan struct{}),
	}
	p.server = stream.NewServer(stream.ServerParams{
		Hub:        params.Hub,
		Auth:       kube.NewTokenReviewer(kube.TokenParams{Clients: params.Clients, Now: params.Now}),
		TLS:        p.signer.ServerTLS(),
		Registerer: params.Registerer,
	})
	p.loop = reconcile.New(reconcile.Params{
		Name:        "certificate authority",
		Reconcile:   p.sync,
		MinInterval: time.Second,
		MaxInterval: time.Minute,
		RetryBase:   time.Second,
		RetryMax:    time.Minute,
	})
	return p
}

// run serves until ctx ends.
func (p *policyServer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.loop.Run(ctx) })
	group.Go(func() error {
		select {
		case <-p.trusted:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", p.params.Listen)
		if err != nil {
			return fmt.Errorf("serve the policy stream: %w", err)
		}
		p.serving.Store(true)
		defer p.serving.Store(false)
		return p.server.Serve(ctx, listener)
	})
	return group.Wait()
}

// sync takes the authority that is in force.
func (p *policyServer) sync(ctx context.Context) error {
	authority, err := p.store.Sync(ctx)
	if err != nil {
		return err
	}
	p.signer.Use(authority)
	select {
	case <-p.trusted:
	default:
		close(p.trusted)
	}
	return nil
}

// ready says why agents cannot be served.
func (p *policyServer) ready() error {
	if !p.serving.Load() {
		return fmt.Errorf("the policy stream is not served yet: the certificate authority is missing")
	}
	if !p.params.Hub.Ready() {
		return fmt.Errorf("policy was not computed yet")
	}
	return nil
}

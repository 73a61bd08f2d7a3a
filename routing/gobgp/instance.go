// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/waymark-net/waymark/routing"
)

// instance is one run of the GoBGP server: it lives as long as ASN, router ID
// and listening addresses stay.
type instance struct {
	config  routing.SpeakerConfig
	bgp     *server.BgpServer
	watch   *watch
	unwatch context.CancelFunc
	peers   map[netip.Addr]*peer
	ann     announcements // what the server has; a tag means the same in all
	told    bool          // the policies of ann
	tags    *tags
	limit   int  // of received prefixes a family
	allDone bool // sticky result of converged
}

// peer is a neighbour that the server has.
type peer struct {
	conf routing.Peer
	learned
}

// startInstance starts a server without neighbours.
func startInstance(ctx context.Context, c routing.SpeakerConfig, w *watch, limit int) (*instance, error) {
	inst := &instance{
		config: c,
		bgp:    server.NewBgpServer(server.LoggerOption(slog.New(&logHandler{watch: w}), new(slog.LevelVar))),
		watch:  w,
		limit:  limit,
		peers:  map[netip.Addr]*peer{},
		ann:    announcements{paths: map[netip.Prefix]ownPath{}},
		tags:   newTags(),
	}
	go inst.bgp.Serve()
	global := &api.Global{Asn: c.ASN, RouterId: c.RouterID.String(), ListenPort: int32(c.ListenPort)}
	for _, a := range c.ListenAddresses {
		global.ListenAddresses = append(global.ListenAddresses, a.String())
	}
	err := inst.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: global})
	if err != nil {
		inst.bgp.Stop()
		return nil, fmt.Errorf("starting BGP speaker (AS %d, router ID %s, port %d): %w", c.ASN, c.RouterID, c.ListenPort, err)
	}
	var wctx context.Context
	wctx, inst.unwatch = context.WithCancel(context.WithoutCancel(ctx))
	if err := w.attach(wctx, inst.bgp); err != nil {
		return nil, errors.Join(fmt.Errorf("watching BGP events: %w", err), inst.stop(true))
	}
	return inst, nil
}

// stop ends the server. Not deliberate: without a NOTIFICATION to the peers
// with graceful restart.
func (i *instance) stop(deliberate bool) error {
	i.unwatch()
	err := i.bgp.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: !deliberate})
	i.bgp.Stop() // what StopBgp leaves: the BFD server's goroutine
	i.watch.reset()
	if err != nil {
		return fmt.Errorf("stopping BGP speaker: %w", err)
	}
	return nil
}

// sameServer says whether both can be served by one instance.
func sameServer(a, b routing.SpeakerConfig) bool {
	return a.ASN == b.ASN && a.RouterID == b.RouterID && a.ListenPort == b.ListenPort &&
		slices.Equal(a.ListenAddresses, b.ListenAddresses)
}

// setPolicies replaces the policies where they differ.
func (i *instance) setPolicies(ctx context.Context, want announcements) error {
	if i.told && i.ann.samePolicies(want) {
		return nil
	}
	if err := i.bgp.SetPolicies(ctx, want.policies()); err != nil {
		return fmt.Errorf("setting BGP policies: %w", err)
	}
	i.ann.sets, i.ann.statements, i.ann.reflection = want.sets, want.statements, want.reflection
	if !i.told {
		for _, a := range assignments() {
			if err := i.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a}); err != nil {
				return fmt.Errorf("assigning BGP policies: %w", err)
			}
		}
	}
	i.told = true
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/routing/kernel"
	"github.com/waymark-net/waymark/service"
)

// serviceHost does what Services ask of the node itself: routes into the switch,
// NodePorts, health checks. A loop of its own compares that with what there is.
type serviceHost struct {
	loop *reconcile.Loop
	// done is told what came of each run.
	done func(error)

	mu sync.Mutex
	// want is nil until all Services are known: what an earlier run made goes on
	// working meanwhile.
	want     *service.Host
	settings serviceHostSettings

	// What follows belongs to the goroutine of loop.
	firewall        *hostfw.ServiceFirewall
	firewallBackend hostfw.Backend
}

// serviceHostSettings are what the configuration says of that.
type serviceHostSettings struct {
	backend       hostfw.Backend
	nodePortAddrs []netip.Prefix
}

func newServiceHost(done func(error)) *serviceHost {
	h := &serviceHost{done: done}
	h.loop = reconcile.New(reconcile.Params{
		Name: "service host", Reconcile: h.reconcile,
		MinInterval: 20 * time.Millisecond, MaxInterval: 30 * time.Second,
		RetryBase: 500 * time.Millisecond, RetryMax: 10 * time.Second,
	})
	return h
}

// set says what the Services ask for.
func (h *serviceHost) set(want service.Host) {
	h.mu.Lock()
	h.want = &want
	h.mu.Unlock()
	h.loop.Mark()
}

// configure says what the configuration is.
func (h *serviceHost) configure(s serviceHostSettings) {
	h.mu.Lock()
	changed := h.settings.backend != s.backend || !slices.Equal(h.settings.nodePortAddrs, s.nodePortAddrs)
	h.settings = s
	h.mu.Unlock()
	if changed {
		h.loop.Mark()
	}
}

func (h *serviceHost) reconcile(ctx context.Context) error {
	h.mu.Lock()
	want, settings := h.want, h.settings
	h.mu.Unlock()
	if want == nil || settings.backend == "" {
		return nil
	}
	if h.firewall == nil || h.firewallBackend != settings.backend {
		h.firewall, h.firewallBackend = hostfw.NewServices(hostfw.Params{Backend: settings.backend}), settings.backend
	}
	routes := slices.Clone(want.Routes)
	for _, a := range want.Aliases {
		routes = append(routes, a.To)
	}
	_, routesErr := kernel.ServiceRoutes{Interface: vsdb.GatewayPort, Via: serviceHops()}.Apply(ctx, routes)
	_, rulesErr := h.firewall.Apply(ctx, serviceRules(want, settings))
	err := errors.Join(routesErr, rulesErr)
	h.done(err)
	return err
}

// serviceHops are the next hops of the kernel's routes to Services.
func serviceHops() []netip.Addr { return []netip.Addr{pipeline.NodePort4, pipeline.NodePort6} }

func serviceRules(want *service.Host, settings serviceHostSettings) hostfw.ServiceRules {
	r := hostfw.ServiceRules{To4: pipeline.NodePort4, To6: pipeline.NodePort6, NodePortAddrs: settings.nodePortAddrs}
	for _, p := range want.NodePorts {
		r.NodePorts = append(r.NodePorts, hostfw.ServicePort{Protocol: uint8(p.Protocol), Port: p.Port})
	}
	for _, a := range want.Aliases {
		r.Aliases = append(r.Aliases, hostfw.ServiceAlias{Addr: a.At, Protocol: uint8(a.Protocol), To: a.To})
	}
	return r
}

// serviceNode is the node as Services know it.
func serviceNode(zone string, w World, p *Plan) service.Node {
	n := service.Node{Name: w.Local.Name, Zone: zone, ClusterIPsOnly: w.Config.Services.Mode != config.ServicesAll}
	own := slices.Clone(w.Local.Addresses)
	for _, g := range p.Gateways {
		own = append(own, g.Addr())
	}
	slices.SortFunc(own, netip.Addr.Compare)
	for _, a := range slices.Compact(own) {
		if w.Config.Services.NodePortAt(a) {
			n.Addrs = append(n.Addrs, a)
		}
	}
	return n
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/internal/healthcheck"
	"github.com/waymark-net/waymark/internal/hostports"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/ovs/conntrack"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/unixctl"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/routing/kernel"
	"github.com/waymark-net/waymark/service"
)

// serviceHost does what Services ask of the node itself: routes into the switch,
// NodePorts, health checks. A loop of its own compares that with what there is.
type serviceHost struct {
	loop   *reconcile.Loop
	params serviceHostParams

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
	// addrs are those by which endpoints elsewhere know the node, one a family.
	addrs []netip.Addr
	// mtu is the largest packet in bytes that the node may send to a Service.
	mtu int
	// all says that all of Services is ours to serve, and nothing kube-proxy's.
	all bool
}

func (s serviceHostSettings) equal(o serviceHostSettings) bool {
	return s.backend == o.backend && s.all == o.all && s.mtu == o.mtu && slices.Equal(s.nodePortAddrs, o.nodePortAddrs) &&
		slices.Equal(s.addrs, o.addrs)
}

// serviceHostParams are what newServiceHost needs.
type serviceHostParams struct {
	drift *drift.Tracker
	// done is told what came of each run.
	done     func(error)
	problems *serviceProblems
	health   *serviceHealth
	// others is told of rules of kube-proxy; of none when there are none.
	others func(ctx context.Context, found []string)
}

func newServiceHost(p serviceHostParams) *serviceHost {
	h := &serviceHost{params: p}
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
	changed := !h.settings.equal(s)
	h.settings = s
	h.mu.Unlock()
	if changed {
		h.loop.Mark()
	}
}

// wantedServiceRoutes are what Apply makes of the routes to Services.
type wantedServiceRoutes struct {
	Addrs []netip.Addr
	MTU   int
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
	rules := serviceRules(want, settings)
	routes := serviceRoutes(want, rules)
	run := h.params.drift.Begin(drift.Routes, forServices)
	routesDone, routesErr := kernel.ServiceRoutes{Interface: vsdb.GatewayPort, Via: serviceHops(), MTU: settings.mtu}.Apply(ctx, routes)
	run.End(wantedServiceRoutes{routes, settings.mtu}, routesDone.Added+routesDone.Replaced+routesDone.Removed, routesErr)
	run = h.params.drift.Begin(drift.Firewall, forServices)
	rulesDone, rulesErr := h.firewall.Apply(ctx, rules)
	run.End(wantedRules{settings.backend, rules}, b2i(rulesDone.Changed), rulesErr)
	err := errors.Join(routesErr, rulesErr, h.params.health.server.Set(ctx, healthChecks(want)))
	h.params.done(err)
	h.params.health.ran(ctx, errors.Join(routesErr, rulesErr), settings.all)
	return errors.Join(err, h.inspect(ctx, want))
}

// inspect looks for what else wants to serve the Services. It is for people only.
func (h *serviceHost) inspect(ctx context.Context, want *service.Host) error {
	var found []string
	var proxyErr error
	if len(want.Routes) > 0 {
		found, proxyErr = hostfw.KubeProxyRules()
	}
	h.params.others(ctx, found)
	ports := map[hostfw.ServicePort]service.Key{}
	for _, p := range want.NodePorts {
		ports[hostfw.ServicePort{Protocol: uint8(p.Protocol), Port: p.Port}] = p.Key
	}
	problems := map[service.Key][]string{}
	var socketsErr error
	if len(ports) > 0 {
		var sockets []hostports.Socket
		sockets, socketsErr = hostports.Find(hostports.Params{}, func(protocol uint8, port uint16) bool {
			_, meant := ports[hostfw.ServicePort{Protocol: protocol, Port: port}]
			return meant
		})
		for _, s := range sockets {
			k := ports[hostfw.ServicePort{Protocol: s.Protocol, Port: s.Local.Port()}]
			problems[k] = append(problems[k], fmt.Sprintf(
				"a program of the node listens on node port %d of %s at %s: it is not reached any more from elsewhere",
				s.Local.Port(), service.Protocol(s.Protocol), s.Local.Addr()))
		}
	}
	h.params.problems.setHost(ctx, problems)
	return errors.Join(proxyErr, socketsErr)
}

func healthChecks(want *service.Host) []healthcheck.HealthCheck {
	var out []healthcheck.HealthCheck
	for _, c := range want.HealthChecks {
		out = append(out, healthcheck.HealthCheck{Namespace: c.Key.Namespace, Name: c.Key.Name, Port: c.Port, Endpoints: c.Endpoints})
	}
	return out
}

// serviceHops are the next hops of the kernel's routes to Services.
func serviceHops() []netip.Addr { return []netip.Addr{pipeline.NodePort4, pipeline.NodePort6} }

// serviceRoutes are the addresses that the kernel is to route into the switch: also
// those by which what rules translate goes there, and comes back.
func serviceRoutes(want *service.Host, rules hostfw.ServiceRules) []netip.Addr {
	routes := slices.Clone(want.Routes)
	for _, a := range rules.Aliases {
		routes = append(routes, a.To)
	}
	for _, c := range rules.NodeClients {
		routes = append(routes, c.As)
	}
	return routes
}

func serviceRules(want *service.Host, settings serviceHostSettings) hostfw.ServiceRules {
	r := hostfw.ServiceRules{
		Gateway: vsdb.GatewayPort, To4: pipeline.NodePort4, To6: pipeline.NodePort6, NodePortAddrs: settings.nodePortAddrs,
	}
	for _, p := range want.NodePorts {
		r.NodePorts = append(r.NodePorts, hostfw.ServicePort{Protocol: uint8(p.Protocol), Port: p.Port})
	}
	for _, a := range want.Aliases {
		r.Aliases = append(r.Aliases, hostfw.ServiceAlias{Addr: a.At, Protocol: uint8(a.Protocol), To: a.To})
	}
	if len(r.NodePorts) == 0 {
		return r
	}
	for _, a := range settings.addrs {
		c := hostfw.NodeClient{As: pipeline.NodeClient6, Node: a}
		if a.Is4() {
			c.As = pipeline.NodeClient4
		}
		r.NodeClients = append(r.NodeClients, c)
	}
	return r
}

// nodeAddresses are those by which endpoints elsewhere know a node: the address of
// the node, or in a family without one that of the gateway of its Pods.
func nodeAddresses(w World, p *Plan) []netip.Addr {
	var out []netip.Addr
	for _, g := range p.Gateways {
		a := w.Local.Address(routing.FamilyOf(g.Addr()))
		if !a.IsValid() {
			a = g.Addr()
		}
		out = append(out, a)
	}
	return out
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

// newServices wires what serves Services. mark asks for a run of the node loop.
func (a *Agent) newServices(mark func()) {
	a.served, a.drain = &servedAddresses{file: a.servedFile(), mark: mark}, a.newDrainer(mark)
	a.serviceEvents = kube.NewServiceEvents(kube.ServiceEventsParams{
		Recorder: a.status.recorder, Object: a.cluster.Object, Snapshot: a.watcher.Snapshot, NodeName: a.p.NodeName,
	})
	problems := newServiceProblems(a.serviceEvents.Set)
	a.forgetter = newForgetter(forgetterParams{
		forget: a.flows.ForgetConnections, settled: a.datapathSettled,
		again: func(list []service.Connection) { a.services.again(list) },
	})
	a.serviceHealth = newServiceHealth(serviceHealthParams{
		ready: func() error { return a.services.ready() }, snapshot: a.watcher.Snapshot, nodeName: a.p.NodeName,
	})
	a.serviceHost = newServiceHost(serviceHostParams{
		drift: a.drift,
		done: func(err error) {
			if a.health.set("service host", err) {
				mark()
			}
		},
		problems: problems, health: a.serviceHealth, others: a.onKubeProxy,
	})
	a.services = newServiceSwitch(serviceSwitchParams{
		source: a.cluster, flows: a.flows, mark: a.serviceLoop.Mark, news: mark,
		forget: a.forgetter.add, forgetThese: a.flows.ForgetConnections, connections: a.trackedConnections, problems: problems,
		host: func(h service.Host) {
			a.serviceHost.set(h)
			a.served.set(h)
		},
	})
	a.affinity = newAffinity(a.flows, a.services.longAffinity)
}

// onKubeProxy warns, once, of rules of kube-proxy where the switch serves all of
// Services: they come first, and go stale when nobody keeps them.
func (a *Agent) onKubeProxy(ctx context.Context, found []string) {
	a.metrics.kubeProxy.Set(b2f(len(found) > 0))
	text := strings.Join(found, ", ")
	if last := a.kubeProxy.Swap(&text); text == "" || last != nil && *last == text {
		return
	}
	const advice = "services.mode is All, but kube-proxy serves this node, too, or has left rules: remove it and run kube-proxy --cleanup, " +
		"or set services.mode to ClusterIPOnly"
	klog.FromContext(ctx).Info("Rules of kube-proxy are on the node", "found", text, "advice", advice)
	if snapshot := a.watcher.Snapshot(); snapshot != nil && snapshot.Node(a.p.NodeName) != nil {
		a.status.recorder.OnNode(snapshot.Node(a.p.NodeName), kube.Warning, "KubeProxyFound", advice+"; found: "+text)
	}
}

// datapathSettled returns when the switch has looked at all that the datapath had
// kept when it was called.
func (a *Agent) datapathSettled(ctx context.Context) error {
	_, err := unixctl.Call(ctx, filepath.Join(a.p.OVSDir, "ovs-vswitchd.ctl"), "revalidator/wait")
	return err
}

// trackedConnections tells what the switch knows of a zone's connections, in
// whichever datapath there is.
func (a *Agent) trackedConnections(ctx context.Context, zone uint16, each func(conntrack.Entry) error) error {
	p := conntrack.Params{Socket: filepath.Join(a.p.OVSDir, "ovs-vswitchd.ctl"), Datapath: conntrack.DatapathSystem, Zone: zone}
	err := conntrack.Dump(ctx, p, each)
	if errors.Is(err, unixctl.ErrRefused) {
		p.Datapath = conntrack.DatapathNetdev
		err = conntrack.Dump(ctx, p, each)
	}
	return err
}

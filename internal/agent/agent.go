// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/cniserver"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/internal/httpserver"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/localapi"
	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/internal/refuse"
	"github.com/waymark-net/waymark/internal/rollout"
	"github.com/waymark-net/waymark/internal/speakerapi"
	"github.com/waymark-net/waymark/ipam"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/router"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/bfd/handover"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/service"
)

// reconcileTimeout bounds one run of the node loop, so that a switch that does
// not answer is reported and tried again.
const reconcileTimeout = 30 * time.Second

// switchPatience is how long the node loop waits for flows to reach a switch
// that is not connected. The next run may have to make its bridges first, as
// after a loss of the database.
const switchPatience = time.Second

// Params are what New needs.
type Params struct {
	// NodeName is the name of the Node object.
	NodeName string
	// Kubernetes is the way to the API server.
	Kubernetes *rest.Config
	// StateDir outlives a reboot; RunDir does not, and holds the sockets of the CNI
	// server, of the local API and of the routing speaker.
	StateDir, RunDir string
	// OVSDir holds db.sock and br-int.mgmt.
	OVSDir string
	// TokenFile holds the token that the controllers ask for.
	TokenFile string
	// CNIConfig is where the CNI configuration is written once the node is
	// ready, in the agent's own file system.
	CNIConfig string
	// Listen is the address of health and metrics.
	Listen string
}

// Agent is the agent of one node.
type Agent struct {
	p        Params
	registry *prometheus.Registry
	metrics  *metrics
	health   *health

	watcher  *kube.Watcher
	cluster  *kube.ServiceWatcher
	vsdb     *vsdb.Client
	flows    *openflow.Target
	router   *router.Applier
	prober   *prober
	packets  *openflow.PacketIns
	refusals *refusals
	policies *policies
	resume   resume
	local    *localapi.Server
	speaker  *speakerapi.Client
	cni      *cniserver.Server
	pods     *podSwitch
	services *serviceSwitch
	drift    *drift.Tracker
	watchers watchers
	status   *statusWriter
	acks     *acknowledger
	loop     *reconcile.Loop
	podLoop  *reconcile.Loop
	// serviceLoop follows the Services of the cluster.
	serviceLoop *reconcile.Loop
	serviceHost *serviceHost
	served      *servedAddresses
	drain       *drainer
	forgetter   *forgetter
	affinity    *affinity
	// serviceEvents says what is wrong with Services, serviceHealth answers load
	// balancers.
	serviceEvents *kube.ServiceEvents
	serviceHealth *serviceHealth
	// kubeProxy is what was last found of it.
	kubeProxy atomic.Pointer[string]
	sessions  atomic.Pointer[[]routing.SessionStatus]
	paths     atomic.Pointer[routing.PathEvent]
	// podsDeclared says that the flows of all Pods there were at the start
	// have been declared, so that what is left in the switch is garbage.
	podsDeclared atomic.Bool
	// podsDegraded is the error of the last repair of Pods.
	podsDegraded atomic.Pointer[error]

	settings struct {
		sync.Mutex
		value cniserver.Settings
		known bool
		// version counts the values.
		version int64
	}
	// podsAt is the version that Pods were last brought to.
	podsAt atomic.Int64

	// What follows belongs to the goroutine of loop.
	registered  bool // the Node object has been seen
	conf        *config.Config
	confText    []byte
	confVersion string
	refused     string // what was wrong with the document when it was last spoken of
	carriedOut  string
	ports       map[string]vsdb.PortStatus
	tunnels     map[string]pipeline.NodeParams // those in use, by node
	unanswered  map[netip.Addr]time.Time       // next hops that did not answer, since when
	// uplinkMu guards what decides whether node or switch has the uplink: its
	// addresses, what is saved of them, and the host firewall.
	uplinkMu        sync.Mutex
	firewall        *hostfw.Firewall
	firewallBackend hostfw.Backend
	rollout         *rollout.Rollout // the last one that was seen
	said            kube.NodeRollout // of it
}

// New wires an agent. It touches nothing outside the process.
func New(p Params) (*Agent, error) {
	clients, err := kube.NewClients(p.Kubernetes)
	if err != nil {
		return nil, err
	}
	a := &Agent{p: p, registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics = newMetrics(a.registry)
	// The runtime gets its configuration from the loop of Pods.
	a.health = newHealth(func() { a.podLoop.Mark() }, "world", "plan", "pods")
	mark := func() { a.loop.Mark() }
	a.loop = reconcile.New(reconcile.Params{
		Name:        "node",
		Reconcile:   a.reconcile,
		MinInterval: 100 * time.Millisecond,
		MaxInterval: 30 * time.Second,
		RetryBase:   500 * time.Millisecond,
		RetryMax:    10 * time.Second,
	})
	a.podLoop = reconcile.New(reconcile.Params{
		Name:        "pods",
		Reconcile:   a.reconcilePods,
		MinInterval: 500 * time.Millisecond,
		MaxInterval: 30 * time.Second,
		RetryBase:   500 * time.Millisecond,
		RetryMax:    10 * time.Second,
	})
	a.watcher = kube.NewWatcher(kube.WatcherParams{Clients: clients, NodeName: p.NodeName, OnChange: mark})
	a.serviceLoop = reconcile.New(reconcile.Params{
		Name:        "services",
		Reconcile:   func(ctx context.Context) error { return a.services.reconcile(ctx) },
		MinInterval: 10 * time.Millisecond,
		MaxInterval: 10 * time.Minute,
		RetryBase:   500 * time.Millisecond,
		RetryMax:    30 * time.Second,
	})
	if a.cluster, err = kube.NewServiceWatcher(kube.ServiceWatcherParams{Clients: clients, OnChange: a.serviceLoop.Mark}); err != nil {
		return nil, err
	}
	a.vsdb = vsdb.New(vsdb.Params{Endpoint: "unix:" + filepath.Join(p.OVSDir, "db.sock"), Notify: a.onSwitch})
	socket := filepath.Join(p.OVSDir, vsdb.IntegrationBridge+".mgmt")
	a.flows = openflow.New(openflow.Params{
		Socket: socket, Meters: []flow.Meter{enforce.DeniedMeter(), refuse.Meter()},
		Learned: pipeline.LearnedTables(), Fresh: a.onFreshSwitch, Repaired: a.onFlowRepair,
	})
	a.resume.flows = a.flows
	a.prober = newProber(mark)
	a.router = router.New(router.Params{Socket: filepath.Join(p.OVSDir, "ovs-vswitchd.ctl")})
	a.speaker = a.newSpeaker()
	a.drift, a.watchers = drift.New(a.metrics.repaired), a.newWatchers()
	a.policies, a.refusals = a.newPolicies(clients), newRefusals(a.flows)
	a.packets = openflow.NewPacketIns(openflow.PacketInsParams{Socket: socket, Queues: []*openflow.PacketQueue{a.policies.denied, a.refusals.queue}})
	a.local = localapi.New(localapi.Params{
		Socket: filepath.Join(p.RunDir, "agent.sock"),
		Report: a.policies.enforcer.Report, Status: a.policies.client.Status,
		Services: func(only service.Key) localapi.ServicesReport { return a.services.report(only) },
	})
	a.pods = newPodSwitch(a.vsdb, a.flows, a.policies.enforcer)
	a.status = newStatusWriter(clients, p.NodeName)
	a.acks = newAcknowledger(clients, p.NodeName)
	a.newServices(mark)
	a.cni, err = cniserver.New(cniserver.Params{
		SocketPath: filepath.Join(p.RunDir, "cni.sock"),
		StateDir:   filepath.Join(p.RunDir, "attachments"),
		Settings:   a.cniSettings,
		Switch:     a.pods,
		Policies:   a.policies.enforcer,
		Links:      podlink.Links{},
		Addresses:  ipam.New(ipam.Params{Dir: filepath.Join(p.StateDir, "ipam")}),
		Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	a.registry.MustRegister(flowCollectors(a.flows.Stats)...)
	a.registry.MustRegister(newBGPCollector(a.bgpSessions), newSpeakerGauge(a.speaker.Err))
	a.registry.MustRegister(policyCollectors(policySources{
		status: a.policies.client.Status, totals: a.policies.enforcer.Totals, stats: a.policies.enforcer.Stats,
		lost: a.policies.denied.Lost, malformed: a.packets.Malformed,
	})...)
	a.registry.MustRegister(refusalCollectors(a.refusals.refuser.Stats, a.refusals.queue.Lost)...)
	return a, nil
}

// Run runs the agent until ctx ends or a part of it cannot go on. Nothing of
// the node is undone at the end: packets, routes and sessions outlive the agent.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"API watcher", a.watcher.Run},
		{"Service watcher", a.cluster.Run},
		{"OVSDB client", a.vsdb.Run},
		{"OpenFlow target", a.flows.Run},
		{"packets of the switch", a.packets.Run},
		{"policies", a.policies.run},
		{"refusals", a.refusals.run},
		{"connection to the routing speaker", a.speaker.Run},
		{"BFD standby", func(ctx context.Context) error { return handover.Standby(ctx, a.p.RunDir) }},
		{"probes", a.prober.engine.Run},
		{"kernel watcher", a.watchers.kernel.Run},
		{"sysctl watcher", a.watchers.sysctls.Run},
		{"link watcher", a.watchers.links.Run},
		{"uplink guard", a.newUplinkGuard().run},
		{"firewall watcher", a.watchers.tables.Run},
		{"CNI server", a.cni.Run},
		{"local API", a.local.Run},
		{"status writer", a.status.Run},
		{"rollout acknowledgements", a.acks.loop.Run},
		{"node loop", a.loop.Run},
		{"Pod loop", a.podLoop.Run},
		{"Service loop", a.serviceLoop.Run},
		{"Service host loop", a.serviceHost.loop.Run},
		{"connection loop", a.forgetter.loop.Run},
		{"second connection loop", a.forgetter.settling.Run},
		{"affinity loop", a.affinity.loop.Run},
		{"Service events", a.serviceEvents.Run},
		{"Service health checks", a.serviceHealth.server.Run},
		{"HTTP server", func(ctx context.Context) error {
			return httpserver.Serve(ctx, httpserver.Params{Address: a.p.Listen, Ready: a.health.err, Gatherer: a.registry})
		}},
	} {
		group.Go(func() error {
			err := part.run(ctx)
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s ended: %w", part.name, err)
		})
	}
	return group.Wait()
}

// reconcile looks at the world, plans, carries out the plan, and reports.
func (a *Agent) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	if err := a.restoreUplink(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot restore the uplink")
	}
	seen, err := a.look(ctx)
	a.health.set("world", err)
	var plan *Plan
	if err == nil {
		plan, err = MakePlan(seen.world)
		a.health.set("plan", err)
	}
	if err == nil {
		a.metrics.plan(plan, seen.world.Drain)
		err = a.apply(ctx, seen.world, plan)
		a.announceSettings(seen, plan)
	}
	a.acknowledge(ctx, seen.world, plan, err)
	if errors.Is(err, errNodeDeleted) {
		// The Pod CIDRs may be another node's soon: the routers must forget
		// that they are here, and not keep them as for a restart.
		err = errors.Join(err, a.speaker.Shutdown(ctx))
	}
	a.report(seen, plan, err)
	if errors.Is(err, errNoSnapshot) {
		klog.FromContext(ctx).V(2).Info("Waiting for the API server")
		return nil
	}
	return err
}

// onSwitch marks what a change in the switch database concerns. Attaching and
// detaching a Pod changes a lot there, which concerns nobody else.
func (a *Agent) onSwitch(c vsdb.Change) {
	if c.Pod == nil {
		a.loop.Mark()
	} else if a.pods.expected(c) {
		return
	}
	a.podLoop.Mark()
}

// newSpeaker is the routing speaker, which is a process of its own.
func (a *Agent) newSpeaker() *speakerapi.Client {
	return speakerapi.NewClient(speakerapi.ClientParams{
		Socket: filepath.Join(a.p.RunDir, speakerapi.SocketName), OnRoutes: a.onRoutes, OnSessions: a.onSessions,
	})
}

func (a *Agent) onRoutes(e routing.PathEvent) {
	a.paths.Store(&e)
	a.loop.Mark()
}

func (a *Agent) onSessions(s []routing.SessionStatus) {
	a.sessions.Store(&s)
	a.loop.Mark()
}

func (a *Agent) bgpSessions() []routing.SessionStatus {
	if s := a.sessions.Load(); s != nil {
		return *s
	}
	return nil
}

func (a *Agent) learned() routing.PathEvent {
	if e := a.paths.Load(); e != nil {
		return *e
	}
	return routing.PathEvent{}
}

func isPodOwner(owner string) bool { return strings.HasPrefix(owner, pipeline.OwnerPod("")) }

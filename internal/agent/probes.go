// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/kernel"
	"github.com/waymark-net/waymark/routing/probe"
)

// awaitRoutes is how long an agent that starts waits for the routing speaker to tell
// the routes: to plan without them would move to tunnels what goes by routes.
const awaitRoutes = 5 * time.Second

// errNoRoutes says that the routing speaker has not told the routes yet.
var errNoRoutes = errors.New("waiting for the routing speaker to tell the routes")

// prober proves routed paths to other nodes, for mode auto, and knows since when the
// paths of any mode are what they are.
type prober struct {
	engine *probe.Engine
	// What follows belongs to the node loop.
	started time.Time
	// assumed are the paths that were routed when the agent started, nil before that
	// was looked for.
	assumed map[routing.ProofKey]bool
	paths   map[routing.ProofKey]pathState
	// settled says that paths are chosen knowing all routes. Before that they may be
	// others than those by which packets go.
	settled bool
}

// pathState is the path to a node, and since when it is. found says that it was so
// when the agent started.
type pathState struct {
	kind  routing.PathKind
	since time.Time
	found bool
}

func newProber(news func()) *prober {
	p := &prober{started: time.Now(), paths: map[routing.ProofKey]pathState{}}
	p.engine = probe.New(probe.Params{OnVerdicts: func([]probe.Verdict) { news() }})
	return p
}

// proofs are what is known of the routed paths now. What was in use when the agent
// started works until probes have told otherwise.
func (p *prober) proofs() map[routing.ProofKey]routing.Proof {
	out := map[routing.ProofKey]routing.Proof{}
	for key := range p.assumed {
		out[key] = routing.Proof{Works: true, Reason: "it was in use before the agent started"}
	}
	for _, v := range p.engine.Status() {
		out[routing.ProofKey{Node: v.Node, Family: v.Family}] = routing.Proof{Works: v.Works, Reason: v.Reason}
	}
	return out
}

// look adds to the world what probes found.
func (p *prober) look(ctx context.Context, w *World, told bool) error {
	if !w.probes() {
		p.assumed = map[routing.ProofKey]bool{}
		return nil
	}
	if p.assumed == nil {
		routes, err := kernel.Routes{}.Read(ctx)
		if err != nil {
			return err
		}
		p.assumed = routing.Routed(routes, vsdb.GatewayPort, w.Remotes)
	}
	if !told && len(p.assumed) > 0 && len(w.Peers) > 0 && time.Since(p.started) < awaitRoutes {
		return errNoRoutes
	}
	w.Assumed, w.Proofs = p.assumed, p.proofs()
	return nil
}

// probes tells whether any path may depend on probes.
func (w World) probes() bool {
	return w.Config.Mode == routing.ModeAuto || w.Rollout != nil && w.Rollout.From.Mode == routing.ModeAuto
}

// probing is what is to be probed so that paths can be chosen among routed ones and
// tunnels.
func probing(w World, valid routing.Validation, routed []routing.Path, size int) probe.Config {
	var c probe.Config
	if !w.probes() {
		return c
	}
	local := map[routing.Family]bool{}
	for _, cidr := range valid.Local.PodCIDRs {
		c.Local = append(c.Local, routing.ProbeAddressOf(cidr))
		local[routing.FamilyOf(cidr.Addr())] = true
	}
	for _, n := range valid.Remotes {
		for _, cidr := range n.PodCIDRs {
			c.Answer = append(c.Answer, routing.ProbeAddressOf(cidr))
		}
	}
	for _, path := range routed {
		if !local[path.Family] {
			continue
		}
		t := probe.Target{
			Node: path.Node, Family: path.Family, Address: routing.ProbeAddressOf(path.PodCIDR), Size: size,
			AssumeWorks: w.Assumed[routing.ProofKey{Node: path.Node, Family: path.Family}],
		}
		if path.Kind != routing.PathNone {
			t.Route = fmt.Sprintf("%s %v", path.Kind, path.NextHops)
		}
		c.Targets = append(c.Targets, t)
	}
	return c
}

// applyProbes has paths probed, and tells which of them have changed.
func (a *Agent) applyProbes(ctx context.Context, w World, p *Plan) error {
	for _, path := range a.prober.follow(p.Paths, w.Converged) {
		klog.FromContext(ctx).Info("Path changed", "node", path.Node, "family", path.Family,
			"path", path.Kind, "nextHops", path.NextHops, "reason", path.Reason)
	}
	a.metrics.since(p.Paths, a.prober.paths)
	return a.prober.engine.Set(ctx, p.Probes)
}

// follow notes since when paths are what they are, and returns those that have
// changed. all says that the routing speaker has told all routes.
func (p *prober) follow(paths []routing.Path, all bool) (changed []routing.Path) {
	now := time.Now()
	states := make(map[routing.ProofKey]pathState, len(paths))
	for _, path := range paths {
		key := routing.ProofKey{Node: path.Node, Family: path.Family}
		state, known := p.paths[key]
		if !known || state.kind != path.Kind {
			state = pathState{kind: path.Kind, since: now, found: !p.settled}
			changed = append(changed, path)
		}
		states[key] = state
	}
	p.paths = states
	p.settled = p.settled || all || now.Sub(p.started) >= awaitRoutes
	return changed
}

// report is what is to be told of the paths of a plan, nil: nothing yet.
func (p *prober) report(seen sight, plan *Plan) *kube.PathReport {
	if !p.settled {
		return nil
	}
	r := &kube.PathReport{Node: seen.node, Mode: seen.world.Config.Mode}
	for _, path := range plan.Paths {
		state := p.paths[routing.ProofKey{Node: path.Node, Family: path.Family}]
		r.Paths = append(r.Paths, kube.PathState{Path: path, Since: state.since, Found: state.found})
	}
	return r
}

// probeAddresses are the node's own, as the gateway's interface has them.
func probeAddresses(c probe.Config) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range c.Local {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

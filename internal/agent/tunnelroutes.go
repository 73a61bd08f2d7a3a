// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/router"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/kernel"
)

const (
	// resolveWait bounds how long a run of the node loop waits for next hops of
	// tunnels to answer.
	resolveWait = 200 * time.Millisecond
	// resolveAgain is after how long one that did not is asked again.
	resolveAgain = 30 * time.Second
)

// tunnelRoutes are the ways of a switch in userspace to the far ends of tunnels. What
// has none over the bridge of the uplink, from the address that the other end knows,
// is left to the copy that the switch has of the kernel's routes.
func tunnelRoutes(w World, ends []encap.Endpoint) []router.Route {
	if w.Config.Datapath != config.DatapathNetdev {
		return nil // the kernel sends what is tunnelled
	}
	var out []router.Route
	seen := map[netip.Addr]bool{}
	for _, e := range ends {
		hops := slices.DeleteFunc(routing.ResolveNextHop(w.Links, w.Underlay, e.Remote), func(h routing.NextHop) bool {
			return h.Interface != w.Uplink.Name || !w.sends(e.Local, h.Addr)
		})
		if len(hops) == 0 || seen[e.Remote] {
			continue
		}
		seen[e.Remote] = true
		// Several routers share the nodes; a tunnel's packets all take one way.
		slices.SortFunc(hops, func(a, b routing.NextHop) int { return a.Addr.Compare(b.Addr) })
		sum := fnv.New32a()
		_, _ = sum.Write(e.Remote.AsSlice())
		r := router.Route{Dst: e.Remote, Bridge: vsdb.ExternalBridge}
		if hop := hops[int(sum.Sum32()%uint32(len(hops)))]; hop.Addr != e.Remote {
			r.Gateway = hop.Addr
		}
		out = append(out, r)
	}
	return out
}

// sends tells whether a switch in userspace sends packets to a next hop from a given
// address of the node. It chooses the address itself: the first whose network at the
// bridge has the next hop.
func (w World) sends(from, hop netip.Addr) bool {
	return slices.ContainsFunc(w.Links, func(l routing.Link) bool {
		return l.Name == w.Uplink.Name && slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
			return p.Contains(hop) && p.Contains(from)
		})
	})
}

// applyTunnelRoutes tells the switch the ways of tunnels, and the next hops before
// the first packet needs them.
func (a *Agent) applyTunnelRoutes(ctx context.Context, w World, p *Plan) error {
	if w.Config.Datapath != config.DatapathNetdev {
		return nil
	}
	_, err := a.router.Apply(ctx, p.TunnelRoutes)
	return errors.Join(err, a.resolveTunnels(ctx, p.TunnelRoutes))
}

func (a *Agent) resolveTunnels(ctx context.Context, routes []router.Route) error {
	if len(routes) == 0 {
		a.unanswered = nil
		return nil
	}
	have, err := a.router.Neighbours(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	var ask []netip.Addr
	for _, r := range routes {
		hop := r.NextHop()
		known := slices.ContainsFunc(have, func(n router.Neighbour) bool { return n.Addr == hop && n.Bridge == r.Bridge })
		if !known && !slices.Contains(ask, hop) && now.Sub(a.unanswered[hop]) > resolveAgain {
			ask = append(ask, hop)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	found, err := kernel.ResolveNeighbours(ctx, vsdb.ExternalBridge, ask, resolveWait)
	if a.unanswered == nil {
		a.unanswered = map[netip.Addr]time.Time{}
	}
	var news []router.Neighbour
	for _, addr := range ask {
		mac, ok := found[addr]
		if !ok {
			a.unanswered[addr] = now
			continue
		}
		delete(a.unanswered, addr)
		news = append(news, router.Neighbour{Bridge: vsdb.ExternalBridge, Addr: addr, MAC: mac})
	}
	return errors.Join(err, a.router.SetNeighbours(ctx, news))
}

// settleRoutes waits until a switch in userspace has read the kernel's routes, which
// were changed, and its datapath goes by them.
//
// When a route changes, the switch forgets the addresses at which it takes tunnelled
// packets, and learns them again from what it then reads. Flows that are looked at
// meanwhile, as they all are when flows were changed, become such that hand those
// packets to the kernel. Routes and flows are therefore changed one after the other,
// with the datapath at rest between: see settleDatapath.
func (a *Agent) settleRoutes(ctx context.Context) error {
	// A command is answered between two rounds of the switch's main loop, which
	// reads what the kernel has said in each.
	for range 2 {
		if err := a.vswitchd(ctx, "ovs/route/show"); err != nil {
			return err
		}
	}
	return a.settleDatapath(ctx)
}

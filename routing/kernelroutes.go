// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Metrics of the routes Waymark installs, lower wins.
const (
	MetricService = 50
	MetricLocal   = 100
	MetricDirect  = 100
	MetricTunnel  = 100
	MetricBGP     = 200
	MetricGuard   = 4096
)

// Neighbour is one permanent neighbour entry.
type Neighbour struct {
	Addr      netip.Addr
	MAC       net.HardwareAddr
	Interface string
}

// KernelInput is everything the kernel's state depends on.
type KernelInput struct {
	Local Node
	Links []Link
	// Underlay are the main table's routes that are not ours; next hops that
	// are not on-link are resolved through them.
	Underlay []Route
	Paths    []Path
	Learned  []LearnedRoute
	// Aggregates are the networks that the node announces although only a part
	// of each is its own.
	Aggregates []netip.Prefix
	// Probed are routed paths to nodes whose probe address is to be reached by them,
	// whichever way Pods are.
	Probed []Path
	// MTU is the largest packet in bytes that may go to Pods by routes, 0: what the
	// interface takes.
	MTU int
	// Gateway is the interface through which tunnelled packets enter the switch.
	Gateway GatewayInterface
}

// GatewayInterface is the node's port on the switch.
type GatewayInterface struct {
	Name string
	// MAC is the gateway's hardware address, the same on every node.
	MAC net.HardwareAddr
	// PodMTU is the largest packet that local Pods get, 0: the interface's.
	PodMTU int
	// TunnelMTU is the largest packet that fits the tunnel, 0: the interface's.
	TunnelMTU int
	// Behind are further addresses to which the switch takes packets.
	Behind []netip.Addr
}

// KernelState is what the kernel is to hold.
type KernelState struct {
	Routes     []Route
	Neighbours []Neighbour
	// Unresolved says in words which learned routes cannot be installed.
	Unresolved []string
}

// KernelRoutes turns paths and learned routes into routes and neighbours, both
// sorted. Every remote Pod CIDR, but those that trust the default route, gets
// an unreachable route behind the real one: a packet to a Pod whose path is
// gone is refused and not sent along the default route. So is one to an address
// inside an aggregate that nobody has, for the routers would send it back. Local
// Pods are behind the gateway. The Service address of the node, which no interface
// has, is a neighbour behind the gateway.
func KernelRoutes(in KernelInput) KernelState {
	b := &kernelBuilder{in: in, seen: map[routeKey]bool{}}
	for _, p := range in.Local.PodCIDRs {
		b.add(Route{Prefix: p, Metric: MetricLocal, MTU: in.Gateway.PodMTU, Source: GatewayOf(p),
			NextHops: []NextHop{{Interface: in.Gateway.Name}}})
		b.neighbour(ServiceAddressOf(p))
	}
	for _, a := range in.Gateway.Behind {
		b.neighbour(a)
	}
	for _, p := range in.Paths {
		b.path(p)
	}
	for _, p := range in.Aggregates {
		b.add(Route{Prefix: p, Type: Unreachable, Metric: MetricGuard})
	}
	for _, p := range in.Probed {
		b.probed(p)
	}
	for _, r := range in.Learned {
		if slices.Contains(in.Aggregates, r.Prefix) {
			continue // another node's, by whom packets came here just as well
		}
		hops, err := b.resolve(addrs(r.NextHops))
		if err != nil {
			b.state.Unresolved = append(b.state.Unresolved, fmt.Sprintf("route %s: %v", r.Prefix, err))
			continue
		}
		b.add(Route{Prefix: r.Prefix, NextHops: hops, Metric: MetricBGP})
	}
	slices.SortFunc(b.state.Routes, func(x, y Route) int {
		return cmp.Or(ComparePrefix(x.Prefix, y.Prefix), cmp.Compare(x.Metric, y.Metric))
	})
	slices.SortFunc(b.state.Neighbours, func(x, y Neighbour) int { return x.Addr.Compare(y.Addr) })
	return b.state
}

// ComparePrefix orders prefixes by family, address and length.
func ComparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

type routeKey struct {
	prefix netip.Prefix
	metric int
}

type kernelBuilder struct {
	in    KernelInput
	state KernelState
	seen  map[routeKey]bool
}

// add keeps the first route of a (prefix, metric).
func (b *kernelBuilder) add(r Route) {
	r.Prefix = r.Prefix.Masked()
	k := routeKey{r.Prefix, r.Metric}
	if b.seen[k] {
		return
	}
	b.seen[k] = true
	b.state.Routes = append(b.state.Routes, r)
}

// neighbour has the switch take packets to an address.
func (b *kernelBuilder) neighbour(a netip.Addr) {
	b.state.Neighbours = append(b.state.Neighbours, Neighbour{Addr: a, MAC: b.in.Gateway.MAC, Interface: b.in.Gateway.Name})
}

func (b *kernelBuilder) path(p Path) {
	switch p.Kind {
	case PathDirect:
		link, _ := LinkTo(b.in.Links, p.NextHops[0])
		b.add(Route{Prefix: p.PodCIDR, Metric: MetricDirect, MTU: b.in.MTU,
			NextHops: []NextHop{{Addr: p.NextHops[0], Interface: link}}})
	case PathTunnel:
		gw := GatewayOf(p.PodCIDR)
		r := Route{Prefix: p.PodCIDR, Metric: MetricTunnel, MTU: b.in.Gateway.TunnelMTU,
			NextHops: []NextHop{{Addr: gw, Interface: b.in.Gateway.Name, OnLink: true}}}
		if own := b.in.Local.PodCIDR(p.Family); own.IsValid() {
			r.Source = GatewayOf(own)
		}
		b.add(r)
		b.neighbour(gw)
	case PathBGP:
		// The learned prefix may be an aggregate, which the guard would
		// outrank: the Pod CIDR gets a route of its own.
		hops, err := b.resolve(p.NextHops)
		if err != nil {
			b.state.Unresolved = append(b.state.Unresolved, fmt.Sprintf("route %s to node %s: %v", p.PodCIDR, p.Node, err))
			break
		}
		b.add(Route{Prefix: p.PodCIDR, NextHops: hops, Metric: MetricBGP, MTU: b.in.MTU})
	case PathDefault:
		return
	}
	b.add(Route{Prefix: p.PodCIDR, Type: Unreachable, Metric: MetricGuard})
}

// probed leads to a node's probe address. A path that cannot be resolved gets no
// route, and fails to be proven.
func (b *kernelBuilder) probed(p Path) {
	a := ProbeAddressOf(p.PodCIDR)
	r := Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Metric: MetricDirect}
	switch p.Kind {
	case PathDirect:
		link, _ := LinkTo(b.in.Links, p.NextHops[0])
		r.NextHops = []NextHop{{Addr: p.NextHops[0], Interface: link}}
	case PathBGP:
		hops, err := b.resolve(p.NextHops)
		if err != nil {
			return
		}
		r.NextHops, r.Metric = hops, MetricBGP
	default:
		return
	}
	b.add(r)
}

// Routed returns the paths to nodes that are routed by the given routes of ours, and
// not through the gateway into a tunnel.
func Routed(routes []Route, gateway string, remotes []Node) map[ProofKey]bool {
	best := map[netip.Prefix]Route{}
	for _, r := range routes {
		if have, ok := best[r.Prefix]; r.Type == Unicast && len(r.NextHops) > 0 && (!ok || r.Metric < have.Metric) {
			best[r.Prefix] = r
		}
	}
	out := map[ProofKey]bool{}
	for _, n := range remotes {
		for _, cidr := range n.PodCIDRs {
			if r, ok := best[cidr.Masked()]; ok && r.NextHops[0].Interface != gateway {
				out[ProofKey{n.Name, FamilyOf(cidr.Addr())}] = true
			}
		}
	}
	return out
}

// resolve finds for each BGP next hop the interface or, where it is not
// on-link, the gateways of the most specific underlay route to it (RFC 4271,
// 5.1.3). Next hops without a way are left out while others remain.
func (b *kernelBuilder) resolve(nextHops []netip.Addr) ([]NextHop, error) {
	var hops []NextHop
	var missing []netip.Addr
	for _, a := range nextHops {
		via := ResolveNextHop(b.in.Links, b.in.Underlay, a)
		if len(via) == 0 {
			missing = append(missing, a)
		}
		hops = append(hops, via...)
	}
	if len(hops) == 0 {
		return nil, fmt.Errorf("no way to next hop %v", missing)
	}
	slices.SortFunc(hops, func(x, y NextHop) int {
		return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Interface, y.Interface))
	})
	return slices.Compact(hops), nil
}

// ResolveNextHop returns the ways to an address: itself where it is on-link, else the
// gateways of the most specific route to it. Empty: there is none.
func ResolveNextHop(links []Link, underlay []Route, a netip.Addr) []NextHop {
	if link, ok := LinkTo(links, a); ok {
		return []NextHop{{Addr: a, Interface: link}}
	}
	var best *Route
	for i, r := range underlay {
		if r.Type != Unicast || len(r.NextHops) == 0 || !r.Prefix.Contains(a) {
			continue
		}
		if best == nil || r.Prefix.Bits() > best.Prefix.Bits() ||
			r.Prefix.Bits() == best.Prefix.Bits() && r.Metric < best.Metric {
			best = &underlay[i]
		}
	}
	if best == nil {
		return nil
	}
	out := make([]NextHop, 0, len(best.NextHops))
	for _, h := range best.NextHops {
		if !h.Addr.IsValid() { // a device route: on-link there
			h.Addr = a
		}
		out = append(out, h)
	}
	return out
}

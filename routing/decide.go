// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Input is everything the path decision depends on.
type Input struct {
	Mode Mode
	// TrustDefaultRoute counts the default route as a route to remote Pods
	// (noEncap, clouds whose routers know the Pod CIDRs).
	TrustDefaultRoute bool
	// Links are the local node's uplinks: a remote node is on-link when its
	// address is in one of their prefixes.
	Links []Link
	// Remotes are the other nodes, already validated (see Validate).
	Remotes []Node
	// Learned are the accepted BGP routes.
	Learned []LearnedRoute
	// Aggregates are the networks that the node announces although only a part
	// of each is its own. What it sends there must not come back to it: of the
	// learned routes only more specific ones lead to Pods inside.
	Aggregates []netip.Prefix
	// Proofs say of each node and family whether its routed path carries packets
	// (ModeAuto). Without one it does not.
	Proofs map[ProofKey]Proof
	// TunnelEndpoints are the underlay addresses of remote nodes, by node name.
	TunnelEndpoints map[string]netip.Addr
}

// ProofKey names a path to a node.
type ProofKey struct {
	Node   string
	Family Family
}

// Proof is what probes found of a path.
type Proof struct {
	Works bool
	// Reason says why in words.
	Reason string
}

// RoutedPaths returns the paths that ModeAuto would take if all of them worked:
// PathDirect, PathBGP or PathNone, in the order of DecidePaths.
func RoutedPaths(in Input) []Path {
	in.Mode, in.TrustDefaultRoute = ModeNoEncap, false
	return DecidePaths(in)
}

// DecidePaths returns one path for every Pod CIDR of every remote node, sorted
// by node and family.
func DecidePaths(in Input) []Path {
	var paths []Path
	learned := newRouteIndex(in.Learned)
	for _, n := range in.Remotes {
		for _, f := range Families() {
			cidr := n.PodCIDR(f)
			if !cidr.IsValid() {
				continue
			}
			p := in.decide(n, f, cidr, learned)
			p.Node, p.Family, p.PodCIDR = n.Name, f, cidr
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(a, b Path) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Family, b.Family))
	})
	return paths
}

func (in Input) decide(n Node, f Family, cidr netip.Prefix, learned routeIndex) Path {
	if in.Mode == ModeEncap {
		return in.tunnel(n, "mode is encap")
	}
	if in.Mode == ModeAuto {
		return in.proven(n, f, cidr, learned)
	}
	if a, link, ok := in.onLink(n, f); ok {
		return Path{Kind: PathDirect, NextHops: []netip.Addr{a},
			Reason: fmt.Sprintf("node address %s is on-link at %s", a, link)}
	}
	if in.Mode == ModeHybrid {
		return in.tunnel(n, "node is not on-link")
	}
	within := mostSpecific(in.Aggregates, cidr)
	if r, ok := learned.covering(cidr); ok && r.Prefix.Bits() > within.Bits() {
		return Path{Kind: PathBGP, NextHops: addrs(r.NextHops),
			Reason: fmt.Sprintf("BGP route %s", r.Prefix)}
	}
	if within.IsValid() {
		return Path{Kind: PathNone, Reason: fmt.Sprintf("node is not on-link, and inside the aggregate %s of this node no more specific BGP route covers %s", within, cidr)}
	}
	if in.TrustDefaultRoute {
		return Path{Kind: PathDefault, Reason: "no BGP route, the default route is trusted"}
	}
	return Path{Kind: PathNone, Reason: fmt.Sprintf("node is not on-link and no BGP route covers %s", cidr)}
}

// mostSpecific returns the longest of the prefixes that contain all of cidr. The
// zero Prefix is shorter than any.
func mostSpecific(prefixes []netip.Prefix, cidr netip.Prefix) netip.Prefix {
	var best netip.Prefix
	for _, p := range prefixes {
		if p.Bits() <= cidr.Bits() && p.Contains(cidr.Addr()) && p.Bits() > best.Bits() {
			best = p
		}
	}
	return best
}

// proven takes the routed path where there is one and it works, and the tunnel
// otherwise.
func (in Input) proven(n Node, f Family, cidr netip.Prefix, learned routeIndex) Path {
	in.Mode, in.TrustDefaultRoute = ModeNoEncap, false
	p := in.decide(n, f, cidr, learned)
	if p.Kind == PathNone {
		return in.tunnel(n, p.Reason)
	}
	proof, ok := in.Proofs[ProofKey{n.Name, f}]
	switch {
	case !ok:
		return in.tunnel(n, "the route has not been probed yet: "+p.Reason)
	case !proof.Works:
		return in.tunnel(n, fmt.Sprintf("probes of the route (%s): %s", p.Reason, proof.Reason))
	}
	return p
}

func (in Input) tunnel(n Node, why string) Path {
	ep, ok := in.TunnelEndpoints[n.Name]
	if !ok || !ep.IsValid() {
		return Path{Kind: PathNone, Reason: why + ", but no tunnel endpoint of the node is known"}
	}
	return Path{Kind: PathTunnel, NextHops: []netip.Addr{ep}, Reason: why}
}

// onLink returns the node's on-link address for packets of family f. IPv4
// packets may have an IPv6 next hop where the node has no IPv4 address, not
// the other way round.
func (in Input) onLink(n Node, f Family) (netip.Addr, string, bool) {
	a := n.Address(f)
	if !a.IsValid() && f == IPv4 {
		a = n.Address(IPv6)
	}
	if !a.IsValid() {
		return netip.Addr{}, "", false
	}
	link, ok := LinkTo(in.Links, a)
	return a, link, ok
}

// LinkTo returns the name of the link on which address a is on-link.
func LinkTo(links []Link, a netip.Addr) (string, bool) {
	a = a.Unmap()
	best, name := -1, ""
	for _, l := range links {
		for _, p := range l.Prefixes {
			if p.Bits() > best && p.Contains(a) {
				best, name = p.Bits(), l.Name
			}
		}
	}
	return name, best >= 0
}

// routeIndex finds routes by prefix.
type routeIndex struct {
	lengths []int // longest first
	routes  map[netip.Prefix]LearnedRoute
}

// newRouteIndex leaves out default routes: they say nothing about Pods.
func newRouteIndex(learned []LearnedRoute) routeIndex {
	x := routeIndex{routes: make(map[netip.Prefix]LearnedRoute, len(learned))}
	for _, r := range learned {
		if r.Prefix.Bits() == 0 {
			continue
		}
		x.routes[r.Prefix] = r
		if !slices.Contains(x.lengths, r.Prefix.Bits()) {
			x.lengths = append(x.lengths, r.Prefix.Bits())
		}
	}
	slices.Sort(x.lengths)
	slices.Reverse(x.lengths)
	return x
}

// covering returns the route with the longest prefix that contains all of cidr.
func (x routeIndex) covering(cidr netip.Prefix) (LearnedRoute, bool) {
	for _, bits := range x.lengths {
		if bits > cidr.Bits() {
			continue
		}
		p, err := cidr.Addr().Prefix(bits)
		if err != nil {
			continue
		}
		if r, ok := x.routes[p]; ok {
			return r, true
		}
	}
	return LearnedRoute{}, false
}

func addrs(hops []NextHop) []netip.Addr {
	out := make([]netip.Addr, 0, len(hops))
	for _, h := range hops {
		out = append(out, h.Addr)
	}
	return out
}

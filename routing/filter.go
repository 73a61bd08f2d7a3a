// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net/netip"
	"slices"
)

// DefaultMaxPrefixes bounds what is accepted of a peer and family when its
// ImportRule says nothing.
const DefaultMaxPrefixes = 1000

// FilterReason says why a received route is not used.
type FilterReason string

// The reasons, in the order in which they are tested.
const (
	FilterInvalid     FilterReason = "Invalid"        // not a unicast network, or without AS path from another AS
	FilterNextHop     FilterReason = "NextHop"        // next hop is ourselves or unusable
	FilterEcho        FilterReason = "Echo"           // our own announcement, back from the peer, or the same of another node: normal
	FilterDenied      FilterReason = "Denied"         // in the peer's list of what is refused
	FilterOwnPrefix   FilterReason = "OwnPrefix"      // our own Pod CIDR or a part of it
	FilterNodeAddress FilterReason = "NodeAddress"    // the address of a node, ours included
	FilterOnLink      FilterReason = "OnLinkNetwork"  // a network the node is attached to, or a part of it
	FilterService     FilterReason = "ServiceAddress" // the address of a Service, which every node serves itself: normal
	FilterDefault     FilterReason = "DefaultRoute"   // a default route that was not asked for
	FilterOutside     FilterReason = "OutsideCluster" // not in a Pod CIDR nor in the peer's list
	FilterMaxPrefixes FilterReason = "MaxPrefixes"    // more than the peer may announce
)

// PrefixRule is an entry of a prefix list: it matches networks inside Prefix
// whose length is GE to LE. With neither only Prefix itself, with GE alone up
// to the longest length, with LE alone from Prefix's own length.
type PrefixRule struct {
	Prefix netip.Prefix
	GE, LE int
}

// Matches says whether p is selected by the rule.
func (r PrefixRule) Matches(p netip.Prefix) bool {
	lo, hi := r.Prefix.Bits(), r.Prefix.Bits()
	switch {
	case r.GE > 0 && r.LE > 0:
		lo, hi = r.GE, r.LE
	case r.GE > 0:
		lo, hi = r.GE, r.Prefix.Addr().BitLen()
	case r.LE > 0:
		hi = r.LE
	}
	return p.Bits() >= lo && p.Bits() <= hi && p.Bits() >= r.Prefix.Bits() && r.Prefix.Contains(p.Addr())
}

// matches says whether one of the rules selects p.
func matches(rules []PrefixRule, p netip.Prefix) bool {
	return slices.ContainsFunc(rules, func(r PrefixRule) bool { return r.Matches(p) })
}

// ImportRule is what may be learned from one peer.
type ImportRule struct {
	AllowDefaultRoute bool
	// Prefixes are accepted besides the cluster's Pod CIDRs.
	Prefixes []PrefixRule
	// Deny is refused whatever accepts it: the cluster's Pod CIDRs, Prefixes or
	// AllowDefaultRoute.
	Deny []PrefixRule
	// LocalPref replaces the local preference of the routes, 0: what the
	// peer sends in iBGP, 100 in eBGP.
	LocalPref uint32
	// MaxPrefixes bounds the accepted prefixes of each family, 0: DefaultMaxPrefixes.
	MaxPrefixes int
}

// Max returns the bound in force.
func (r ImportRule) Max() int {
	if r.MaxPrefixes <= 0 {
		return DefaultMaxPrefixes
	}
	return r.MaxPrefixes
}

// ImportScope is what the import filter knows of cluster and node.
type ImportScope struct {
	// ClusterCIDRs are the Pod CIDRs of all nodes and, where configured, of the cluster.
	ClusterCIDRs []netip.Prefix
	// Aggregates are the networks of many Pod CIDRs that nodes announce,
	// OwnAggregates those of them that this node does.
	Aggregates, OwnAggregates []netip.Prefix
	// Local is this node.
	Local Node
	// Links are this node's uplinks.
	Links []Link
	// NodeAddresses are the addresses of all nodes.
	NodeAddresses []netip.Addr
	// ServiceAddresses are those of all Services.
	ServiceAddresses []netip.Addr
}

// ImportFilter decides which routes of a peer are used. It is immutable.
type ImportFilter struct {
	cluster prefixSet
	onLink  prefixSet
	own     prefixSet
	// aggregates and ownAggregates are accepted and refused as they are.
	aggregates, ownAggregates prefixSet

	nodes map[netip.Addr]struct{}
	local map[netip.Addr]struct{}
	// services serve at every node alike.
	services map[netip.Addr]struct{}
}

// NewImportFilter prepares a scope for fast use: a filter serves many peers
// and hundreds of thousands of routes.
func NewImportFilter(s ImportScope) *ImportFilter {
	f := &ImportFilter{
		nodes: make(map[netip.Addr]struct{}, len(s.NodeAddresses)),
		local: make(map[netip.Addr]struct{}),

		services: make(map[netip.Addr]struct{}, len(s.ServiceAddresses)),
	}
	for _, a := range s.ServiceAddresses {
		f.services[a] = struct{}{}
	}
	f.cluster.add(s.ClusterCIDRs...)
	f.own.add(s.Local.PodCIDRs...)
	f.aggregates.add(s.Aggregates...)
	f.ownAggregates.add(s.OwnAggregates...)
	for _, a := range s.NodeAddresses {
		f.nodes[a.Unmap()] = struct{}{}
	}
	for _, a := range s.Local.Addresses {
		f.nodes[a.Unmap()] = struct{}{}
		f.local[a.Unmap()] = struct{}{}
	}
	for _, p := range s.Local.PodCIDRs {
		f.local[GatewayOf(p)] = struct{}{}
	}
	for _, l := range s.Links {
		f.onLink.add(l.Prefixes...)
		for _, p := range l.Prefixes {
			if p != p.Masked() {
				f.local[p.Addr()] = struct{}{}
				f.nodes[p.Addr()] = struct{}{}
			}
		}
	}
	return f
}

// Accept says whether a route may be used, and if not, why.
func (f *ImportFilter) Accept(r ReceivedRoute, rule ImportRule) (bool, FilterReason) {
	prefix := r.Prefix
	switch {
	case !validPrefix(prefix) || r.External && r.PathLength == 0:
		return false, FilterInvalid
	case r.OwnAS && f.own.contains(prefix), f.ownAggregates.contains(prefix):
		return false, FilterEcho
	case !f.validNextHop(prefix, r.NextHop):
		return false, FilterNextHop
	case matches(rule.Deny, prefix):
		return false, FilterDenied
	case prefix.Bits() == 0:
		return rule.AllowDefaultRoute, unless(rule.AllowDefaultRoute, FilterDefault)
	case f.own.covers(prefix):
		return false, FilterOwnPrefix
	case f.isNode(prefix):
		return false, FilterNodeAddress
	case f.isService(prefix):
		return false, FilterService
	case f.onLink.covers(prefix):
		return false, FilterOnLink
	case f.cluster.covers(prefix), f.aggregates.contains(prefix):
		return true, ""
	}
	ok := matches(rule.Prefixes, prefix)
	return ok, unless(ok, FilterOutside)
}

func unless(ok bool, r FilterReason) FilterReason {
	if ok {
		return ""
	}
	return r
}

func validPrefix(p netip.Prefix) bool {
	a := p.Addr()
	return p.IsValid() && p == p.Masked() && !a.Is4In6() &&
		!a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast() &&
		(p.Bits() == 0 || !a.IsUnspecified())
}

// validNextHop refuses next hops that are this node, and link-local ones:
// without unnumbered peering nothing says on which link they are.
func (f *ImportFilter) validNextHop(p netip.Prefix, a netip.Addr) bool {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() ||
		a.IsLinkLocalUnicast() || a.Is4In6() || p.Addr().Is6() && a.Is4() {
		return false
	}
	_, self := f.local[a]
	return !self
}

func (f *ImportFilter) isNode(p netip.Prefix) bool {
	if !p.IsSingleIP() {
		return false
	}
	_, ok := f.nodes[p.Addr()]
	return ok
}

func (f *ImportFilter) isService(p netip.Prefix) bool {
	if !p.IsSingleIP() {
		return false
	}
	_, ok := f.services[p.Addr()]
	return ok
}

// Foreign says whether an address is neither a node's nor among those of Pods, so
// that it may be announced as that of a Service.
func (f *ImportFilter) Foreign(a netip.Addr) bool {
	p := netip.PrefixFrom(a, a.BitLen())
	return !f.isNode(p) && !f.cluster.covers(p)
}

// prefixSet answers whether a prefix lies in any of its members in as many
// look-ups as there are different lengths.
type prefixSet struct {
	lengths []int
	members map[netip.Prefix]struct{}
}

func (s *prefixSet) add(prefixes ...netip.Prefix) {
	if s.members == nil {
		s.members = make(map[netip.Prefix]struct{}, len(prefixes))
	}
	for _, p := range prefixes {
		if !p.IsValid() {
			continue
		}
		s.members[p.Masked()] = struct{}{}
		if !slices.Contains(s.lengths, p.Bits()) {
			s.lengths = append(s.lengths, p.Bits())
		}
	}
}

// contains says whether p is a member.
func (s *prefixSet) contains(p netip.Prefix) bool {
	_, ok := s.members[p]
	return ok
}

// covers says whether p equals or lies inside a member.
func (s *prefixSet) covers(p netip.Prefix) bool {
	for _, bits := range s.lengths {
		if bits > p.Bits() {
			continue
		}
		q, err := p.Addr().Prefix(bits)
		if err != nil {
			continue
		}
		if _, ok := s.members[q]; ok {
			return true
		}
	}
	return false
}

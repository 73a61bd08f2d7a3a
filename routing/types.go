// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net/netip"
	"time"
)

// Family is an IP family.
type Family uint8

// The IP families, in the order in which everything is listed.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families are all IP families, in listing order.
func Families() []Family { return []Family{IPv4, IPv6} }

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Mode is the traffic mode of the cluster.
type Mode string

// The traffic modes.
const (
	ModeEncap   Mode = "encap"
	ModeNoEncap Mode = "noEncap"
	ModeHybrid  Mode = "hybrid"
	ModeAuto    Mode = "auto"
)

// Node is what routing needs to know of a node of the cluster.
type Node struct {
	Name string
	// Addresses are the node's InternalIPs, at most one a family.
	Addresses []netip.Addr
	// PodCIDRs are the node's Pod networks, at most one a family.
	PodCIDRs []netip.Prefix
	// Created orders nodes that claim the same network: the older keeps it.
	Created time.Time
}

// Address returns the node's address of family f, or the zero Addr.
func (n Node) Address(f Family) netip.Addr {
	for _, a := range n.Addresses {
		if FamilyOf(a) == f {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}

// PodCIDR returns the node's Pod network of family f, or the zero Prefix.
func (n Node) PodCIDR(f Family) netip.Prefix {
	for _, p := range n.PodCIDRs {
		if FamilyOf(p.Addr()) == f {
			return p
		}
	}
	return netip.Prefix{}
}

// Link is an uplink of the local node.
type Link struct {
	Name string
	// Prefixes are the networks that are on-link there, the node's own
	// addresses included as networks (10.1.0.5/24 or 10.1.0.0/24).
	Prefixes []netip.Prefix
}

// GatewayOf returns the first address of a Pod CIDR, which is the gateway of
// the Pods in it.
func GatewayOf(podCIDR netip.Prefix) netip.Addr {
	return podCIDR.Masked().Addr().Next()
}

// ServiceAddressOf returns the second address of a Pod CIDR: the source of
// connections to Services that came to the node from elsewhere and leave it
// again. It is on no interface, and no Pod gets it.
func ServiceAddressOf(podCIDR netip.Prefix) netip.Addr {
	return GatewayOf(podCIDR).Next()
}

// ProbeAddressOf returns the third address of a Pod CIDR: nodes send each other
// probes of routed paths from and to it, which look like packets of Pods. No Pod
// gets it.
func ProbeAddressOf(podCIDR netip.Prefix) netip.Addr {
	return ServiceAddressOf(podCIDR).Next()
}

// PathKind says how packets for a remote node's Pods leave this node.
type PathKind string

// The kinds of path.
const (
	// PathNone drops: no usable route.
	PathNone PathKind = "none"
	// PathDirect routes to the node's own address, which is on-link.
	PathDirect PathKind = "direct"
	// PathBGP follows a route learned over BGP.
	PathBGP PathKind = "bgp"
	// PathDefault trusts the node's default route (trustDefaultRoute).
	PathDefault PathKind = "default"
	// PathTunnel encapsulates towards the node's address.
	PathTunnel PathKind = "tunnel"
)

// Path is the one decision for a remote node and an IP family.
type Path struct {
	Node    string
	Family  Family
	PodCIDR netip.Prefix
	Kind    PathKind
	// NextHops are the routers or the node itself for the routed kinds; for
	// PathTunnel the single tunnel endpoint, of either family.
	NextHops []netip.Addr
	// Reason says in words why this path was taken.
	Reason string
}

// NextHop is one way out of a Route. Interface may be empty where Addr alone
// decides (the kernel then finds the interface); it is required for IPv6
// link-local addresses.
type NextHop struct {
	Addr      netip.Addr
	Interface string
	// OnLink says that Addr is reachable through Interface although no route says so.
	OnLink bool
}

// RouteType is the type of a kernel route.
type RouteType uint8

// The route types in use (rtnetlink(7)).
const (
	Unicast RouteType = iota
	Unreachable
)

// Route is one desired route of the kernel's main table. Routes are identified
// by Prefix and Metric.
type Route struct {
	Prefix   netip.Prefix
	Type     RouteType
	NextHops []NextHop // more than one: ECMP
	Source   netip.Addr
	// Metric is the kernel's priority, lower wins.
	Metric int
	// MTU of the path in bytes, 0: the interface's.
	MTU int
}

// LearnedRoute is a best path learned over BGP and accepted by the import
// filter, with all its equal-cost next hops.
type LearnedRoute struct {
	Prefix   netip.Prefix
	NextHops []NextHop
	// Peers are the names of the peers the next hops came from.
	Peers []string
}

// PathEvent says when a set of learned routes is complete enough to prune
// what an earlier run of the agent left in the kernel.
type PathEvent struct {
	Routes []LearnedRoute
	// Converged is true once every configured peer has sent its End-of-RIB
	// (RFC 4724), failed for good, or used up the restart time.
	Converged bool
	At        time.Time
}

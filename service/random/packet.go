// SPDX-License-Identifier: Apache-2.0

package random

import (
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
)

// Packet returns a packet that is aimed at what there is, or nearly; false if
// there is nothing to aim at.
func (g *Generator) Packet(c naive.Cluster, frontends []naive.Frontend) (naive.Packet, bool) {
	if len(frontends) == 0 {
		return naive.Packet{}, false
	}
	f := one(g, frontends)
	p := naive.Packet{Protocol: f.Protocol, Destination: f.At, From: naive.FromPod}
	if !f.Pods {
		p.From = one(g, []naive.Origin{naive.FromNode, naive.FromOutside, naive.FromOutside})
	}
	if g.chance(4) {
		p.From = naive.FromTunnel
	}
	switch g.random.IntN(12) { // near misses
	case 0:
		p.Destination = netip.AddrPortFrom(f.At.Addr(), one(g, []uint16{f.At.Port() - 1, f.At.Port() + 1, one(g, ports), one(g, nodePorts)}))
	case 1:
		p.Protocol = one(g, protocols)
	case 2:
		other := one(g, frontends).At.Addr()
		if g.chance(30) {
			other = one(g, []netip.Addr{f.At.Addr().Next(), f.At.Addr().Prev(), one(g, outsideIPs)})
		}
		p.Destination = netip.AddrPortFrom(other, f.At.Port())
	}
	source := g.source(c.Services[f.Key], p)
	if p.From == naive.FromNode {
		switch p.Destination.Addr() {
		case c.NodePort4:
			source = c.NodeClients[0]
		case c.NodePort6:
			source = c.NodeClients[1]
		}
	}
	p.Source = netip.AddrPortFrom(source, uint16(20000+g.random.IntN(40000)))
	return p, possible(c, p)
}

// source is an address that a packet can come from.
func (g *Generator) source(s service.Service, p naive.Packet) netip.Addr {
	var from []netip.Addr
	switch p.From {
	case naive.FromPod:
		for _, pod := range Pods {
			from = append(from, pod...)
		}
	case naive.FromNode:
		from = slices.Concat(NodeAddrs, Gateways)
	case naive.FromTunnel:
		for _, cidr := range TunnelCIDRs {
			from = append(from, cidr.Addr().Next().Next().Next().Next())
		}
	default:
		from = slices.Clone(clients)
		for _, r := range s.SourceRanges {
			if g.chance(50) {
				from = append(from, edges(r)...)
			}
		}
		from = slices.DeleteFunc(from, func(a netip.Addr) bool { return ownAddress(a) || a.IsUnspecified() })
	}
	return one(g, slices.DeleteFunc(from, func(a netip.Addr) bool { return a.Is4() != p.Destination.Addr().Is4() }))
}

func ownAddress(a netip.Addr) bool {
	return slices.Contains(NodeAddrs, a) || slices.Contains(Gateways, a) ||
		slices.ContainsFunc(Pods, func(pod []netip.Addr) bool { return slices.Contains(pod, a) })
}

// edges are the first and the last address of a range and those next to them.
func edges(p netip.Prefix) []netip.Addr {
	if p.Bits() == 0 {
		return nil
	}
	first := p.Masked().Addr()
	bytes := first.AsSlice()
	for bit := p.Bits(); bit < first.BitLen(); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return []netip.Addr{first.Prev(), first, last, last.Next()}
}

// possible reports whether a packet comes into the switch at all: the kernel
// keeps what goes to the node and to addresses to the outside, and Pods do not
// use the addresses by which the kernel hands on.
func possible(c naive.Cluster, p naive.Packet) bool {
	to := p.Destination.Addr()
	if to == p.Source.Addr() || p.Destination.Port() == 0 {
		return false
	}
	if p.From == naive.FromPod || p.From == naive.FromTunnel {
		return !slices.ContainsFunc(handedOn, func(r netip.Prefix) bool { return r.Contains(to) })
	}
	for _, s := range c.Services {
		if slices.Contains(s.ExternalIPs, to) || slices.Contains(s.LoadBalancerIPs, to) {
			return false
		}
	}
	return !slices.Contains(NodeAddrs, to) && !slices.Contains(outsideIPs, to)
}

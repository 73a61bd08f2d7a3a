// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net"
	"net/netip"

	"github.com/waymark-net/waymark/ovs/flow"
)

// PodPort describes a Pod's interface.
type PodPort struct {
	// Port is its OpenFlow port.
	Port uint32
	MAC  net.HardwareAddr
	// Addrs are its addresses, at most one a family.
	Addrs []netip.Addr
}

// Pod returns the flows of owner OwnerPod.
func Pod(p PodPort) []flow.Flow {
	b := &builder{}
	b.add(TableClassify, prioMain, flow.Match{flow.InPort(p.Port)},
		setSource(fromPod), flow.GotoTable{Table: TableSpoofGuard})
	for _, a := range p.Addrs {
		if a.Is4() {
			b.podIPv4(p, a)
		} else {
			b.podIPv6(p, a)
		}
		b.add(TableL3Forward, prioMain, flow.Match{flow.EthTypeOf(a), flow.IPDst(single(a))},
			append([]flow.Action{flow.SetEthSrc(GatewayMAC()), flow.SetEthDst(p.MAC)},
				append(toPort(p.Port), flow.GotoTable{Table: TableTTL})...)...)
	}
	b.hairpin(p)
	// Everything else that the Pod sends is a lie; the counter is the Pod's own.
	b.add(TableSpoofGuard, prioRest, flow.Match{flow.InPort(p.Port)})
	return b.flows
}

// own matches what comes from the Pod's port and MAC address.
func (p PodPort) own(m ...flow.FieldMatch) flow.Match {
	return append(flow.Match{source(fromPod), flow.InPort(p.Port), flow.EthSrc(p.MAC)}, m...)
}

func (b *builder) podIPv4(p PodPort, a netip.Addr) {
	next := flow.GotoTable{Table: TableNeighbour}
	b.add(TableSpoofGuard, prioMain, p.own(flow.EthType(flow.EthTypeIPv4), flow.IPSrc(single(a))), next)
	b.add(TableSpoofGuard, prioMain, p.own(flow.EthType(flow.EthTypeARP),
		flow.Addr(flow.FieldARPSPA, a), flow.MAC(flow.FieldARPSHA, p.MAC)), next)
	b.add(TableNeighbour, prioMain, flow.Match{source(fromGateway), flow.EthType(flow.EthTypeARP), flow.Addr(flow.FieldARPTPA, a)},
		append(toPort(p.Port), flow.GotoTable{Table: TableOutput})...)
}

// podIPv6 allows neighbour discovery from the Pod's address and from its
// link-local one. A solicitation must name the Pod's MAC as its own, an
// advertisement must be sent from the address that it is about, and name the
// Pod's MAC or none (RFC 4861, 4.3 and 4.4: the option may be left out in an
// answer to a unicast solicitation). Neither may be fragmented (RFC 6980).
func (b *builder) podIPv6(p PodPort, a netip.Addr) {
	next := flow.GotoTable{Table: TableNeighbour}
	b.add(TableSpoofGuard, prioMain, p.own(flow.EthType(flow.EthTypeIPv6), flow.IPSrc(single(a))), next)
	whole := flow.Uint(flow.FieldIPFrag, 0)
	for _, own := range []netip.Addr{a, LinkLocal(p.MAC)} {
		solicit := append(p.own(icmpv6(neighbourSolicitation)...), whole, flow.IPSrc(single(own)))
		b.add(TableSpoofGuard, prioExact, append(solicit, flow.MAC(flow.FieldNDSLL, p.MAC)), next)
		for _, tll := range []net.HardwareAddr{p.MAC, make(net.HardwareAddr, 6)} {
			b.add(TableSpoofGuard, prioExact, append(p.own(icmpv6(neighbourAdvert)...), whole, flow.IPSrc(single(own)),
				flow.Addr(flow.FieldNDTarget, own), flow.MAC(flow.FieldNDTLL, tll)), next)
		}
		b.add(TableNeighbour, prioMain,
			append(append(flow.Match{source(fromGateway)}, icmpv6(neighbourSolicitation)...), flow.Addr(flow.FieldNDTarget, own)),
			append(toPort(p.Port), flow.GotoTable{Table: TableOutput})...)
	}
	b.add(TableNeighbour, prioMain,
		append(flow.Match{source(fromGateway), flow.EthDst(p.MAC)}, icmpv6(neighbourAdvert)...),
		append(toPort(p.Port), flow.GotoTable{Table: TableOutput})...)
}

// LinkLocal is the IPv6 link-local address that an interface with the MAC
// address gives itself (modified EUI-64, RFC 4291, appendix A).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: mac[0] ^ 0x02, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

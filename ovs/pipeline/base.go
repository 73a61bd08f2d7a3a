// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Owners of flows.
const (
	OwnerBase    = "base"
	OwnerGateway = "gateway"
)

// OwnerPod is the owner of the flows of a Pod's interface; id tells it from the
// other interfaces of the node.
func OwnerPod(id string) string { return "pod/" + id }

// OwnerNode is the owner of the flows for a remote node.
func OwnerNode(name string) string { return "node/" + name }

// GatewayMAC is the address of every node's gateway port. It is the same
// everywhere because packets between nodes are routed: no two gateways ever
// share a link, and a neighbour entry for a remote gateway is a constant.
func GatewayMAC() net.HardwareAddr {
	return net.HardwareAddr{0x0a, 0x57, 0x4d, 0x00, 0x00, 0x01}
}

// Types of ICMPv6 messages (RFC 4861, section 4).
const (
	routerSolicitation    = 133
	routerAdvertisement   = 134
	neighbourSolicitation = 135
	neighbourAdvert       = 136
	redirect              = 137
)

// icmpv4Redirect is the type of an ICMP redirect (RFC 792).
const icmpv4Redirect = 5

// ARP operations (RFC 826).
const (
	arpRequest = 1
	arpReply   = 2
)

// UDP ports of DHCP servers and relays, and of clients (RFC 2131, 4.1; RFC 8415,
// 7.2). An answer goes to the client's port; what it comes from binds nobody.
const (
	dhcpv4Server = 67
	dhcpv4Client = 68
	dhcpv6Server = 547
	dhcpv6Client = 546
)

// vlanPresent is the bit of vlan_vid that says that there is a tag (OpenFlow
// 1.3.5, section 7.2.3.7).
const vlanPresent = 0x1000

var (
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	broadcast4 = netip.MustParsePrefix("255.255.255.255/32")
	multicast6 = netip.MustParsePrefix("ff00::/8")
	linkLocal6 = netip.MustParsePrefix("fe80::/10")
	zero6      = netip.MustParsePrefix("::/128")
)

// ethTypes are the two IP families.
func ethTypes() [2]uint16 { return [2]uint16{flow.EthTypeIPv4, flow.EthTypeIPv6} }

// builder collects flows.
type builder struct{ flows []flow.Flow }

func (b *builder) add(table uint8, priority uint16, match flow.Match, actions ...flow.Action) {
	b.flows = append(b.flows, flow.Flow{Table: table, Priority: priority, Match: match, Actions: actions})
}

// Base returns the flows that are the same on every node: the tables' misses
// and everything that does not depend on addresses or ports.
func Base() []flow.Flow {
	b := &builder{}
	for _, t := range Tables() {
		if !slices.Contains(LearnedTables(), t.ID) {
			b.add(t.ID, prioMiss, nil, t.Miss...)
		}
	}
	b.add(TableClassify, prioForbid, flow.Match{flow.UintMask(flow.FieldVLANVID, vlanPresent, vlanPresent)})
	b.baseSpoofGuard()
	b.baseNeighbour()
	b.baseConntrack()
	b.baseService()
	b.baseL3Forward()
	b.baseTTL()
	b.baseVerdict()
	b.basePeer()
	b.baseCommit()
	// The bit that Pods and tunnels share.
	b.add(TableOutput, prioMain, flow.Match{has(toPod & toTunnel)}, flow.OutputReg{Source: flow.Whole(flow.FieldReg(portRegister))})
	return b.flows
}

// baseSpoofGuard drops what no Pod may send, each kind with its own counter,
// and what Pods' kernels send of their own accord and nobody needs. What it
// does not name is left to the flows of Pod.
func (b *builder) baseSpoofGuard() {
	drop := func(priority uint16, match ...flow.FieldMatch) {
		b.add(TableSpoofGuard, priority, append(flow.Match{source(fromPod)}, match...))
	}
	udp := func(ethType uint16, field flow.Field, port uint64) flow.Match {
		return flow.Match{flow.EthType(ethType), flow.IPProto(flow.ProtoUDP), flow.Uint(field, port)}
	}
	drop(prioForbid, icmpv6(routerAdvertisement)...)
	drop(prioForbid, icmpv6(redirect)...)
	drop(prioForbid, udp(flow.EthTypeIPv4, flow.FieldUDPSrc, dhcpv4Server)...)
	drop(prioForbid, udp(flow.EthTypeIPv6, flow.FieldUDPSrc, dhcpv6Server)...)
	drop(prioForbid-5, udp(flow.EthTypeIPv4, flow.FieldUDPDst, dhcpv4Client)...)
	drop(prioForbid-5, udp(flow.EthTypeIPv6, flow.FieldUDPDst, dhcpv6Client)...)

	// Consistent neighbour discovery is let through at prioExact. Duplicate
	// address detection for a link-local address is expected, the rest is not.
	drop(prioExact-5, append(icmpv6(neighbourSolicitation), flow.IPSrc(zero6))...)
	drop(prioExact-10, icmpv6(neighbourSolicitation)...)
	drop(prioExact-10, icmpv6(neighbourAdvert)...)

	// Multicast listener reports, router solicitations, mDNS, DHCP clients.
	drop(prioQuiet, flow.EthType(flow.EthTypeIPv4), flow.IPDst(multicast4))
	drop(prioQuiet, flow.EthType(flow.EthTypeIPv4), flow.IPDst(broadcast4))
	drop(prioQuiet, flow.EthType(flow.EthTypeIPv6), flow.IPDst(multicast6))

	// Neighbour discovery belongs to a link; no tunnel carries it.
	for t := uint8(routerSolicitation); t <= redirect; t++ {
		b.add(TableSpoofGuard, prioForbid, append(flow.Match{source(fromTunnel)}, icmpv6(t)...))
	}
	// From a tunnel end that is no node of the cluster.
	b.add(TableSpoofGuard, prioRest, flow.Match{source(fromTunnel)})
}

// baseNeighbour passes what Pods say to the gateway by its MAC address:
// answers, and probes of an entry that they have. Redirects stop here: the
// kernel sends them when a packet leaves by the gateway port that it came in
// by, but another Pod is never on a Pod's link.
func (b *builder) baseNeighbour() {
	b.add(TableNeighbour, prioForbid, append(flow.Match{source(fromGateway)}, icmpv6(redirect)...))
	b.add(TableNeighbour, prioForbid, flow.Match{source(fromGateway), flow.EthType(flow.EthTypeIPv4),
		flow.IPProto(flow.ProtoICMP), flow.Uint(flow.FieldICMPType, icmpv4Redirect)})
	mac := flow.EthDst(GatewayMAC())
	for _, m := range []flow.Match{
		{flow.EthType(flow.EthTypeARP), flow.ARPOp(arpReply)},
		icmpv6(neighbourSolicitation),
		icmpv6(neighbourAdvert),
	} {
		b.add(TableNeighbour, prioMain, append(flow.Match{source(fromPod), mac}, m...),
			setDest(toGateway), flow.GotoTable{Table: TableOutput})
	}
	for _, m := range []flow.Match{
		{flow.EthType(flow.EthTypeARP)}, icmpv6(neighbourSolicitation), icmpv6(neighbourAdvert),
	} {
		b.add(TableNeighbour, prioRest, m)
	}
}

func (b *builder) baseL3Forward() {
	// Addresses that no router forwards.
	for _, p := range []netip.Prefix{multicast4, multicast6, linkLocal6} {
		b.add(TableL3Forward, prioForbid, flow.Match{flow.EthTypeOf(p.Addr()), flow.IPDst(p)})
	}
	for _, et := range ethTypes() {
		b.add(TableL3Forward, prioDefault, flow.Match{notFrom(fromGateway), flow.EthType(et)}, intoGateway()...)
		b.add(TableL3Forward, prioDefault, flow.Match{source(fromGateway), mark(serviceMark), flow.EthType(et)}, intoGateway()...)
	}
	// The kernel sent a packet for which there is neither Pod nor tunnel;
	// sending it back would be a loop, unless it has another destination now.
	b.add(TableL3Forward, prioRest, flow.Match{source(fromGateway)})
}

// intoGateway hands the packet to the kernel, where nobody judges it any more.
func intoGateway() []flow.Action {
	return []flow.Action{flow.SetEthDst(GatewayMAC()), setDest(toGateway), flow.GotoTable{Table: TableCommit}}
}

// baseTTL: only what comes from a Pod is routed here for the first time. What
// comes from the gateway was decremented by the kernel, what comes from the
// tunnel by the switch at the other end.
func (b *builder) baseTTL() {
	for _, et := range ethTypes() {
		for _, ttl := range []uint8{0, 1} {
			b.add(TableTTL, prioMain, flow.Match{source(fromPod), flow.EthType(et), flow.IPTTL(ttl)}, intoGateway()...)
		}
		b.add(TableTTL, prioDefault, flow.Match{source(fromPod), flow.EthType(et)},
			flow.DecTTL{}, flow.GotoTable{Table: TableJudgeDest})
	}
}

// icmpv6 matches one type of ICMPv6 message.
func icmpv6(t uint8) flow.Match {
	return flow.Match{flow.EthType(flow.EthTypeIPv6), flow.IPProto(flow.ProtoICMPv6), flow.ICMPv6Type(t)}
}

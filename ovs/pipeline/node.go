// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net/netip"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/ovs/flow"
)

// GatewayParams describe the node's own ports and addresses.
type GatewayParams struct {
	// Port is the OpenFlow port of the gateway.
	Port uint32
	// TunnelPorts are the OpenFlow ports of tunnels.
	TunnelPorts []uint32
	// Addrs are the gateway's addresses, the first of each Pod CIDR.
	Addrs []netip.Addr
	// NodeAddrs are the other addresses of the node. What the node sends from
	// any of its addresses to its Pods is not subject to policies.
	NodeAddrs []netip.Addr
	// Services says that what the kernel sends finds Services, as what Pods send.
	Services bool
	// ServiceAddrs are the node's Service addresses, one of each Pod CIDR:
	// the source of what goes from the kernel to endpoints elsewhere.
	ServiceAddrs []netip.Addr
}

// Gateway returns the flows of owner OwnerGateway: those that depend on the
// numbers of the node's own ports and on its gateway addresses.
func Gateway(p GatewayParams) []flow.Flow {
	b := &builder{}
	b.add(TableClassify, prioMain, flow.Match{flow.InPort(p.Port)},
		setSource(fromGateway), flow.GotoTable{Table: TableNeighbour})
	b.add(TableOutput, prioMain, flow.Match{dest(toGateway)}, flow.Output{Port: p.Port})
	for _, port := range p.TunnelPorts {
		b.add(TableClassify, prioMain, flow.Match{flow.InPort(port)},
			setSource(fromTunnel), flow.GotoTable{Table: TableSpoofGuard})
	}
	b.exemptNode(p)
	b.gatewayServices(p)
	for _, a := range p.Addrs {
		ask := flow.Match{source(fromPod), flow.EthType(flow.EthTypeARP), flow.ARPOp(arpRequest), flow.Addr(flow.FieldARPTPA, a)}
		if a.Is6() {
			ask = append(append(flow.Match{source(fromPod)}, icmpv6(neighbourSolicitation)...), flow.Addr(flow.FieldNDTarget, a))
		}
		b.add(TableNeighbour, prioMain, ask, setDest(toGateway), flow.GotoTable{Table: TableOutput})
		b.add(TableL3Forward, prioMain, flow.Match{notFrom(fromGateway), flow.EthTypeOf(a), flow.IPDst(single(a))}, intoGateway()...)
	}
	return b.flows
}

// NodeParams describe a remote node as far as tunnels are concerned.
type NodeParams struct {
	// Sources are the node's addresses from which tunnelled packets are accepted.
	Sources []netip.Addr
	// TunnelPort is the OpenFlow port of the tunnel to the node.
	TunnelPort uint32
	// Endpoint are the two ends of that tunnel.
	Endpoint encap.Endpoint
	// PodCIDRs are those of the node's Pod networks that are reached by the
	// tunnel; none if all are routed.
	PodCIDRs []netip.Prefix
	// Addrs are the addresses of the node itself that Pods reach by the
	// tunnel, so that Pod addresses are not seen outside it.
	Addrs []netip.Addr
}

// tunnelSource is the field of a tunnelled packet's outer source address.
func tunnelSource(a netip.Addr) flow.Field {
	if a.Is4() {
		return flow.FieldTunSrc
	}
	return flow.FieldTunIPv6Src
}

// Node returns the flows of owner OwnerNode. Packets from the node's tunnels
// are accepted whatever is sent into them, so that a path can change its kind at
// one end first.
func Node(p NodeParams) []flow.Flow {
	b := &builder{}
	for _, a := range p.Sources {
		b.add(TableSpoofGuard, prioMain, flow.Match{source(fromTunnel), flow.Addr(tunnelSource(a), a)},
			flow.GotoTable{Table: TableServiceReturn})
	}
	if !p.Endpoint.Local.IsValid() || !p.Endpoint.Remote.IsValid() {
		return b.flows
	}
	encapsulate := []flow.Action{
		flow.Set(flow.Addr(tunnelSource(p.Endpoint.Local), p.Endpoint.Local)),
		flow.SetTunDst(p.Endpoint.Remote),
		flow.Set(flow.Uint(flow.FieldTunID, 0)),
		flow.SetEthDst(GatewayMAC()),
		setPort(p.TunnelPort),
		setDest(toTunnel),
		flow.GotoTable{Table: TableTTL},
	}
	for _, c := range p.PodCIDRs {
		b.add(TableL3Forward, prioRoute, flow.Match{notFrom(fromTunnel), flow.EthTypeOf(c.Addr()), flow.IPDst(c)}, encapsulate...)
	}
	for _, a := range p.Addrs {
		to := flow.Match{flow.EthTypeOf(a), flow.IPDst(single(a))}
		b.add(TableL3Forward, prioRoute, append(flow.Match{source(fromPod)}, to...), encapsulate...)
		// An endpoint on the node itself: the source will be a Pod address, too.
		b.add(TableL3Forward, prioRoute, append(flow.Match{source(fromGateway), mark(serviceMark)}, to...), encapsulate...)
	}
	return b.flows
}

// single is the prefix that holds one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

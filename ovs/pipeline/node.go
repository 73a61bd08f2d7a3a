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
	// TunnelPort is the OpenFlow port of the tunnel, 0 if there is none.
	TunnelPort uint32
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
	if p.TunnelPort != 0 {
		b.add(TableClassify, prioMain, flow.Match{flow.InPort(p.TunnelPort)},
			setSource(fromTunnel), flow.GotoTable{Table: TableSpoofGuard})
		b.add(TableOutput, prioMain, flow.Match{dest(toTunnel)}, flow.Output{Port: p.TunnelPort})
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
	// Endpoint are the two ends of the tunnel to the node.
	Endpoint encap.Endpoint
	// PodCIDRs are those of the node's Pod networks that are reached by the
	// tunnel; none if all are routed.
	PodCIDRs []netip.Prefix
	// Addrs are the addresses of the node itself that Pods reach by the
	// tunnel, so that Pod addresses are not seen outside it.
	Addrs []netip.Addr
}

// Node returns the flows of owner OwnerNode. Packets from the node's tunnel
// are accepted whatever is sent into it, so that a path can change its kind at
// one end first. There are none without endpoints.
func Node(p NodeParams) []flow.Flow {
	if !p.Endpoint.Local.IsValid() || !p.Endpoint.Remote.IsValid() {
		return nil
	}
	b := &builder{}
	from, local := flow.FieldTunSrc, flow.FieldTunSrc
	if p.Endpoint.Remote.Is6() {
		from, local = flow.FieldTunIPv6Src, flow.FieldTunIPv6Src
	}
	b.add(TableSpoofGuard, prioMain, flow.Match{source(fromTunnel), flow.Addr(from, p.Endpoint.Remote)},
		flow.GotoTable{Table: TableServiceReturn})
	encapsulate := []flow.Action{
		flow.Set(flow.Addr(local, p.Endpoint.Local)),
		flow.SetTunDst(p.Endpoint.Remote),
		flow.Set(flow.Uint(flow.FieldTunID, 0)),
		flow.SetEthDst(GatewayMAC()),
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

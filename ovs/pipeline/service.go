// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net/netip"

	"github.com/waymark-net/waymark/ovs/flow"
)

// This file is what package service builds with: how a packet of a Pod finds a
// Service, how an endpoint takes its place, and how a Pod reaches itself.

// OwnerServicePrefix begins the owners of the flows of Services.
const OwnerServicePrefix = "service/"

// OwnerService is the owner of the flows and groups of a Service.
func OwnerService(namespace, name string) string { return OwnerServicePrefix + namespace + "/" + name }

// The addresses that a Pod sees as its client when a Service leads it back to
// itself. A Pod would take a packet from its own address for a forgery, and its
// answer would never leave it. Both are the same on every node and never leave
// the switch: the Pod that has such a packet is the one that gets the answer.
//
// No router forwards 169.254.0.0/16 (RFC 3927, section 7); the address is none
// of those in use there by clouds or resolvers. IPv6's fe80::/10 would not do:
// a Pod would look for it on its own link instead of at its gateway. 100::/64
// is set aside for what is to be discarded (RFC 6666), so that nobody has an
// address of it, and what escapes is not carried on.
var (
	Hairpin4 = netip.AddrFrom4([4]byte{169, 254, 87, 77})
	Hairpin6 = netip.AddrFrom16([16]byte{0: 0x01, 14: 0x57, 15: 0x4d})
)

// Frontend is where a Service is reached.
type Frontend struct {
	Addr netip.Addr
	// Protocol is one of flow.ProtoTCP, ProtoUDP and ProtoSCTP.
	Protocol uint8
	Port     uint16
}

// ServiceShares is the flows that share the new connections to a frontend out
// among groups, by the client's port. There must be a power of two of them.
// Their first bit does not count: Linux chooses even ports for what connects.
// Without a group, connections are dropped, and counted.
func ServiceShares(f Frontend, groups []uint32) []flow.Flow {
	if len(groups) == 0 {
		return []flow.Flow{{Table: TableServiceLB, Priority: prioMain, Match: f.match()}}
	}
	flows := make([]flow.Flow, 0, len(groups))
	for i, g := range groups {
		m := f.match()
		if n := len(groups); n > 1 {
			src, _ := portsOf(f.Protocol)
			m = append(m, flow.UintMask(src, uint64(i)<<1, uint64(n-1)<<1))
		}
		flows = append(flows, flow.Flow{
			Table: TableServiceLB, Priority: prioMain, Match: m, Actions: []flow.Action{flow.ToGroup{ID: g}},
		})
	}
	return flows
}

func (f Frontend) match() flow.Match {
	_, dst := portsOf(f.Protocol)
	return flow.Match{
		flow.CTState(flow.CTNew|flow.CTTracked, 0), flow.EthTypeOf(f.Addr), flow.IPProto(f.Protocol),
		flow.IPDst(single(f.Addr)), flow.Uint(dst, uint64(f.Port)),
	}
}

func portsOf(protocol uint8) (src, dst flow.Field) {
	switch protocol {
	case flow.ProtoUDP:
		return flow.FieldUDPSrc, flow.FieldUDPDst
	case flow.ProtoSCTP:
		return flow.FieldSCTPSrc, flow.FieldSCTPDst
	}
	return flow.FieldTCPSrc, flow.FieldTCPDst
}

// ClusterIP is the flow that drops, and counts, what Pods send to an address of
// a Service other than to its ports. No network carries such addresses.
func ClusterIP(a netip.Addr) flow.Flow {
	return flow.Flow{Table: TableServiceLB, Priority: prioRest, Match: flow.Match{flow.EthTypeOf(a), flow.IPDst(single(a))}}
}

// Endpoint is the actions that make an address and port the endpoint of a new
// connection. They record the connection, so that its other packets follow, and
// hand the packet, as the endpoint will see it, to the policies. A connection
// that those deny is recorded all the same: every packet of it is judged again.
func Endpoint(to netip.AddrPort) []flow.Action {
	port := flow.FieldMatch{Field: flow.FieldCTLabel, Value: make([]byte, 16), Mask: make([]byte, 16)}
	at := 16 - (endpointPort.Offset+endpointPort.N)/8
	port.Value[at], port.Value[at+1] = byte(to.Port()>>8), byte(to.Port())
	port.Mask[at], port.Mask[at+1] = 0xff, 0xff
	return []flow.Action{flow.CT{
		Commit: true, Zone: familyOf(to.Addr()).zone, Table: TableJudgeSource,
		NAT:  &flow.NAT{Kind: flow.NATDestination, AddrMin: to.Addr(), PortMin: to.Port()},
		Exec: []flow.Action{flow.Set(mark(serviceMark)), flow.Set(port)},
	}}
}

// endpointPort is where the label of a Service's connection has the endpoint's
// port. The tracker itself tells the port of the Service only.
var endpointPort = flow.Subfield{Field: flow.FieldCTLabel, Offset: 64, N: 16}

// baseService translates what belongs to a connection to a Service, both ways.
// Policies need the endpoint also for answers, from which it is taken here.
func (b *builder) baseService() {
	for _, f := range families() {
		translate := flow.CT{Zone: f.zone, Table: TableConntrackState, NAT: &flow.NAT{Kind: flow.NATRestore}}
		ours := flow.Match{mark(serviceMark), flow.EthType(f.ethType)}
		b.add(TableConntrackNAT, prioMain, append(flow.Match{flow.CTState(flow.CTReply|flow.CTTracked, flow.CTRelated)}, ours...),
			flow.Move{Source: flow.Whole(f.src), Dest: flow.Whole(f.endpoint)}, translate)
		b.add(TableConntrackNAT, prioDefault, ours, translate)
		b.peer(TablePeerSource, prioExact, flow.Match{has(replyBit), mark(serviceMark), flow.EthType(f.ethType)}, f.endpoint, f.peer)

		// An answer of a Pod to itself. Nothing else goes to that address.
		b.add(TableConntrack, prioExact, flow.Match{source(fromPod), flow.EthType(f.ethType), flow.IPDst(single(f.hairpin))},
			setBit(hairpinBit), flow.Move{Source: flow.Whole(f.src), Dest: flow.Whole(f.dst)}, f.track())
	}
	b.add(TableConntrackNAT, prioForbid, flow.Match{has(hairpinBit), flow.UintMask(flow.FieldCTMark, 0, serviceMark)})
	// Only what is not known to be part of a connection looks for a Service.
	b.add(TableConntrackState, prioRest,
		flow.Match{source(fromPod), flow.CTState(flow.CTTracked, flow.CTReply|flow.CTEstablished)},
		flow.GotoTable{Table: TableServiceLB})
	b.add(TablePolicyPort, prioRoute-10, flow.Match{mark(serviceMark), flow.CTState(flow.CTTracked, flow.CTInvalid)}, flow.Move{
		Source: endpointPort,
		Dest:   flow.Subfield{Field: flow.FieldReg(policyPortRegister), N: endpointPort.N},
	})
}

// hairpin sends a Pod what a Service leads from it to itself. Policies are not
// asked: a Pod may always reach itself.
func (b *builder) hairpin(p PodPort) {
	back := flow.Match{flow.InPort(p.Port), dest(toPod), toJudged(p.Port)}
	b.add(TableOutput, prioExact, back, flow.Output{Port: flow.PortInPort})
	for _, a := range p.Addrs {
		f := familyOf(a)
		b.add(TableJudgeSource, prioExact, flow.Match{flow.InPort(p.Port), flow.EthType(f.ethType), flow.IPDst(single(a))},
			setBit(exemptBit), flow.GotoTable{Table: TableL3Forward})
		b.add(TableOutput, prioForbid, append(flow.Match{flow.EthType(f.ethType), flow.IPSrc(single(a))}, back...),
			flow.Set(flow.Addr(f.src, f.hairpin)), flow.Output{Port: flow.PortInPort})
	}
}

// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// This file is what package service builds with: how a packet finds a Service,
// and how an endpoint takes its place.

// OwnerServicePrefix begins the owners of the flows of Services.
const OwnerServicePrefix = "service/"

// OwnerService is the owner of the flows and groups of a Service.
func OwnerService(namespace, name string) string { return OwnerServicePrefix + namespace + "/" + name }

// The addresses by which the kernel hands the switch what comes to a NodePort:
// the port is kept, the address of the node is not. They never leave the node.
// Of 169.254.0.0/16 see Hairpin4.
var (
	NodePort4 = netip.AddrFrom4([4]byte{169, 254, 87, 78})
	NodePort6 = netip.AddrFrom16([16]byte{0: 0x01, 14: 0x57, 15: 0x4e})
)

// NodeClient4 and NodeClient6 are the addresses by which the node itself comes to
// NodePorts. The switch hands what it gives an endpoint back to the kernel, which
// replaces them by the node's own: that answers come back is the kernel's business
// then, whatever carries them. They never leave the node either.
var (
	NodeClient4 = netip.AddrFrom4([4]byte{169, 254, 87, 79})
	NodeClient6 = netip.AddrFrom16([16]byte{0: 0x01, 14: 0x57, 15: 0x4f})
)

// Aliases4 and Aliases6 are the addresses by which the kernel hands the switch
// what comes to addresses of Services to the outside. Only their ports that are
// a Service's may leave the kernel's own ways: the address may be the node's, or
// that of another machine.
var (
	Aliases4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 96, 0}), 19)
	Aliases6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x01, 10: 0x57, 11: 0x4e}), 96)
)

// RefuseMeter is the meter of what table Refuse reports.
const RefuseMeter uint32 = 2

// Frontend is where a Service is reached.
type Frontend struct {
	Addr netip.Addr
	// Protocol is one of flow.ProtoTCP, ProtoUDP and ProtoSCTP.
	Protocol uint8
	Port     uint16
	// Outside limits it to what comes neither from a Pod nor from the node.
	Outside bool
	// Range limits it to clients in a prefix, if it is valid.
	Range netip.Prefix
}

// LearnedTables are those whose flows the switch makes.
func LearnedTables() []uint8 { return []uint8{TableServiceAffinity} }

// ToGroup is what a Frontend does with a set of endpoints that is one group.
func ToGroup(group uint32) []flow.Action { return []flow.Action{flow.ToGroup{ID: group}} }

// ToEndpoints is what a Frontend does with any other set of endpoints; number is
// the set's. With affinity a client keeps its endpoint.
func ToEndpoints(number uint32, affinity bool) []flow.Action {
	actions := []flow.Action{flow.SetReg(endpointsRegister, number, wholeRegister)}
	if affinity {
		actions = append(actions, flow.Resubmit{Table: TableServiceAffinity})
	}
	return append(actions, flow.GotoTable{Table: TableServiceLB})
}

// Refuse is what a Frontend does without endpoints.
func Refuse() []flow.Action { return next(TableRefuse) }

// Ignore is what a Frontend does that has endpoints, but none for the client.
func Ignore() []flow.Action { return nil }

// Flow is the flow that has a frontend do something.
func (f Frontend) Flow(actions []flow.Action) flow.Flow {
	_, dst := portsOf(f.Protocol)
	match := flow.Match{
		flow.CTState(flow.CTNew|flow.CTTracked, 0), flow.EthTypeOf(f.Addr), flow.IPProto(f.Protocol),
		flow.IPDst(single(f.Addr)), flow.Uint(dst, uint64(f.Port)),
	}
	priority := prioMain
	if f.Outside {
		priority = prioExact
		match = append(match, flow.Reg(metaRegister, fromGateway, sourceMask|exemptBit))
	}
	if f.Range.IsValid() {
		match = append(match, flow.IPSrc(f.Range))
	}
	return flow.Flow{Table: TableServiceFront, Priority: priority, Match: match, Actions: actions}
}

// Fragments is the flow for the fragments of a packet to the frontend that are
// not the first. With the userspace datapath, which puts packets together only
// while it tracks them, they show no port, and it is the last fragment that says
// what becomes of a connection: f must be the only one of its address and
// protocol. Of IPv6 Open vSwitch does not tell the protocol of such fragments
// either.
func (f Frontend) Fragments(actions []flow.Action) flow.Flow {
	protocol := f.Protocol
	if f.Addr.Is6() {
		protocol = flow.ProtoFragment
	}
	return flow.Flow{
		Table: TableServiceFront, Priority: prioMain, Actions: actions,
		Match: flow.Match{
			flow.CTState(flow.CTNew|flow.CTTracked, 0), flow.EthTypeOf(f.Addr), flow.IPProto(protocol),
			flow.IPDst(single(f.Addr)), flow.UintMask(flow.FieldIPFrag, laterFragment, laterFragment),
		},
	}
}

// OutOfRange is the flow that drops what comes to a frontend from clients that
// none of its ranges has.
func (f Frontend) OutOfRange() flow.Flow {
	f.Outside, f.Range = false, netip.Prefix{}
	dropped := f.Flow(nil)
	dropped.Priority = prioRoute
	return dropped
}

// Shares is the flows that share the new connections to a set of endpoints out
// among groups, by the client's port. There must be a power of two of them.
// Their first bit does not count: Linux chooses even ports for what connects.
func Shares(number uint32, is4 bool, protocol uint8, groups []uint32) []flow.Flow {
	f := families()[1]
	if is4 {
		f = families()[0]
	}
	src, _ := portsOf(protocol)
	flows := make([]flow.Flow, 0, len(groups))
	for i, g := range groups {
		m := flow.Match{flow.EthType(f.ethType), flow.IPProto(protocol), flow.Reg(endpointsRegister, number, wholeRegister)}
		if n := len(groups); n > 1 {
			m = append(m, flow.UintMask(src, uint64(i)<<1, uint64(n-1)<<1))
		}
		flows = append(flows, flow.Flow{Table: TableServiceLB, Priority: prioMain, Match: m, Actions: ToGroup(g)})
	}
	return flows
}

// Sticky is the flow that gives a connection the endpoint that its client had.
func Sticky(number, endpoint uint32, to netip.AddrPort) flow.Flow {
	return flow.Flow{
		Table: TableServiceLB, Priority: prioExact,
		Match: flow.Match{
			flow.EthTypeOf(to.Addr()),
			flow.Reg(endpointsRegister, number, wholeRegister), flow.Reg(stickyRegister, endpoint, wholeRegister),
		},
		Actions: Endpoint(to),
	}
}

// Choose is the actions by which a bucket of a group chooses an endpoint that the
// client is to keep. A bucket itself cannot have the switch learn.
func Choose(endpoint uint32) []flow.Action {
	return []flow.Action{flow.SetReg(stickyRegister, endpoint, wholeRegister), flow.Resubmit{Table: TableServiceStick}}
}

// MaxAffinity is the longest time that the switch itself counts.
const MaxAffinity = math.MaxUint16 * time.Second

// Stick is the flow that makes clients keep their endpoint of a set until they
// have made no connection for a while. Open vSwitch counts at most 65535 seconds;
// what is to live longer has no end of its own.
func Stick(number uint32, is4 bool, affinity time.Duration) flow.Flow {
	f := families()[1]
	if is4 {
		f = families()[0]
	}
	set, sticky := flow.Reg(endpointsRegister, number, wholeRegister), flow.Whole(flow.FieldReg(stickyRegister))
	learn := flow.Learn{
		Table: TableServiceAffinity, Priority: prioMain,
		Match: flow.Match{flow.EthType(f.ethType), set},
		Copy:  []flow.Field{f.src},
		Load:  []flow.LearnLoad{{Source: sticky, Dest: sticky}},
	}
	if affinity <= MaxAffinity {
		learn.IdleTimeout = uint16(affinity / time.Second)
	}
	return flow.Flow{
		Table: TableServiceStick, Priority: prioMain, Match: flow.Match{flow.EthType(f.ethType), set},
		Actions: []flow.Action{learn, flow.Resubmit{Table: TableServiceLB}},
	}
}

// LearnedSet is the number of the set of endpoints that a learned flow is about, 0
// for another flow.
func LearnedSet(learned flow.Match) uint32 {
	m, ok := learned.Get(flow.FieldReg(endpointsRegister))
	if !ok || len(m.Value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(m.Value)
}

// Balanced reports whether the switch gave a connection with a mark its endpoint.
func Balanced(mark uint32) bool { return mark&serviceMark != 0 }

func portsOf(protocol uint8) (src, dst flow.Field) {
	switch protocol {
	case flow.ProtoUDP:
		return flow.FieldUDPSrc, flow.FieldUDPDst
	case flow.ProtoSCTP:
		return flow.FieldSCTPSrc, flow.FieldSCTPDst
	}
	return flow.FieldTCPSrc, flow.FieldTCPDst
}

// ClusterIP is the flow that refuses what goes to an address of a Service other
// than to its ports. No network carries such addresses.
func ClusterIP(a netip.Addr) flow.Flow {
	return flow.Flow{
		Table: TableServiceFront, Priority: prioRest, Match: flow.Match{flow.EthTypeOf(a), flow.IPDst(single(a))}, Actions: Refuse(),
	}
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

// translate gives a packet of a connection to a Service the address and port that
// the other end knows.
func (f family) translate() flow.Action {
	return flow.CT{Zone: f.zone, Table: TableConntrackState, NAT: &flow.NAT{Kind: flow.NATRestore}}
}

// translateAnswer also remembers the endpoint that an answer comes from.
func (f family) translateAnswer() []flow.Action {
	return []flow.Action{flow.Move{Source: flow.Whole(f.src), Dest: flow.Whole(f.endpoint)}, f.translate()}
}

// baseService translates what belongs to a connection to a Service, both ways.
// Policies need the endpoint also for answers, from which it is taken here.
func (b *builder) baseService() {
	for _, f := range families() {
		ours := flow.Match{mark(serviceMark), flow.EthType(f.ethType)}
		b.add(TableConntrackNAT, prioMain, append(flow.Match{flow.CTState(flow.CTReply|flow.CTTracked, flow.CTRelated)}, ours...), f.translateAnswer()...)
		b.add(TableConntrackNAT, prioDefault, ours, f.translate())
		b.peer(TablePeerSource, prioExact, flow.Match{has(replyBit), mark(serviceMark), flow.EthType(f.ethType)}, f.endpoint, f.peer)
	}
	b.baseHairpin()
	b.findService(fromPod)
	b.add(TablePolicyPort, prioRoute-10, flow.Match{mark(serviceMark), flow.CTState(flow.CTTracked, flow.CTInvalid)}, flow.Move{
		Source: endpointPort,
		Dest:   flow.Subfield{Field: flow.FieldReg(policyPortRegister), N: endpointPort.N},
	})
}

// findService has packets of a source look for a Service: only those that are
// not known to be part of a connection.
func (b *builder) findService(from uint32) {
	b.add(TableConntrackState, prioRest,
		flow.Match{source(from), flow.CTState(flow.CTTracked, flow.CTReply|flow.CTEstablished)},
		flow.GotoTable{Table: TableServiceFront})
}

// gatewayServices is for what the kernel sends to Services.
func (b *builder) gatewayServices(p GatewayParams) {
	// What has passed the kernel, from the outside or to it, may go back there.
	b.add(TableOutput, prioExact, flow.Match{flow.InPort(p.Port), dest(toGateway)}, flow.Output{Port: flow.PortInPort})
	if !p.Services {
		return
	}
	b.findService(fromGateway)
	// The kernel leads what comes to a NodePort here in both families, those that
	// the Service does not have included.
	for _, a := range []netip.Addr{NodePort4, NodePort6} {
		b.flows = append(b.flows, ClusterIP(a))
	}
	for _, a := range p.ServiceAddrs {
		f := familyOf(a)
		b.add(TableServiceReturn, prioMain, flow.Match{notFrom(fromPod), flow.EthType(f.ethType), flow.IPDst(single(a))},
			flow.CT{Zone: f.sourceZone, Table: TableConntrack, NAT: &flow.NAT{Kind: flow.NATRestore}})
		b.add(TableServiceSource, prioMain, flow.Match{flow.EthType(f.ethType)}, replaceSource(a))
	}
	b.nodeClient(p)
}

// replaceSource gives a connection another source.
func replaceSource(by netip.Addr) flow.Action {
	return flow.CT{
		Commit: true, Zone: familyOf(by).sourceZone, Table: TableOutput, NAT: &flow.NAT{Kind: flow.NATSource, AddrMin: by},
	}
}

// nodeClient hands what the node sends to endpoints back to the kernel. What goes
// to an endpoint that is the node itself ends there, and the kernel would leave its
// source as it is.
func (b *builder) nodeClient(p GatewayParams) {
	for _, s := range p.ServiceAddrs {
		f := familyOf(s)
		from := flow.Match{flow.EthType(f.ethType), flow.IPSrc(single(f.nodeClient))}
		b.add(TableL3Forward, prioExact,
			append(flow.Match{source(fromGateway), mark(serviceMark), flow.CTState(flow.CTTracked, flow.CTReply)}, from...), intoGateway()...)
		b.add(TableServiceSource, prioExact, from, flow.GotoTable{Table: TableOutput})
		for _, a := range p.own() {
			if a.Is4() == s.Is4() {
				b.add(TableServiceSource, prioForbid, append(slices.Clone(from), flow.IPDst(single(a))), replaceSource(s))
			}
		}
	}
}

// elsewhere matches what the kernel sent to a Service and what leaves for an
// endpoint that is no Pod of the node.
func (b *builder) elsewhere() flow.Match {
	const notToPod = toGateway & toTunnel
	return flow.Match{flow.Reg(metaRegister, fromGateway|notToPod, sourceMask|notToPod|replyBit), mark(serviceMark)}
}

// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Zones of the connection tracker, one a family. The tracker may be that of the
// kernel, whose other users count their zones from 0 up.
const (
	ZoneIPv4 uint16 = 0xfff4
	ZoneIPv6 uint16 = 0xfff6
)

// A connection can be translated once in a zone, and a Service gives it its
// destination. Those that get the node's Service address as their source are in
// a zone of their own as well.
const (
	ZoneSource4 uint16 = 0xfff5
	ZoneSource6 uint16 = 0xfff7
)

// MarkBit is a run of bits of ct_mark, the mark of a connection.
type MarkBit struct {
	Mask          uint32
	Name, Purpose string
}

// Bits of ct_mark: those of register 0, shifted by markOffset.
const (
	exemptMark = exemptBit >> markOffset
	kernelMark = kernelBit >> markOffset
	markBits   = 2

	// serviceMark is written when the endpoint is chosen.
	serviceMark = 0x4
)

// MarkBits returns the bits of ct_mark in use.
func MarkBits() []MarkBit {
	return []MarkBit{
		{exemptMark, "Exempt", "the node began the connection, or a Service led a Pod to itself; policies are not asked"},
		{kernelMark, "Kernel", "the connection came from the kernel, which may have given it its destination; answers go there"},
		{serviceMark, "Service", "the switch gave the connection its destination, the endpoint of a Service"},
	}
}

// LabelPart is a run of bits of ct_label, the label of a connection.
type LabelPart struct {
	Offset, N     int
	Name, Purpose string
	// register is what Commit copies there.
	register int
}

// noRegister is the register of what Commit leaves alone.
const noRegister = -1

// LabelParts returns the bits of ct_label in use.
func LabelParts() []LabelPart {
	return []LabelPart{
		{0, 32, "IngressRule", "the rule that let the first packet in", ingressRuleRegister},
		{32, 32, "EgressRule", "the rule that let the first packet out", egressRuleRegister},
		{endpointPort.Offset, endpointPort.N, "EndpointPort", "the port of the endpoint, of connections to Services", noRegister},
	}
}

// family is what differs between the two families of IP.
type family struct {
	ethType uint16
	zone    uint16
	// sourceZone is where sources are translated.
	sourceZone uint16
	src, dst   flow.Field
	// peer and endpoint are registers that hold addresses.
	peer, endpoint flow.Field
	hairpin        netip.Addr
	nodeClient     netip.Addr
	length         int
}

func families() [2]family {
	return [2]family{
		{flow.EthTypeIPv4, ZoneIPv4, ZoneSource4, flow.FieldIPSrc, flow.FieldIPDst, flow.FieldReg(peerRegister), flow.FieldReg(endpointRegister), Hairpin4, NodeClient4, 32},
		{flow.EthTypeIPv6, ZoneIPv6, ZoneSource6, flow.FieldIPv6Src, flow.FieldIPv6Dst, flow.FieldXXReg3, flow.FieldXXReg(endpointRegister / 4), Hairpin6, NodeClient6, 128},
	}
}

// ZoneOf is the zone of connections to an address.
func ZoneOf(a netip.Addr) uint16 { return familyOf(a).zone }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return families()[0]
	}
	return families()[1]
}

// track looks up the connection of a packet.
func (f family) track() flow.Action { return flow.CT{Zone: f.zone, Table: TableConntrackNAT} }

func (b *builder) baseConntrack() {
	// What no router forwards is no connection either.
	for _, p := range []netip.Prefix{multicast4, multicast6, linkLocal6} {
		b.add(TableConntrack, prioForbid, flow.Match{flow.EthTypeOf(p.Addr()), flow.IPDst(p)}, next(TableL3Forward)...)
	}
	for _, f := range families() {
		// The kernel may have given it another destination (a hostPort, kube-proxy):
		// its answers would miss the kernel if the switch took them straight to
		// where they are to go.
		b.add(TableConntrack, prioExact, flow.Match{source(fromGateway), flow.EthType(f.ethType)}, setBit(kernelBit), f.track())
		// The sources of Pods are known: to remember them costs no flows of the
		// datapath, and their packets are looked up once instead of twice.
		b.add(TableConntrack, prioMain, flow.Match{source(fromPod), flow.EthType(f.ethType)}, f.translateAnswer()...)
		b.add(TableConntrack, prioDefault, flow.Match{flow.EthType(f.ethType)}, f.track())
	}
	exempt := []flow.Action{setBit(exemptBit), flow.GotoTable{Table: TableL3Forward}}
	b.add(TableConntrackState, prioForbid, flow.Match{flow.CTState(flow.CTRelated|flow.CTTracked, 0)}, exempt...)
	b.add(TableConntrackState, prioExact, flow.Match{mark(exemptMark)}, exempt...)
	b.add(TableConntrackState, prioDefault, flow.Match{flow.CTState(flow.CTReply|flow.CTTracked, 0)},
		setBit(replyBit), flow.GotoTable{Table: TableJudgeSource})
	answer := flow.CTState(flow.CTReply|flow.CTTracked, 0)
	b.add(TableL3Forward, prioExact, flow.Match{notFrom(fromGateway), answer, mark(kernelMark)}, intoGateway()...)
	// The endpoint is where the kernel routes to: it passes the kernel twice.
	b.add(TableL3Forward, prioExact, flow.Match{source(fromGateway), answer, mark(kernelMark | serviceMark)}, intoGateway()...)
}

// mark matches connections by a bit of their mark.
func mark(bit uint32) flow.FieldMatch {
	return flow.UintMask(flow.FieldCTMark, uint64(bit), uint64(bit))
}

// own are all addresses of the node, sorted.
func (p GatewayParams) own() []netip.Addr {
	all := slices.Concat(p.Addrs, p.NodeAddrs)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// exemptNode is for what the node itself sends to its Pods. What it answers is
// judged: the connection belongs to the Pod.
func (b *builder) exemptNode(p GatewayParams) {
	next := flow.GotoTable{Table: TableL3Forward}
	exempt := func(a netip.Addr, only ...flow.FieldMatch) {
		match := flow.Match{source(fromGateway), flow.CTState(flow.CTTracked, flow.CTReply), flow.EthTypeOf(a), flow.IPSrc(single(a))}
		b.add(TableConntrackState, prioMain, append(match, only...), setBit(exemptBit), next)
	}
	if p.Services {
		next.Table = TableServiceFront
		exempt(NodeClient4, flow.IPDst(single(NodePort4)))
		exempt(NodeClient6, flow.IPDst(single(NodePort6)))
	}
	for _, a := range p.own() {
		exempt(a)
	}
}

// baseCommit: an ICMP error about a connection is not one of its own, and an
// answer must not become the first packet of one.
func (b *builder) baseCommit() {
	exec := []flow.Action{flow.Move{
		Source: flow.Subfield{Field: flow.FieldReg(metaRegister), Offset: markOffset, N: markBits},
		Dest:   flow.Subfield{Field: flow.FieldCTMark, N: markBits},
	}}
	for _, l := range LabelParts() {
		if l.register == noRegister {
			continue
		}
		exec = append(exec, flow.Move{
			Source: flow.Whole(flow.FieldReg(l.register)),
			Dest:   flow.Subfield{Field: flow.FieldCTLabel, Offset: l.Offset, N: l.N},
		})
	}
	elsewhere := b.elsewhere()
	for _, f := range families() {
		first := flow.Match{hasNot(replyBit), flow.CTState(flow.CTNew|flow.CTTracked, flow.CTRelated), flow.EthType(f.ethType)}
		commit := flow.CT{Commit: true, Zone: f.zone, Table: flow.NoTable, Exec: exec}
		b.add(TableCommit, prioMain, first, commit, flow.GotoTable{Table: TableOutput})
		b.add(TableCommit, prioExact, append(slices.Clone(elsewhere), first[1:]...), commit, flow.GotoTable{Table: TableServiceSource})
	}
	b.add(TableCommit, prioQuiet, append(elsewhere, flow.CTState(flow.CTTracked, flow.CTReply)), flow.GotoTable{Table: TableServiceSource})
}

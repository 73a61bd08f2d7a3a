// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net/netip"

	"github.com/waymark-net/waymark/ovs/flow"
)

// This file is what package policy/flows builds with: how a Pod is judged, how
// rules match and what they say.

// baseVerdict parts what was denied from the rest. What is exempt passes both
// ends.
func (b *builder) baseVerdict() {
	b.add(TableVerdictSource, prioMain, flow.Match{has(deniedBit)}, next(TableDenied)...)
	b.add(TableVerdictDest, prioMain, flow.Match{has(deniedBit)}, next(TableDenied)...)
	b.add(TableJudgeDest, prioForbid, flow.Match{has(exemptBit)}, next(TableCommit)...)
	// The first fragment is judged for all: nobody can use the others without
	// it. They show no port, neither their own nor, with the userspace datapath,
	// that of their connection.
	for _, f := range families() {
		later := flow.Match{flow.EthType(f.ethType), flow.UintMask(flow.FieldIPFrag, laterFragment, laterFragment)}
		b.add(TableJudgeSource, prioExact, later, next(TableL3Forward)...)
		b.add(TableJudgeDest, prioQuiet, later, next(TableCommit)...)
	}
}

func (b *builder) basePeer() {
	for _, f := range families() {
		b.peer(TablePeerDest, prioMain, flow.Match{flow.EthType(f.ethType)}, f.dst, f.peer)
		b.peer(TablePeerSource, prioMain, flow.Match{flow.EthType(f.ethType)}, f.src, f.peer)
		b.policyPort(f, flow.ProtoTCP, flow.FieldTCPDst)
		b.policyPort(f, flow.ProtoUDP, flow.FieldUDPDst)
		b.policyPort(f, flow.ProtoSCTP, flow.FieldSCTPDst)
	}
	// For answers the tracker knows.
	b.add(TablePolicyPort, prioDefault, flow.Match{flow.CTState(flow.CTTracked, flow.CTInvalid)}, toPolicyPort(flow.FieldCTTPDst))
}

func (b *builder) peer(table uint8, priority uint16, match flow.Match, address, peer flow.Field) {
	b.add(table, priority, match,
		flow.SetReg(addressClassRegister, 0, wholeRegister),
		flow.SetReg(blockClassRegister, 0, wholeRegister),
		flow.Move{Source: flow.Whole(address), Dest: flow.Whole(peer)},
		flow.Resubmit{Table: TablePeerAddress},
		flow.Resubmit{Table: TablePeerBlock},
		flow.Resubmit{Table: TablePolicyPort})
}

func (b *builder) policyPort(f family, proto uint8, port flow.Field) {
	b.add(TablePolicyPort, prioMain,
		flow.Match{hasNot(replyBit), flow.EthType(f.ethType), flow.IPProto(proto)}, toPolicyPort(port))
}

// laterFragment is the bit of ip_frag that says that a packet is not the first
// of its fragments.
const laterFragment = 0x2

func toPolicyPort(port flow.Field) flow.Action {
	return flow.Move{
		Source: flow.Whole(port),
		Dest:   flow.Subfield{Field: flow.FieldReg(policyPortRegister), N: 16},
	}
}

// JudgeEgress returns the flows that make the egress of the Pod at an OpenFlow
// port subject to the egress tables: what it sends, and the answers to that.
func JudgeEgress(port uint32) []flow.Flow {
	b := &builder{}
	b.judge(TableJudgeSource, flow.Match{flow.InPort(port), hasNot(replyBit)}, port, TablePeerDest, TableEgressAdmin)
	b.judge(TableJudgeDest, flow.Match{toJudged(port), has(replyBit)}, port, TablePeerSource, TableEgressAdmin)
	return b.flows
}

// JudgeIngress returns the flows that make the ingress of the Pod at an
// OpenFlow port subject to the ingress tables: what it gets, and its answers.
func JudgeIngress(port uint32) []flow.Flow {
	b := &builder{}
	b.judge(TableJudgeDest, flow.Match{toJudged(port), hasNot(replyBit)}, port, TablePeerSource, TableIngressAdmin)
	b.judge(TableJudgeSource, flow.Match{flow.InPort(port), has(replyBit)}, port, TablePeerDest, TableIngressAdmin)
	return b.flows
}

// JudgeInvalid returns the flows that drop what belongs to no connection and
// cannot begin one, for a Pod that is judged in any direction.
func JudgeInvalid(port uint32) []flow.Flow {
	b := &builder{}
	invalid := flow.CTState(flow.CTInvalid|flow.CTTracked, 0)
	b.add(TableJudgeSource, prioForbid, flow.Match{flow.InPort(port), invalid})
	b.add(TableJudgeDest, prioExact, flow.Match{toJudged(port), invalid})
	return b.flows
}

func (b *builder) judge(table uint8, match flow.Match, port uint32, peer, rules uint8) {
	b.add(table, prioMain, match,
		flow.SetReg(judgedRegister, port, wholeRegister),
		flow.Resubmit{Table: peer},
		flow.Resubmit{Table: rules},
		flow.GotoTable{Table: table + 1})
}

// toJudged matches what goes to a Pod's port.
func toJudged(port uint32) flow.FieldMatch { return flow.Reg(portRegister, port, wholeRegister) }

// MatchJudged matches while the Pod at an OpenFlow port is judged.
func MatchJudged(port uint32) flow.FieldMatch { return flow.Reg(judgedRegister, port, wholeRegister) }

// MatchAddressClass matches the class that PeerAddress gave the other end.
func MatchAddressClass(class uint32) flow.FieldMatch {
	return flow.Reg(addressClassRegister, class, wholeRegister)
}

// MatchBlockClass matches the class that PeerBlock gave the other end.
func MatchBlockClass(class uint32) flow.FieldMatch {
	return flow.Reg(blockClassRegister, class, wholeRegister)
}

// MatchPolicyPort matches some bits of the connection's destination port.
func MatchPolicyPort(port, mask uint16) flow.FieldMatch {
	return flow.Reg(policyPortRegister, uint32(port), uint32(mask))
}

// PeerAddress is the flow that gives one address its class.
func PeerAddress(a netip.Addr, class uint32) flow.Flow {
	return flow.Flow{
		Table: TablePeerAddress, Priority: prioMain,
		Match:   flow.Match{flow.EthTypeOf(a), flow.Addr(familyOf(a).peer, a)},
		Actions: []flow.Action{flow.SetReg(addressClassRegister, class, wholeRegister)},
	}
}

// PeerBlock is the flow that gives the addresses of a prefix their class. The
// longest prefix that holds an address decides.
func PeerBlock(p netip.Prefix, class uint32) flow.Flow {
	match := flow.Match{flow.EthTypeOf(p.Addr())}
	if p.Bits() > 0 {
		match = append(match, flow.Prefix(familyOf(p.Addr()).peer, p))
	}
	return flow.Flow{
		Table: TablePeerBlock, Priority: prioMain + uint16(p.Bits()), Match: match,
		Actions: []flow.Action{flow.SetReg(blockClassRegister, class, wholeRegister)},
	}
}

// Isolate is the flow that denies what no rule accepts to the Pod at an
// OpenFlow port, in the table of its direction.
func Isolate(table uint8, port uint32) flow.Flow {
	return flow.Flow{Table: table, Priority: prioMain, Match: flow.Match{MatchJudged(port)}, Actions: []flow.Action{setBit(deniedBit)}}
}

// HoldPriority is above that of every rule in the tables EgressAdmin and
// IngressAdmin.
const HoldPriority uint16 = 0xffff

// Hold is the flow that denies everything to the Pod at an OpenFlow port, in
// the first of the tables of its direction.
func Hold(table uint8, port uint32) flow.Flow {
	return flow.Flow{Table: table, Priority: HoldPriority, Match: flow.Match{MatchJudged(port)}, Actions: []flow.Action{setBit(deniedBit)}}
}

// NotedIngress and NotedEgress are the actions that note the number of the rule
// that decides.
func NotedIngress(rule uint32) flow.Action {
	return flow.SetReg(ingressRuleRegister, rule, wholeRegister)
}

// NotedEgress is NotedIngress for the other direction.
func NotedEgress(rule uint32) flow.Action {
	return flow.SetReg(egressRuleRegister, rule, wholeRegister)
}

// Deny is the action of a rule that denies.
func Deny() flow.Action { return setBit(deniedBit) }

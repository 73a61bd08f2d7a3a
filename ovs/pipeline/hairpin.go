// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net/netip"

	"github.com/waymark-net/waymark/ovs/flow"
)

// This file is how a Pod reaches itself through a Service.

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

// baseHairpin is for an answer of a Pod to itself. Nothing else goes to that
// address.
func (b *builder) baseHairpin() {
	for _, f := range families() {
		b.add(TableConntrack, prioExact, flow.Match{source(fromPod), flow.EthType(f.ethType), flow.IPDst(single(f.hairpin))},
			setBit(hairpinBit), flow.Move{Source: flow.Whole(f.src), Dest: flow.Whole(f.dst)}, f.track())
	}
	b.add(TableConntrackNAT, prioForbid, flow.Match{has(hairpinBit), flow.UintMask(flow.FieldCTMark, 0, serviceMark)})
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

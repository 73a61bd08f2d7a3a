// SPDX-License-Identifier: Apache-2.0

package pipeline

import "github.com/waymark-net/waymark/ovs/flow"

// OwnerResume is the owner of the flows of Resume.
const OwnerResume = "resume"

// Resume returns the flows by which established TCP connections go on under
// the policies of their own direction when the connection tracker has lost its
// table, as that of the userspace datapath does when the switch is restarted.
//
// The tracker takes any segment but a SYN-ACK for the first of a connection, so
// whoever sends first after a restart would be the client, and a server that
// its policies let say nothing of its own accord could never go on. Services
// listen on low ports and clients connect from high ones (RFC 6056, section
// 3.2; Linux begins at 32768): that tells answers. They are judged as such but
// not recorded, the next segment of the client is.
//
// A Pod could lie about that, so these flows are to be in the switch only for a
// short time after a restart.
func Resume(p GatewayParams) []flow.Flow {
	b := &builder{}
	for _, f := range families() {
		b.add(TableConntrackState, prioQuiet, f.midStream(), setBit(replyBit), flow.GotoTable{Table: TableJudgeSource})
		b.add(TablePolicyPort, prioMain, append(f.midStream(), has(replyBit)), toPolicyPort(flow.FieldTCPSrc))
	}
	// What Pods seem to answer the node passes.
	for _, a := range p.own() {
		answer := append(familyOf(a).midStream(), source(fromPod), flow.IPDst(single(a)))
		b.add(TableConntrackState, prioQuiet+5, answer, setBit(exemptBit), setBit(replyBit), flow.GotoTable{Table: TableL3Forward})
	}
	return b.flows
}

// midStream matches what seems to be an answer of a TCP connection that the
// tracker does not know.
func (f family) midStream() flow.Match {
	const high = 0x8000
	return flow.Match{
		flow.CTState(flow.CTNew|flow.CTTracked, flow.CTRelated), flow.EthType(f.ethType), flow.IPProto(flow.ProtoTCP),
		flow.TCPFlags(0, flow.TCPSyn), flow.UintMask(flow.FieldTCPSrc, 0, high), flow.UintMask(flow.FieldTCPDst, high, high),
	}
}

// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"encoding/binary"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Judged is what the registers say of a packet that was judged.
type Judged struct {
	// Port is the OpenFlow port of the Pod that was judged last.
	Port uint32
	// IngressRule and EgressRule are the numbers of the rules that decided; 0 is
	// none.
	IngressRule, EgressRule uint32
	// Answer says that the packet goes against the direction of its connection.
	Answer bool
	// CTState are the bits of ct_state.
	CTState uint32
}

// ReadJudged reads the registers of a packet that came from table Denied.
// Fields that are not there are 0.
func ReadJudged(metadata flow.Match) Judged {
	value := func(f flow.Field) uint32 {
		m, ok := metadata.Get(f)
		if !ok || len(m.Value) != 4 {
			return 0
		}
		return binary.BigEndian.Uint32(m.Value)
	}
	return Judged{
		Port:        value(flow.FieldReg(judgedRegister)),
		IngressRule: value(flow.FieldReg(ingressRuleRegister)),
		EgressRule:  value(flow.FieldReg(egressRuleRegister)),
		Answer:      value(flow.FieldReg(metaRegister))&replyBit != 0,
		CTState:     value(flow.FieldCTState),
	}
}

// Forward are the actions that send a packet that the agent made to where its
// destination is, without asking policies or the connection tracker.
func Forward() []flow.Action {
	return forwardAs(fromPod)
}

// ToClient is Forward for an answer to a client of a Service: it is a Pod of the
// node, or the kernel has led it here and translates the answer. Like what comes
// from another node the answer never goes to one, whatever its address.
func ToClient() []flow.Action { return forwardAs(fromTunnel) }

func forwardAs(source uint32) []flow.Action {
	return []flow.Action{setSource(source), setBit(exemptBit), flow.Resubmit{Table: TableL3Forward}}
}

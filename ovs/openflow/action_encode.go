// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Flags of the Nicira connection tracking actions (ovs nicira-ext.h).
const (
	ctCommit = 1 << 0
	ctForce  = 1 << 1

	natSrc        = 1 << 0
	natDst        = 1 << 1
	natPersistent = 1 << 2
	natHash       = 1 << 3
	natRandom     = 1 << 4

	natIPv4Min = 1 << 0
	natIPv4Max = 1 << 1
	natIPv6Min = 1 << 2
	natIPv6Max = 1 << 3
	natPortMin = 1 << 4
	natPortMax = 1 << 5
)

// actionCopyField is OFPAT_COPY_FIELD (OpenFlow 1.5.1, 7.2.6.6).
const actionCopyField = 28

// nxInPort16 is IN_PORT in the 16-bit port numbers of the Nicira actions.
const nxInPort16 = 0xfff8

// encodeInstructions lays out the actions of a flow: apply-actions, then the
// GotoTable that may end the list.
func encodeInstructions(actions []flow.Action) ([]byte, error) {
	var goTo []byte
	if n := len(actions); n > 0 {
		if g, ok := actions[n-1].(flow.GotoTable); ok {
			actions = actions[:n-1]
			goTo = []byte{0, of.InstrType_GOTO_TABLE, 0, 8, g.Table, 0, 0, 0}
		}
	}
	body, err := encodeActions(actions)
	if err != nil {
		return nil, err
	}
	var b []byte
	if len(body) > 0 {
		b = binary.BigEndian.AppendUint16(b, of.InstrType_APPLY_ACTIONS)
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(body)))
		b = append(b, 0, 0, 0, 0)
		b = append(b, body...)
	}
	return append(b, goTo...), nil
}

func encodeActions(actions []flow.Action) ([]byte, error) {
	var b []byte
	for _, a := range actions {
		one, err := encodeAction(a)
		if err != nil {
			return nil, err
		}
		b = append(b, one...)
	}
	if len(b) > 0xff00 {
		return nil, fmt.Errorf("%d bytes of actions do not fit a message", len(b))
	}
	return b, nil
}

func encodeAction(a flow.Action) ([]byte, error) {
	switch a := a.(type) {
	case flow.Output:
		return standard(of.ActionType_Output, appendOutput(nil, a.Port, 0)), nil
	case flow.Controller:
		if len(a.Userdata) > 0 || a.Meter != 0 {
			return encodeController(a), nil
		}
		return standard(of.ActionType_Output, appendOutput(nil, flow.PortController, a.MaxLen)), nil
	case flow.ToGroup:
		return standard(of.ActionType_Group, binary.BigEndian.AppendUint32(nil, a.ID)), nil
	case flow.DecTTL:
		return standard(of.ActionType_DecNwTtl, nil), nil
	case flow.SetField:
		return standard(of.ActionType_SetField, appendField(nil, a.FieldMatch)), nil
	case flow.OutputReg:
		b := binary.BigEndian.AppendUint16(nil, offsetBits(a.Source))
		b = binary.BigEndian.AppendUint32(b, oxmHeader(a.Source.Field, false))
		b = binary.BigEndian.AppendUint16(b, 0xffff)
		return nicira(of.NXAST_OUTPUT_REG, append(b, 0, 0, 0, 0, 0, 0)), nil
	case flow.Move:
		b := binary.BigEndian.AppendUint16(nil, uint16(a.Source.N))
		b = binary.BigEndian.AppendUint16(b, uint16(a.Source.Offset))
		b = binary.BigEndian.AppendUint16(b, uint16(a.Dest.Offset))
		b = binary.BigEndian.AppendUint32(append(b, 0, 0), oxmHeader(a.Source.Field, false))
		return standard(actionCopyField, binary.BigEndian.AppendUint32(b, oxmHeader(a.Dest.Field, false))), nil
	case flow.Resubmit:
		return nicira(of.NXAST_RESUBMIT_TABLE, []byte{nxInPort16 >> 8, nxInPort16 & 0xff, a.Table, 0, 0, 0}), nil
	case flow.Conjunction:
		return nicira(of.NXAST_CONJUNCTION, binary.BigEndian.AppendUint32([]byte{a.Clause - 1, a.N}, a.ID)), nil
	case flow.CTClear:
		return nicira(of.NXAST_CT_CLEAR, nil), nil
	case flow.CT:
		return encodeCT(a)
	case flow.Learn:
		return encodeLearn(a), nil
	}
	return nil, fmt.Errorf("action %v cannot be sent", a)
}

// Properties of the Nicira action "controller2" (ovs nicira-ext.h).
const (
	nxastController2 = 37

	controllerMaxLen   = 0
	controllerUserdata = 3
	controllerMeter    = 5
)

// encodeController is the form of Open vSwitch that can do more than an output.
func encodeController(a flow.Controller) []byte {
	b := make([]byte, 6)
	if a.MaxLen != 0xffff {
		// Two bytes of padding count as part of this one.
		b = appendProperty(b, controllerMaxLen, append(binary.BigEndian.AppendUint16(nil, a.MaxLen), 0, 0))
	}
	if len(a.Userdata) > 0 {
		b = appendProperty(b, controllerUserdata, a.Userdata)
	}
	if a.Meter != 0 {
		b = appendProperty(b, controllerMeter, binary.BigEndian.AppendUint32(nil, a.Meter))
	}
	return nicira(nxastController2, b)
}

// appendProperty appends a property as OpenFlow 1.4 introduced them: its length
// is without the padding that follows.
func appendProperty(b []byte, kind uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(value)))
	b = append(b, value...)
	return append(b, make([]byte, pad8(4+len(value))-4-len(value))...)
}

// standard is an action of OpenFlow 1.5 with its header and padding.
func standard(kind uint16, body []byte) []byte {
	n := max(8, pad8(4+len(body)))
	b := make([]byte, n)
	binary.BigEndian.PutUint16(b, kind)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	copy(b[4:], body)
	return b
}

// nicira is an action of Open vSwitch's own with its header and padding.
func nicira(subtype uint16, body []byte) []byte {
	n := max(16, pad8(10+len(body)))
	b := make([]byte, n)
	binary.BigEndian.PutUint16(b, of.ActionType_Experimenter)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	binary.BigEndian.PutUint32(b[4:], of.NxExperimenterID)
	binary.BigEndian.PutUint16(b[8:], subtype)
	copy(b[10:], body)
	return b
}

func appendOutput(b []byte, port uint32, maxLen uint16) []byte {
	b = binary.BigEndian.AppendUint32(b, port)
	b = binary.BigEndian.AppendUint16(b, maxLen)
	return append(b, 0, 0, 0, 0, 0, 0)
}

// offsetBits is ofs_nbits of the Nicira actions.
func offsetBits(s flow.Subfield) uint16 { return uint16(s.Offset<<6 | s.N - 1) }

func encodeCT(a flow.CT) ([]byte, error) {
	var flags uint16
	if a.Commit {
		flags |= ctCommit
	}
	if a.Force {
		flags |= ctForce
	}
	b := binary.BigEndian.AppendUint16(nil, flags)
	if a.ZoneFrom.Field != flow.FieldInvalid {
		b = binary.BigEndian.AppendUint32(b, oxmHeader(a.ZoneFrom.Field, false))
		b = binary.BigEndian.AppendUint16(b, offsetBits(a.ZoneFrom))
	} else {
		b = append(b, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, a.Zone)
	}
	b = append(b, a.Table, 0, 0, 0, 0, 0)
	if a.NAT != nil {
		b = append(b, encodeNAT(*a.NAT)...)
	}
	exec, err := encodeActions(a.Exec)
	if err != nil {
		return nil, err
	}
	return nicira(of.NXAST_CT, append(b, exec...)), nil
}

func encodeNAT(n flow.NAT) []byte {
	var flags, present uint16
	for _, f := range []struct {
		on  bool
		bit uint16
	}{
		{n.Kind == flow.NATSource, natSrc},
		{n.Kind == flow.NATDestination, natDst},
		{n.Persistent, natPersistent},
		{n.Hash, natHash},
		{n.Random, natRandom},
	} {
		if f.on {
			flags |= f.bit
		}
	}
	var ranges []byte
	add := func(a netip.Addr, v4, v6 uint16) {
		if !a.IsValid() {
			return
		}
		if a.Is4() {
			present |= v4
		} else {
			present |= v6
		}
		ranges = append(ranges, a.AsSlice()...)
	}
	add(n.AddrMin, natIPv4Min, natIPv6Min)
	if n.AddrMax != n.AddrMin {
		add(n.AddrMax, natIPv4Max, natIPv6Max)
	}
	if n.PortMin != 0 {
		present |= natPortMin
		ranges = binary.BigEndian.AppendUint16(ranges, n.PortMin)
		if n.PortMax > n.PortMin {
			present |= natPortMax
			ranges = binary.BigEndian.AppendUint16(ranges, n.PortMax)
		}
	}
	b := binary.BigEndian.AppendUint16([]byte{0, 0}, flags)
	b = binary.BigEndian.AppendUint16(b, present)
	return nicira(of.NXAST_NAT, append(b, ranges...))
}

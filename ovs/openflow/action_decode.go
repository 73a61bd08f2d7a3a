// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// decodeInstructions reads the actions of a flow. An instruction or action
// that Waymark does not use is an error: such a flow is not ours.
func decodeInstructions(b []byte) ([]flow.Action, error) {
	var actions []flow.Action
	var goTo *flow.GotoTable
	for len(b) > 0 {
		kind, body, rest, err := cutTLV(b)
		if err != nil {
			return nil, err
		}
		switch kind {
		case of.InstrType_APPLY_ACTIONS:
			if len(body) < 4 {
				return nil, errShort
			}
			list, err := decodeActions(body[4:])
			if err != nil {
				return nil, err
			}
			actions = append(actions, list...)
		case of.InstrType_GOTO_TABLE:
			if len(body) < 1 {
				return nil, errShort
			}
			goTo = &flow.GotoTable{Table: body[0]}
		default:
			return nil, fmt.Errorf("instruction of type %d", kind)
		}
		b = rest
	}
	if goTo != nil {
		actions = append(actions, *goTo)
	}
	return actions, nil
}

// cutTLV cuts an instruction or an action off b; body is without its header.
func cutTLV(b []byte) (kind uint16, body, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, nil, errShort
	}
	kind = binary.BigEndian.Uint16(b)
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < 8 || n%8 != 0 {
		return 0, nil, nil, fmt.Errorf("length %d of type %d is not a multiple of 8", n, kind)
	}
	if len(b) < n {
		return 0, nil, nil, errShort
	}
	return kind, b[4:n], b[n:], nil
}

func decodeActions(b []byte) ([]flow.Action, error) {
	var actions []flow.Action
	for len(b) > 0 {
		kind, body, rest, err := cutTLV(b)
		if err != nil {
			return nil, err
		}
		a, err := decodeAction(kind, body)
		if err != nil {
			return nil, err
		}
		actions = append(actions, a)
		b = rest
	}
	return actions, nil
}

func decodeAction(kind uint16, b []byte) (flow.Action, error) {
	switch kind {
	case of.ActionType_Output:
		if len(b) < 6 {
			return nil, errShort
		}
		port := binary.BigEndian.Uint32(b)
		if port == flow.PortController {
			return flow.Controller{MaxLen: binary.BigEndian.Uint16(b[4:])}, nil
		}
		return flow.Output{Port: port}, nil
	case of.ActionType_Group:
		return flow.ToGroup{ID: binary.BigEndian.Uint32(b)}, nil
	case of.ActionType_DecNwTtl:
		return flow.DecTTL{}, nil
	case of.ActionType_SetField:
		return decodeSetField(b)
	case actionCopyField:
		return decodeMove(b)
	case of.ActionType_Experimenter:
		return decodeNicira(b)
	}
	return nil, fmt.Errorf("action of type %d", kind)
}

func decodeSetField(b []byte) (flow.Action, error) {
	m, _, err := decodeField(b)
	if err != nil {
		return nil, err
	}
	return flow.Set(m), nil
}

// niciraMin is how many bytes the fixed part of an action has after its
// subtype.
var niciraMin = map[uint16]int{
	of.NXAST_REG_LOAD:       14,
	of.NXAST_OUTPUT_REG:     14,
	of.NXAST_RESUBMIT_TABLE: 6,
	of.NXAST_CONJUNCTION:    6,
	of.NXAST_CT_CLEAR:       0,
	of.NXAST_CT:             14,
	of.NXAST_NAT:            6,
	of.NXAST_LEARN:          22,
	nxastController2:        6,
}

// cutNicira checks the header of a Nicira action.
func cutNicira(b []byte) (subtype uint16, body []byte, err error) {
	if len(b) < 6 {
		return 0, nil, errShort
	}
	if v := binary.BigEndian.Uint32(b); v != of.NxExperimenterID {
		return 0, nil, fmt.Errorf("action of vendor %#x", v)
	}
	subtype, body = binary.BigEndian.Uint16(b[4:]), b[6:]
	n, ok := niciraMin[subtype]
	if !ok {
		return 0, nil, fmt.Errorf("action of Nicira subtype %d", subtype)
	}
	if len(body) < n {
		return 0, nil, errShort
	}
	return subtype, body, nil
}

func decodeNicira(b []byte) (flow.Action, error) {
	subtype, b, err := cutNicira(b)
	if err != nil {
		return nil, err
	}
	switch subtype {
	case of.NXAST_REG_LOAD:
		sub, err := decodeSubfield(b[2:], binary.BigEndian.Uint16(b))
		if err != nil {
			return nil, err
		}
		return flow.Load(sub, binary.BigEndian.Uint64(b[6:])), nil
	case of.NXAST_OUTPUT_REG:
		sub, err := decodeSubfield(b[2:], binary.BigEndian.Uint16(b))
		return flow.OutputReg{Source: sub}, err
	case of.NXAST_RESUBMIT_TABLE:
		if p := binary.BigEndian.Uint16(b); p != nxInPort16 {
			return nil, fmt.Errorf("resubmit with port %d", p)
		}
		return flow.Resubmit{Table: b[2]}, nil
	case of.NXAST_CONJUNCTION:
		return flow.Conjunction{Clause: b[0] + 1, N: b[1], ID: binary.BigEndian.Uint32(b[2:])}, nil
	case of.NXAST_CT_CLEAR:
		return flow.CTClear{}, nil
	case of.NXAST_CT:
		return decodeCT(b)
	case nxastController2:
		return decodeController(b[6:])
	case of.NXAST_LEARN:
		return decodeLearn(b)
	}
	return nil, errors.New("nat outside of ct")
}

// cutProperty cuts one property with its padding off b.
func cutProperty(b []byte) (kind uint16, value, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, nil, errShort
	}
	kind = binary.BigEndian.Uint16(b)
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < 4 {
		return 0, nil, nil, fmt.Errorf("property %d of length %d", kind, n)
	}
	if len(b) < n {
		return 0, nil, nil, errShort
	}
	return kind, b[4:n], b[min(pad8(n), len(b)):], nil
}

func decodeController(b []byte) (flow.Action, error) {
	a := flow.Controller{MaxLen: 0xffff}
	for len(b) > 0 {
		kind, value, rest, err := cutProperty(b)
		if err != nil {
			return nil, err
		}
		switch {
		case kind == controllerMaxLen && len(value) == 4:
			a.MaxLen = binary.BigEndian.Uint16(value)
		case kind == controllerUserdata:
			a.Userdata = value
		case kind == controllerMeter && len(value) == 4:
			a.Meter = binary.BigEndian.Uint32(value)
		default:
			return nil, fmt.Errorf("controller with property %d of %d bytes", kind, len(value))
		}
		b = rest
	}
	return a, nil
}

// decodeSubfield reads the header of a field at b; its bits are in ofsNBits.
func decodeSubfield(b []byte, ofsNBits uint16) (flow.Subfield, error) {
	return decodeBits(b, int(ofsNBits>>6), int(ofsNBits&0x3f)+1)
}

func decodeBits(b []byte, offset, n int) (flow.Subfield, error) {
	h := binary.BigEndian.Uint32(b)
	f, ok := flow.FieldByOXM(uint16(h>>16), uint8(h>>9&0x7f))
	if !ok {
		return flow.Subfield{}, fmt.Errorf("unknown field %#08x", h)
	}
	if offset+n > f.Info().Bits {
		return flow.Subfield{}, fmt.Errorf("field %v has no bits %d to %d", f, offset, offset+n-1)
	}
	return flow.Subfield{Field: f, Offset: offset, N: n}, nil
}

func decodeMove(b []byte) (flow.Action, error) {
	if len(b) < 16 {
		return nil, errShort
	}
	n := int(binary.BigEndian.Uint16(b))
	src, err := decodeBits(b[8:], int(binary.BigEndian.Uint16(b[2:])), n)
	if err != nil {
		return nil, err
	}
	dst, err := decodeBits(b[12:], int(binary.BigEndian.Uint16(b[4:])), n)
	return flow.Move{Source: src, Dest: dst}, err
}

func decodeCT(b []byte) (flow.Action, error) {
	flags := binary.BigEndian.Uint16(b)
	if alg := binary.BigEndian.Uint16(b[12:]); alg != 0 || flags&^(ctCommit|ctForce) != 0 {
		return nil, fmt.Errorf("ct with flags %#x and helper %d", flags, alg)
	}
	a := flow.CT{Commit: flags&ctCommit != 0, Force: flags&ctForce != 0, Table: b[8]}
	if zone := binary.BigEndian.Uint16(b[6:]); binary.BigEndian.Uint32(b[2:]) == 0 {
		a.Zone = zone
	} else {
		var err error
		if a.ZoneFrom, err = decodeSubfield(b[2:], zone); err != nil {
			return nil, err
		}
	}
	for b = b[14:]; len(b) > 0; {
		kind, body, rest, err := cutTLV(b)
		if err != nil {
			return nil, err
		}
		b = rest
		if kind == of.ActionType_Experimenter {
			if subtype, body, err := cutNicira(body); err == nil && subtype == of.NXAST_NAT {
				if a.NAT, err = decodeNAT(body); err != nil {
					return nil, err
				}
				continue
			}
		}
		e, err := decodeAction(kind, body)
		if err != nil {
			return nil, err
		}
		a.Exec = append(a.Exec, e)
	}
	return a, nil
}

func decodeNAT(b []byte) (*flow.NAT, error) {
	flags, present := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
	n := &flow.NAT{Persistent: flags&natPersistent != 0, Hash: flags&natHash != 0, Random: flags&natRandom != 0}
	switch {
	case flags&natSrc != 0:
		n.Kind = flow.NATSource
	case flags&natDst != 0:
		n.Kind = flow.NATDestination
	}
	b = b[6:]
	for _, r := range []struct {
		bit  uint16
		size int
		set  func([]byte)
	}{
		{natIPv4Min, 4, func(v []byte) { n.AddrMin = addrOf(v) }},
		{natIPv4Max, 4, func(v []byte) { n.AddrMax = addrOf(v) }},
		{natIPv6Min, 16, func(v []byte) { n.AddrMin = addrOf(v) }},
		{natIPv6Max, 16, func(v []byte) { n.AddrMax = addrOf(v) }},
		{natPortMin, 2, func(v []byte) { n.PortMin = binary.BigEndian.Uint16(v) }},
		{natPortMax, 2, func(v []byte) { n.PortMax = binary.BigEndian.Uint16(v) }},
	} {
		if present&r.bit == 0 {
			continue
		}
		if len(b) < r.size {
			return nil, errShort
		}
		r.set(b[:r.size])
		b = b[r.size:]
	}
	return n, nil
}

func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

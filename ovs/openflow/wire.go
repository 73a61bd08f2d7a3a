// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/contiv/libOpenflow/util"

	"github.com/waymark-net/waymark/ovs/flow"
)

// errShort is what every decoder says of input that ends too early.
var errShort = errors.New("message is too short")

// raw is a piece of a message that is already encoded.
type raw []byte

var _ util.Message = (*raw)(nil)

func (r raw) Len() uint16                    { return uint16(len(r)) }
func (r raw) MarshalBinary() ([]byte, error) { return r, nil }
func (r *raw) UnmarshalBinary(b []byte) error {
	*r = append(raw(nil), b...)
	return nil
}

func pad8(n int) int { return (n + 7) &^ 7 }

// oxmHeader is the header of a field in a match or an action (OpenFlow 1.5.1,
// 7.2.3.2).
func oxmHeader(f flow.Field, masked bool) uint32 {
	info := f.Info()
	h := uint32(info.Class)<<16 | uint32(info.Code)<<9
	if masked {
		return h | 1<<8 | uint32(2*info.Bytes)
	}
	return h | uint32(info.Bytes)
}

func appendField(b []byte, m flow.FieldMatch) []byte {
	b = binary.BigEndian.AppendUint32(b, oxmHeader(m.Field, m.Mask != nil))
	b = append(b, m.Value...)
	return append(b, m.Mask...)
}

// wireField is m as it must be sent: ct_state has fewer flags than bits and
// Open vSwitch takes an exact match as one on all of them.
func wireField(m flow.FieldMatch) flow.FieldMatch {
	if m.Field == flow.FieldCTState && m.Mask == nil {
		m.Mask = []byte{0, 0, 0, 0xff}
	}
	return m
}

// encodeMatch lays m out as the fields of an OXM match, without its header.
func encodeMatch(m flow.Match) []byte { return appendMatch(nil, m.Canonical()) }

// appendMatch is encodeMatch for a match that is canonical.
func appendMatch(b []byte, m flow.Match) []byte {
	for _, fm := range m {
		b = appendField(b, wireField(fm))
	}
	return b
}

// nextField cuts one OXM field off b.
func nextField(b []byte) (header uint32, body, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, nil, errShort
	}
	header = binary.BigEndian.Uint32(b)
	n := int(header & 0xff)
	if len(b) < 4+n {
		return 0, nil, nil, errShort
	}
	return header, b[4 : 4+n], b[4+n:], nil
}

// decodeField reads one OXM field whose length must be that of the field.
func decodeField(b []byte) (m flow.FieldMatch, rest []byte, err error) {
	h, body, rest, err := nextField(b)
	if err != nil {
		return flow.FieldMatch{}, nil, err
	}
	f, ok := flow.FieldByOXM(uint16(h>>16), uint8(h>>9&0x7f))
	if !ok {
		return flow.FieldMatch{}, nil, fmt.Errorf("unknown field %#08x", h)
	}
	n := f.Info().Bytes
	m = flow.FieldMatch{Field: f}
	switch masked := h>>8&1 == 1; {
	case masked && len(body) == 2*n:
		m.Value, m.Mask = body[:n], body[n:]
	case !masked && len(body) == n:
		m.Value = body
	default:
		return flow.FieldMatch{}, nil, fmt.Errorf("field %v has %d bytes", f, len(body))
	}
	return m, rest, nil
}

// decodeMatch reads the fields of a match.
func decodeMatch(b []byte) (flow.Match, error) {
	var m flow.Match
	for len(b) > 0 {
		list, rest, err := decodeMatchField(b)
		if err != nil {
			return nil, err
		}
		m = append(m, list...)
		b = rest
	}
	return m.Canonical(), nil
}

// The packet registers (OpenFlow 1.5.1, 7.2.3.11), of 64 bits. Open vSwitch takes
// registers of 32 bits in a match, and reports pairs of them as these.
const (
	classPacketRegs = 0x8001
	packetRegs      = flow.Registers / 2
	packetRegLen    = 8
)

// decodeMatchField reads one OXM field of a match: a packet register is one or
// both of its halves, whichever the match compares.
func decodeMatchField(b []byte) (list []flow.FieldMatch, rest []byte, err error) {
	h, body, rest, err := nextField(b)
	if err != nil {
		return nil, nil, err
	}
	n := int(h >> 9 & 0x7f)
	if h>>16 != classPacketRegs || n >= packetRegs {
		m, rest, err := decodeField(b)
		return []flow.FieldMatch{m}, rest, err
	}
	mask := bytes.Repeat([]byte{0xff}, packetRegLen)
	switch masked := h>>8&1 == 1; {
	case masked && len(body) == 2*packetRegLen:
		mask = body[packetRegLen:]
	case masked || len(body) != packetRegLen:
		return nil, nil, fmt.Errorf("packet register %d has %d bytes", n, len(body))
	}
	for half := range 2 {
		value, mask := binary.BigEndian.Uint32(body[4*half:]), binary.BigEndian.Uint32(mask[4*half:])
		if mask != 0 {
			list = append(list, flow.Reg(2*n+half, value, mask))
		}
	}
	return list, rest, nil
}

// cutMatch splits an ofp_match with its padding from what follows and returns
// the fields in it.
func cutMatch(b []byte) (fields, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if t := binary.BigEndian.Uint16(b); t != of.MatchType_OXM {
		return nil, nil, fmt.Errorf("match of type %d", t)
	}
	if n < 4 || len(b) < pad8(n) {
		return nil, nil, errShort
	}
	return b[4:n], b[pad8(n):], nil
}

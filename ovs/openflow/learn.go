// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// The header of one part of a Nicira "learn" action (ovs nicira-ext.h): where a
// value comes from, what becomes of it, and how many bits it has.
const (
	learnBits      = 0x3ff
	learnToLoad    = 1 << 11
	learnImmediate = 1 << 13
	learnKind      = 0xffff &^ learnBits
)

// encodeLearn puts what is compared with a constant first: it holds the
// prerequisites of the rest.
func encodeLearn(a flow.Learn) []byte {
	b := binary.BigEndian.AppendUint16(nil, a.IdleTimeout)
	b = binary.BigEndian.AppendUint16(b, a.HardTimeout)
	b = binary.BigEndian.AppendUint16(b, a.Priority)
	b = binary.BigEndian.AppendUint64(b, a.Cookie)
	// No flags, no timeouts that FIN and RST would set.
	b = append(b, 0, 0, a.Table, 0, 0, 0, 0, 0)
	for _, m := range a.Match.Canonical() {
		b = binary.BigEndian.AppendUint16(b, learnImmediate|uint16(8*len(m.Value)))
		if len(m.Value)%2 != 0 {
			b = append(b, 0)
		}
		b = append(b, m.Value...)
		b = appendLearnField(b, m.Field, 0)
	}
	for _, f := range a.Copy {
		b = binary.BigEndian.AppendUint16(b, uint16(f.Info().Bits))
		b = appendLearnField(b, f, 0)
		b = appendLearnField(b, f, 0)
	}
	for _, l := range a.Load {
		if (l.Source != flow.Subfield{}) {
			b = binary.BigEndian.AppendUint16(b, learnToLoad|uint16(l.Dest.N))
			b = appendLearnField(b, l.Source.Field, l.Source.Offset)
			b = appendLearnField(b, l.Dest.Field, l.Dest.Offset)
			continue
		}
		b = binary.BigEndian.AppendUint16(b, learnImmediate|learnToLoad|uint16(l.Dest.N))
		value := binary.BigEndian.AppendUint64(nil, l.Value)
		b = append(b, value[8-learnValueLen(l.Dest.N):]...)
		b = appendLearnField(b, l.Dest.Field, l.Dest.Offset)
	}
	return nicira(of.NXAST_LEARN, b)
}

// learnValueLen is how many bytes hold a constant of n bits.
func learnValueLen(n int) int { return (n + 15) / 16 * 2 }

func appendLearnField(b []byte, f flow.Field, offset int) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, oxmHeader(f, false)), uint16(offset))
}

// decodeLearn reads the action after its subtype. One that has what flow.Learn
// does not is an error.
func decodeLearn(b []byte) (flow.Action, error) {
	a := flow.Learn{
		IdleTimeout: binary.BigEndian.Uint16(b),
		HardTimeout: binary.BigEndian.Uint16(b[2:]),
		Priority:    binary.BigEndian.Uint16(b[4:]),
		Cookie:      binary.BigEndian.Uint64(b[6:]),
		Table:       b[16],
	}
	if flags := binary.BigEndian.Uint16(b[14:]); flags != 0 || binary.BigEndian.Uint32(b[18:]) != 0 {
		return nil, fmt.Errorf("learn with flags %#x or timeouts after FIN", flags)
	}
	b = b[22:]
	// A part without bits begins the padding.
	for len(b) >= 2 && binary.BigEndian.Uint16(b) != 0 {
		var err error
		if b, err = decodeLearnPart(&a, b); err != nil {
			return nil, fmt.Errorf("learn: %w", err)
		}
	}
	a.Match = a.Match.Canonical()
	return a, nil
}

// decodeLearnPart reads one part at b and returns what follows it.
func decodeLearnPart(a *flow.Learn, b []byte) (rest []byte, err error) {
	kind := binary.BigEndian.Uint16(b) & learnKind
	n := int(binary.BigEndian.Uint16(b) & learnBits)
	if kind&^(learnImmediate|learnToLoad) != 0 || n == 0 {
		return nil, fmt.Errorf("a part of kind %#x with %d bits", kind, n)
	}
	b = b[2:]
	var value []byte
	var source flow.Subfield
	if kind&learnImmediate != 0 {
		value, b, err = cut(b, learnValueLen(n))
	} else {
		source, b, err = cutLearnField(b, n)
	}
	if err != nil {
		return nil, err
	}
	dest, rest, err := cutLearnField(b, n)
	if err != nil {
		return nil, err
	}
	switch whole := n == 8*dest.Field.Info().Bytes; {
	case kind&learnToLoad != 0 && n <= 64:
		load := flow.LearnLoad{Dest: dest, Source: source}
		for _, c := range value {
			load.Value = load.Value<<8 | uint64(c)
		}
		a.Load = append(a.Load, load)
	case kind == learnImmediate && whole:
		a.Match = append(a.Match, flow.FieldMatch{Field: dest.Field, Value: value[len(value)-dest.Field.Info().Bytes:]})
	case kind == 0 && whole && source == dest:
		a.Copy = append(a.Copy, dest.Field)
	default:
		return nil, fmt.Errorf("a part of kind %#x for %v", kind, dest)
	}
	return rest, nil
}

func cut(b []byte, n int) (head, rest []byte, err error) {
	if len(b) < n {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}

// cutLearnField reads a field of which n bits count.
func cutLearnField(b []byte, n int) (flow.Subfield, []byte, error) {
	head, rest, err := cut(b, 6)
	if err != nil {
		return flow.Subfield{}, nil, err
	}
	s, err := decodeBits(head, int(binary.BigEndian.Uint16(head[4:])), n)
	return s, rest, err
}

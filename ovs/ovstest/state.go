// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"math/big"

	"github.com/waymark-net/waymark/ovs/flow"
)

// offsets says where each field is in the bytes of a state, stateSize how many
// there are. A 128-bit register lies where its registers lie.
var offsets, stateSize = layOut()

func layOut() ([]int, int) {
	out := []int{0}
	n := 0
	for f := flow.FieldInvalid + 1; f.Valid(); f++ {
		if first, ok := firstRegister(f); ok {
			out = append(out, out[first])
			continue
		}
		out = append(out, n)
		n += f.Info().Bytes
	}
	return out, n
}

// firstRegister is the register in which a 128-bit register begins.
func firstRegister(f flow.Field) (flow.Field, bool) {
	for i := range flow.WideRegisters {
		if f == flow.FieldXXReg(i) {
			return flow.FieldReg(4 * i), true
		}
	}
	return 0, false
}

// state is a packet on its way through the tables.
type state struct {
	bytes []byte
	// has holds the fields of the packet itself; metadata is always there.
	has [2]uint64
}

func newState(p Packet) *state {
	s := &state{bytes: make([]byte, stateSize)}
	for _, fm := range p.Canonical() {
		s.put(fm.Field, fm.Value)
	}
	return s
}

func (s *state) clone() *state {
	return &state{bytes: append([]byte(nil), s.bytes...), has: s.has}
}

// metadata are the fields that every packet has, 0 unless set.
func metadata(f flow.Field) bool {
	return f <= flow.FieldMetadata || f == flow.FieldVLANVID || f == flow.FieldIPFrag
}

func (s *state) present(f flow.Field) bool {
	return s.has[f/64]&(1<<(f%64)) != 0 || metadata(f)
}

// get is the value of a field, all zero when the packet does not have it.
func (s *state) get(f flow.Field) []byte {
	at := offsets[f]
	return s.bytes[at : at+f.Info().Bytes]
}

func (s *state) put(f flow.Field, v []byte) {
	copy(s.get(f), v)
	s.has[f/64] |= 1 << (f % 64)
}

func (s *state) uint(f flow.Field) uint64 {
	var n uint64
	for _, b := range s.get(f) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (s *state) clear(fields ...flow.Field) {
	for _, f := range fields {
		clear(s.get(f))
	}
}

// packet is the state as a packet: fields of the packet itself, and metadata
// that is not 0.
func (s *state) packet() Packet {
	var p Packet
	for f := flow.FieldInvalid + 1; f.Valid(); f++ {
		if _, alias := firstRegister(f); alias {
			continue
		}
		v := s.get(f)
		if s.has[f/64]&(1<<(f%64)) == 0 && !nonZero(v) {
			continue
		}
		p = append(p, flow.FieldMatch{Field: f, Value: append([]byte(nil), v...)})
	}
	return p.Canonical()
}

func nonZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return true
		}
	}
	return false
}

func (s *state) set(m flow.FieldMatch) {
	v := append([]byte(nil), s.get(m.Field)...)
	for i := range v {
		mask := byte(0xff)
		if m.Mask != nil {
			mask = m.Mask[i]
		}
		v[i] = v[i]&^mask | m.Value[i]
	}
	s.put(m.Field, v)
}

func (s *state) bits(f flow.Subfield) *big.Int {
	n := new(big.Int).SetBytes(s.get(f.Field))
	n.Rsh(n, uint(f.Offset))
	return n.And(n, ones(f.N))
}

func (s *state) store(f flow.Subfield, bits *big.Int) {
	v := s.get(f.Field)
	n := new(big.Int).SetBytes(v)
	n.AndNot(n, new(big.Int).Lsh(ones(f.N), uint(f.Offset)))
	n.Or(n, new(big.Int).Lsh(bits, uint(f.Offset)))
	s.put(f.Field, n.FillBytes(make([]byte, len(v))))
}

// ones is the number whose n lowest bits are set.
func ones(n int) *big.Int {
	m := new(big.Int).Lsh(big.NewInt(1), uint(n))
	return m.Sub(m, big.NewInt(1))
}

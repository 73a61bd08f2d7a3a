// SPDX-License-Identifier: Apache-2.0

package probe

import "encoding/binary"

// A probe is a UDP datagram: this header, in network byte order, then zeros up to
// its length.
//
//	0  4 magic "WMPB"   4  version   5  type   6  kind   7  flow
//	8  8 nonce         16  4 sequence         20  2 length of the datagram, header included
//	22 2 zero, not looked at
const (
	magic     = 0x574d5042
	version   = 1
	headerLen = 24
)

const (
	typeRequest = 1
	typeReply   = 2
)

// kind is what a probe is to find out.
type kind uint8

const (
	small kind = iota // whether packets pass at all
	full              // whether the largest packets of Pods pass
	kinds             // how many there are
)

// packet is the header of a probe. A reply has everything as the request had it,
// but the type.
type packet struct {
	Type   uint8
	Kind   kind
	Flow   uint8
	Nonce  uint64 // of the engine that asks, another one after each start
	Seq    uint32
	Length int // of the datagram
}

// bytes returns the datagram. Length is at least headerLen.
func (p packet) bytes() []byte {
	b := make([]byte, p.Length)
	binary.BigEndian.PutUint32(b, magic)
	b[4], b[5], b[6], b[7] = version, p.Type, byte(p.Kind), p.Flow
	binary.BigEndian.PutUint64(b[8:], p.Nonce)
	binary.BigEndian.PutUint32(b[16:], p.Seq)
	binary.BigEndian.PutUint16(b[20:], uint16(p.Length))
	return b
}

// reply makes the reply to the request in b, in place.
func reply(b []byte) { b[5] = typeReply }

// parse reads a datagram. The reason is empty when it is a probe.
func parse(b []byte) (packet, Discard) {
	p, why := parseQuoted(b)
	if why == "" && p.Length != len(b) {
		return packet{}, DiscardLength
	}
	return p, why
}

// parseQuoted reads as much of a datagram as an ICMP error quotes.
func parseQuoted(b []byte) (packet, Discard) {
	if len(b) < headerLen {
		return packet{}, DiscardLength
	}
	p := packet{
		Type: b[5], Kind: kind(b[6]), Flow: b[7],
		Nonce:  binary.BigEndian.Uint64(b[8:]),
		Seq:    binary.BigEndian.Uint32(b[16:]),
		Length: int(binary.BigEndian.Uint16(b[20:])),
	}
	switch {
	case binary.BigEndian.Uint32(b) != magic:
		return packet{}, DiscardMagic
	case b[4] != version:
		return packet{}, DiscardVersion
	case p.Type != typeRequest && p.Type != typeReply:
		return packet{}, DiscardType
	case p.Kind >= kinds:
		return packet{}, DiscardType
	case p.Length < len(b):
		return packet{}, DiscardLength
	}
	return p, ""
}

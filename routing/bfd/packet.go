// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"encoding/binary"
	"time"
)

const (
	version = 1
	// headerLen is the length in bytes of the mandatory section, minLenAuth that
	// of the shortest packet with an authentication section.
	headerLen  = 24
	minLenAuth = 26
)

const (
	flagPoll       = 1 << 5
	flagFinal      = 1 << 4
	flagIndep      = 1 << 3 // Control Plane Independent
	flagAuth       = 1 << 2
	flagDemand     = 1 << 1
	flagMultipoint = 1 << 0
)

// packet is a BFD control packet (RFC 5880, 4.1) as far as it is used here.
// Intervals are whole microseconds on the wire.
type packet struct {
	Diagnostic Diagnostic
	State      State
	Poll       bool
	Final      bool
	Auth       bool // an authentication section follows; never sent
	Demand     bool // never sent
	DetectMult uint8
	// Mine is My Discriminator, Yours is Your Discriminator.
	Mine, Yours   uint32
	DesiredMinTx  time.Duration
	RequiredMinRx time.Duration
}

// append writes the packet behind b.
func (p packet) append(b []byte) []byte {
	// Another process goes on with the sessions when BGP's ends.
	flags := byte(p.State)<<6 | flagIndep
	if p.Poll {
		flags |= flagPoll
	}
	if p.Final {
		flags |= flagFinal
	}
	b = append(b, version<<5|byte(p.Diagnostic), flags, p.DetectMult, headerLen)
	b = binary.BigEndian.AppendUint32(b, p.Mine)
	b = binary.BigEndian.AppendUint32(b, p.Yours)
	b = binary.BigEndian.AppendUint32(b, uint32(p.DesiredMinTx/time.Microsecond))
	b = binary.BigEndian.AppendUint32(b, uint32(p.RequiredMinRx/time.Microsecond))
	return binary.BigEndian.AppendUint32(b, 0) // no echo packets, please
}

// parse reads the payload of a datagram, with the checks of RFC 5880, 6.8.6
// that need no session, in the order given there. The reason is empty when the
// packet is good; what follows it in the datagram is of no interest.
func parse(b []byte) (packet, Discard) {
	if len(b) < headerLen {
		return packet{}, DiscardLength // no place for a header: the length field cannot be right
	}
	flags, length := b[1], int(b[3])
	least := headerLen
	if flags&flagAuth != 0 {
		least = minLenAuth
	}
	p := packet{
		Diagnostic:    Diagnostic(b[0] & 0x1f),
		State:         State(flags >> 6),
		Poll:          flags&flagPoll != 0,
		Final:         flags&flagFinal != 0,
		Auth:          flags&flagAuth != 0,
		Demand:        flags&flagDemand != 0,
		DetectMult:    b[2],
		Mine:          binary.BigEndian.Uint32(b[4:]),
		Yours:         binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:  microseconds(b[12:]),
		RequiredMinRx: microseconds(b[16:]),
	}
	switch {
	case b[0]>>5 != version:
		return packet{}, DiscardVersion
	case length < least:
		return packet{}, DiscardLength
	case length > len(b):
		return packet{}, DiscardTruncated
	case p.DetectMult == 0:
		return packet{}, DiscardDetectMult
	case flags&flagMultipoint != 0:
		return packet{}, DiscardMultipoint
	case p.Mine == 0:
		return packet{}, DiscardMyDiscriminator
	}
	return p, ""
}

func microseconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

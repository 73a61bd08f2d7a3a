// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// ErrIsReset says that the segment was a reset itself. It is not answered, so
// that two ends cannot keep each other busy.
var ErrIsReset = errors.New("the segment is a reset")

// ErrNotTCP says that the packet has no TCP segment.
var ErrNotTCP = errors.New("no TCP segment")

// Segment is what a TCP segment says of its connection.
type Segment struct {
	// Src and Dst are the ends; Dst is the one that did not get the segment.
	Src, Dst netip.AddrPort
	seq, ack uint32
	acks     bool
	// length in sequence numbers: payload, SYN and FIN (RFC 9293, 3.4).
	length uint32
}

// Segment reads the TCP segment of a packet, which may be cut off anywhere
// behind the TCP header.
func (p Packet) Segment() (Segment, error) {
	if p.Protocol != layers.IPProtocolTCP {
		return Segment{}, fmt.Errorf("%w but %v", ErrNotTCP, p.Protocol)
	}
	var tcp layers.TCP
	if err := tcp.DecodeFromBytes(p.above, gopacket.NilDecodeFeedback); err != nil {
		return Segment{}, fmt.Errorf("TCP segment in %d bytes: %w", len(p.above), err)
	}
	if tcp.RST {
		return Segment{}, ErrIsReset
	}
	length := p.aboveLen - len(tcp.Contents)
	if length < 0 {
		return Segment{}, fmt.Errorf("the IP packet is %d bytes shorter than its headers", -length)
	}
	for _, flag := range []bool{tcp.SYN, tcp.FIN} {
		if flag {
			length++
		}
	}
	return Segment{
		Src: netip.AddrPortFrom(p.Src, uint16(tcp.SrcPort)), Dst: netip.AddrPortFrom(p.Dst, uint16(tcp.DstPort)),
		seq: tcp.Seq, ack: tcp.Ack, acks: tcp.ACK, length: uint32(length),
	}, nil
}

// ToSender returns the frame that tells Src that the connection is over, as if
// Dst had answered the segment (RFC 9293, 3.5.2).
func (s Segment) ToSender() ([]byte, error) {
	reset := layers.TCP{RST: true, ACK: true, Ack: s.seq + s.length}
	if s.acks {
		reset.Seq = s.ack
	}
	return resetFrame(s.Dst, s.Src, reset)
}

// ToReceiver returns the frame that tells Dst, in the place of the segment: Dst
// takes it only if it waits for that very sequence number (RFC 5961, 3.2).
func (s Segment) ToReceiver() ([]byte, error) {
	return resetFrame(s.Src, s.Dst, layers.TCP{RST: true, ACK: s.acks, Seq: s.seq, Ack: s.ack})
}

func resetFrame(src, dst netip.AddrPort, tcp layers.TCP) ([]byte, error) {
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	out, err := frame(src.Addr(), dst.Addr(), layers.IPProtocolTCP, &tcp)
	if err != nil {
		return nil, fmt.Errorf("reset from %s to %s: %w", src, dst, err)
	}
	return out, nil
}

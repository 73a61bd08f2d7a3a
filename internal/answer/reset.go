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

// ErrNotTCP says that the frame has no TCP segment.
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

// ParseSegment reads the segment of an Ethernet frame, which may be cut off anywhere
// behind the TCP header. The first fragment of a packet counts as a whole one.
func ParseSegment(frame []byte) (Segment, error) {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	transport := packet.TransportLayer()
	// What is wrong behind another transport header does not matter.
	if _, ok := transport.(*layers.TCP); transport != nil && !ok {
		return Segment{}, fmt.Errorf("%w but %v", ErrNotTCP, transport.LayerType())
	}
	if e := packet.ErrorLayer(); e != nil {
		return Segment{}, fmt.Errorf("TCP segment in a frame of %d bytes: %w", len(frame), e.Error())
	}
	tcp, ok := transport.(*layers.TCP)
	if !ok {
		return Segment{}, fmt.Errorf("%w in a frame of %d bytes", ErrNotTCP, len(frame))
	}
	if tcp.RST {
		return Segment{}, ErrIsReset
	}
	var length int
	flow := packet.NetworkLayer().NetworkFlow()
	switch ip := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		length = int(ip.Length)
	case *layers.IPv6:
		length = len(ip.Contents) + int(ip.Length)
	default:
		return Segment{}, fmt.Errorf("TCP over %v", ip.LayerType())
	}
	for _, l := range packet.Layers() {
		switch l.LayerType() {
		case layers.LayerTypeEthernet, gopacket.LayerTypePayload, gopacket.LayerTypeDecodeFailure:
		default:
			length -= len(l.LayerContents())
		}
	}
	if length < 0 {
		return Segment{}, fmt.Errorf("the IP packet is %d bytes shorter than its headers", -length)
	}
	for _, flag := range []bool{tcp.SYN, tcp.FIN} {
		if flag {
			length++
		}
	}
	src, _ := netip.AddrFromSlice(flow.Src().Raw())
	dst, _ := netip.AddrFromSlice(flow.Dst().Raw())
	return Segment{
		Src: netip.AddrPortFrom(src, uint16(tcp.SrcPort)), Dst: netip.AddrPortFrom(dst, uint16(tcp.DstPort)),
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

// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket/layers"
)

// ErrUnanswerable says that nobody may answer the packet: RFC 1122, 3.2.2.1 and
// RFC 4443, 2.4(e) want no storms of errors about errors, about every fragment,
// or from every receiver of one packet, and an answer has to have one receiver.
var ErrUnanswerable = errors.New("the packet is not to be answered")

// Packet is an IP packet that nobody takes.
type Packet struct {
	// Src and Dst are its addresses.
	Src, Dst netip.Addr
	// Protocol is the one above IP and its extension headers.
	Protocol layers.IPProtocol
	// ip is the packet from its IP header on, above what follows the headers of
	// IP, as much as there is of them.
	ip, above []byte
	// aboveLen is how long the IP header says that above is.
	aboveLen int
}

const (
	ethernetLen   = 14
	ipv4MinLen    = 20
	ipv6Len       = 40
	ethernetGroup = 1 // the bit of the first byte of an address
	offsetMask4   = 0x1fff
	offsetMask6   = 0xfff8
)

// ParsePacket reads the IP packet of an Ethernet frame, which may be cut off
// behind the IP headers. A first fragment counts as a whole packet. The error is
// ErrUnanswerable for a packet that nobody may answer, another one for a frame
// that is not as it should be.
func ParsePacket(frame []byte) (Packet, error) {
	if len(frame) < ethernetLen {
		return Packet{}, fmt.Errorf("frame of %d bytes, an Ethernet header has %d", len(frame), ethernetLen)
	}
	if frame[0]&ethernetGroup != 0 {
		return Packet{}, fmt.Errorf("%w: it was sent to a group of stations", ErrUnanswerable)
	}
	var p Packet
	var err error
	switch kind := layers.EthernetType(binary.BigEndian.Uint16(frame[12:])); kind {
	case layers.EthernetTypeIPv4:
		p, err = parseIPv4(frame[ethernetLen:])
	case layers.EthernetTypeIPv6:
		p, err = parseIPv6(frame[ethernetLen:])
	default:
		return Packet{}, fmt.Errorf("frame of type %#04x, not IP", uint16(kind))
	}
	if err == nil {
		err = p.checkAddresses()
	}
	if err == nil {
		err = p.checkError()
	}
	if err != nil {
		return Packet{}, err
	}
	return p, nil
}

// parseIPv4 reads a packet without what pads its frame (RFC 791, 3.1).
func parseIPv4(b []byte) (Packet, error) {
	if len(b) < ipv4MinLen || b[0]>>4 != 4 {
		return Packet{}, fmt.Errorf("no IPv4 header in %d bytes", len(b))
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4MinLen || header > len(b) || header > total {
		return Packet{}, fmt.Errorf("IPv4 header of %d bytes in a packet of %d, of which there are %d", header, total, len(b))
	}
	b = b[:min(total, len(b))]
	if binary.BigEndian.Uint16(b[6:])&offsetMask4 != 0 {
		return Packet{}, fmt.Errorf("%w: it is not the first fragment", ErrUnanswerable)
	}
	return Packet{
		Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20])), Protocol: layers.IPProtocol(b[9]),
		ip: b, above: b[header:], aboveLen: total - header,
	}, nil
}

// parseIPv6 reads a packet without what pads its frame (RFC 8200, 3 and 4).
func parseIPv6(b []byte) (Packet, error) {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return Packet{}, fmt.Errorf("no IPv6 header in %d bytes", len(b))
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	b = b[:min(ipv6Len+length, len(b))]
	p := Packet{Src: netip.AddrFrom16([16]byte(b[8:24])), Dst: netip.AddrFrom16([16]byte(b[24:40])), ip: b}
	next, above := layers.IPProtocol(b[6]), b[ipv6Len:]
	for {
		var n int // the length of the extension header
		switch next {
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6Fragment:
			n = 8
		case layers.IPProtocolAH:
			n = 12
		default:
			p.Protocol, p.above, p.aboveLen = next, above, length
			return p, nil
		}
		if len(above) >= n {
			switch next {
			case layers.IPProtocolAH: // RFC 4302, 2.2: in words, without two
				n = (int(above[1]) + 2) * 4
			case layers.IPProtocolIPv6Fragment:
			default:
				n = (int(above[1]) + 1) * 8
			}
		}
		if n < 8 || n > len(above) {
			return Packet{}, fmt.Errorf("%v header of %d bytes, of which there are %d", next, n, len(above))
		}
		if next == layers.IPProtocolIPv6Fragment && binary.BigEndian.Uint16(above[2:])&offsetMask6 != 0 {
			return Packet{}, fmt.Errorf("%w: it is not the first fragment", ErrUnanswerable)
		}
		next, above, length = layers.IPProtocol(above[0]), above[n:], length-n
	}
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // RFC 1122, 3.2.1.3(b)
	broadcast   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// checkAddresses refuses a source that is no single host, to which an answer
// would go, and a destination that is none, from which it would come.
func (p Packet) checkAddresses() error {
	if !isHost(p.Src) {
		return fmt.Errorf("%w: its source %s is no host", ErrUnanswerable, p.Src)
	}
	if !isHost(p.Dst) {
		return fmt.Errorf("%w: its destination %s is no host", ErrUnanswerable, p.Dst)
	}
	return nil
}

// isHost takes the addresses of class E for those of hosts: clusters that have
// run out of others give them to Pods.
func isHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.Is4In6() && !thisNetwork.Contains(a) && a != broadcast
}

// checkError refuses errors, and what may be one.
func (p Packet) checkError() error {
	v4 := p.Src.Is4()
	if v4 && p.Protocol != layers.IPProtocolICMPv4 || !v4 && p.Protocol != layers.IPProtocolICMPv6 {
		return nil
	}
	if len(p.above) == 0 {
		return fmt.Errorf("%w: nothing says what kind of ICMP message it is", ErrUnanswerable)
	}
	if v4 && isError4(p.above[0]) || !v4 && isError6(p.above[0]) {
		return fmt.Errorf("%w: it is an ICMP error of type %d", ErrUnanswerable, p.above[0])
	}
	return nil
}

// isError4 tells errors by the list of RFC 1122, 3.2.2.
func isError4(kind uint8) bool {
	switch kind {
	case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeSourceQuench, layers.ICMPv4TypeRedirect,
		layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem:
		return true
	}
	return false
}

// isError6 tells errors by their first bit (RFC 4443, 2.1); a redirect is to be
// treated like them.
func isError6(kind uint8) bool { return kind < 128 || kind == layers.ICMPv6TypeRedirect }

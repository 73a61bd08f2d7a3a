// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Hop is how a packet reaches the switch.
type Hop struct {
	InPort   uint32
	Src, Dst net.HardwareAddr
	// TTL is the time to live or hop limit; 0 stands for 64.
	TTL uint8
}

// Packet gives every field that a packet has a value.
type Packet = flow.Match

func ethernet(h Hop, ethType uint16) Packet {
	return Packet{flow.InPort(h.InPort), flow.EthSrc(h.Src), flow.EthDst(h.Dst), flow.EthType(ethType)}
}

// IP is a packet of an IP protocol of which only the addresses count.
func IP(h Hop, src, dst netip.Addr, proto uint8) Packet {
	if h.TTL == 0 {
		h.TTL = 64
	}
	ethType := flow.EthTypeIPv4
	if src.Is6() {
		ethType = flow.EthTypeIPv6
	}
	return append(ethernet(h, ethType),
		flow.IPProto(proto), flow.IPTTL(h.TTL),
		flow.IPSrc(netip.PrefixFrom(src, src.BitLen())), flow.IPDst(netip.PrefixFrom(dst, dst.BitLen())))
}

// TCP is a TCP segment.
func TCP(h Hop, src, dst netip.Addr, srcPort, dstPort uint16) Packet {
	return append(IP(h, src, dst, flow.ProtoTCP),
		flow.Uint(flow.FieldTCPSrc, uint64(srcPort)), flow.Uint(flow.FieldTCPDst, uint64(dstPort)))
}

// UDP is a UDP datagram.
func UDP(h Hop, src, dst netip.Addr, srcPort, dstPort uint16) Packet {
	return append(IP(h, src, dst, flow.ProtoUDP),
		flow.Uint(flow.FieldUDPSrc, uint64(srcPort)), flow.Uint(flow.FieldUDPDst, uint64(dstPort)))
}

// ICMP is an ICMP or ICMPv6 message, by the family of src. Neighbour
// discovery has its own functions.
func ICMP(h Hop, src, dst netip.Addr, kind, code uint8) Packet {
	if src.Is4() {
		return append(IP(h, src, dst, flow.ProtoICMP),
			flow.Uint(flow.FieldICMPType, uint64(kind)), flow.Uint(flow.FieldICMPCode, uint64(code)))
	}
	return append(IP(h, src, dst, flow.ProtoICMPv6),
		flow.ICMPv6Type(kind), flow.Uint(flow.FieldICMPv6Code, uint64(code)))
}

// Echo is a ping.
func Echo(h Hop, src, dst netip.Addr) Packet {
	if src.Is4() {
		return ICMP(h, src, dst, 8, 0)
	}
	return ICMP(h, src, dst, 128, 0)
}

// ARP is an ARP message; op is 1 for a request and 2 for a reply.
func ARP(h Hop, op uint16, sha net.HardwareAddr, spa netip.Addr, tha net.HardwareAddr, tpa netip.Addr) Packet {
	return append(ethernet(h, flow.EthTypeARP),
		flow.ARPOp(op), flow.MAC(flow.FieldARPSHA, sha), flow.Addr(flow.FieldARPSPA, spa),
		flow.MAC(flow.FieldARPTHA, tha), flow.Addr(flow.FieldARPTPA, tpa))
}

// Solicit is a neighbour solicitation (RFC 4861); sll may be nil.
func Solicit(h Hop, src, dst, target netip.Addr, sll net.HardwareAddr) Packet {
	return discovery(h, 135, src, dst, target, flow.FieldNDSLL, sll)
}

// Advertise is a neighbour advertisement (RFC 4861); tll may be nil.
func Advertise(h Hop, src, dst, target netip.Addr, tll net.HardwareAddr) Packet {
	return discovery(h, 136, src, dst, target, flow.FieldNDTLL, tll)
}

func discovery(h Hop, kind uint8, src, dst, target netip.Addr, option flow.Field, mac net.HardwareAddr) Packet {
	if h.TTL == 0 {
		h.TTL = 255
	}
	p := append(ICMP(h, src, dst, kind, 0), flow.Addr(flow.FieldNDTarget, target))
	if mac == nil {
		mac = make(net.HardwareAddr, 6)
	}
	return append(p, flow.MAC(option, mac))
}

// With returns p with further or other values, such as the tunnel it came
// through.
func With(p Packet, values ...flow.FieldMatch) Packet {
	out := make(Packet, 0, len(p)+len(values))
	for _, fm := range p {
		if _, other := Packet(values).Get(fm.Field); !other {
			out = append(out, fm)
		}
	}
	return append(out, values...)
}

// swapped are the fields that trade places in an answer.
var swapped = [][2]flow.Field{
	{flow.FieldIPSrc, flow.FieldIPDst}, {flow.FieldIPv6Src, flow.FieldIPv6Dst},
	{flow.FieldTCPSrc, flow.FieldTCPDst}, {flow.FieldUDPSrc, flow.FieldUDPDst}, {flow.FieldSCTPSrc, flow.FieldSCTPDst},
}

// Ends returns where an IP packet comes from and goes to; what has no ports has
// port 0.
func Ends(p Packet) (src, dst netip.AddrPort) {
	value := func(fields ...flow.Field) []byte {
		for _, f := range fields {
			if m, ok := p.Get(f); ok {
				return m.Value
			}
		}
		return nil
	}
	end := func(addr, port []byte) netip.AddrPort {
		a, _ := netip.AddrFromSlice(addr)
		if len(port) == 0 {
			return netip.AddrPortFrom(a, 0)
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
	}
	return end(value(flow.FieldIPSrc, flow.FieldIPv6Src), value(flow.FieldTCPSrc, flow.FieldUDPSrc, flow.FieldSCTPSrc)),
		end(value(flow.FieldIPDst, flow.FieldIPv6Dst), value(flow.FieldTCPDst, flow.FieldUDPDst, flow.FieldSCTPDst))
}

// Answer is the answer to p as it comes back by h: addresses and ports trade
// places, an echo request becomes a reply.
func Answer(p Packet, h Hop) Packet {
	if h.TTL == 0 {
		h.TTL = 64
	}
	ethType, _ := p.Get(flow.FieldEthType)
	out := Packet{flow.InPort(h.InPort), flow.EthSrc(h.Src), flow.EthDst(h.Dst), ethType, flow.IPTTL(h.TTL)}
	for _, fm := range p {
		switch fm.Field {
		case flow.FieldIPProto, flow.FieldICMPCode, flow.FieldICMPv6Code:
			out = append(out, fm)
		case flow.FieldICMPType:
			out = append(out, flow.Uint(fm.Field, 0))
		case flow.FieldICMPv6Type:
			out = append(out, flow.ICMPv6Type(129))
		}
		for _, pair := range swapped {
			switch fm.Field {
			case pair[0]:
				fm.Field = pair[1]
				out = append(out, fm)
			case pair[1]:
				fm.Field = pair[0]
				out = append(out, fm)
			default:
				continue
			}
			break
		}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"fmt"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// How long an ICMP error is at most, in bytes from the IP header on: RFC 1812,
// 4.3.2.3 and RFC 4443, 2.4(c). Packets of this length get everywhere.
const (
	maxError4 = 576
	maxError6 = 1280
)

// icmpHeaderLen is that of both versions with the word that errors leave unused.
const icmpHeaderLen = 8

// Unreachable returns the frame that tells Src that nobody listens at the port
// of Dst, as if Dst had said so (RFC 792, RFC 4443, 3.1).
func (p Packet) Unreachable() ([]byte, error) {
	var out []byte
	var err error
	if p.Src.Is4() {
		quote := p.ip[:min(len(p.ip), maxError4-ipv4MinLen-icmpHeaderLen)]
		icmp := layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)}
		out, err = frame(p.Dst, p.Src, layers.IPProtocolICMPv4, &icmp, gopacket.Payload(quote))
	} else {
		quote := p.ip[:min(len(p.ip), maxError6-ipv6Len-icmpHeaderLen)]
		icmp := layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable)}
		unused := make(gopacket.Payload, icmpHeaderLen-4)
		out, err = frame(p.Dst, p.Src, layers.IPProtocolICMPv6, &icmp, unused, gopacket.Payload(quote))
	}
	if err != nil {
		return nil, fmt.Errorf("ICMP error from %s to %s: %w", p.Dst, p.Src, err)
	}
	return out, nil
}

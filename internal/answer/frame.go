// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// hopLimit of the packets made here.
const hopLimit = 64

// checksummed is a layer whose checksum covers the addresses.
type checksummed interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

// frame returns an Ethernet frame, whose addresses are left to the switch, with
// an IP packet. No IPv4 packet made here is to be fragmented: it has no number
// (RFC 6864, 4.1).
func frame(src, dst netip.Addr, protocol layers.IPProtocol, above ...gopacket.SerializableLayer) ([]byte, error) {
	ethernet := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	var network gopacket.SerializableLayer
	var pseudo gopacket.NetworkLayer
	if src.Is4() {
		ip := &layers.IPv4{
			Version: 4, TTL: hopLimit, Flags: layers.IPv4DontFragment, Protocol: protocol, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
		}
		network, pseudo = ip, ip
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: hopLimit, NextHeader: protocol, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		network, pseudo = ip, ip
		ethernet.EthernetType = layers.EthernetTypeIPv6
	}
	for _, l := range above {
		if c, ok := l.(checksummed); ok {
			if err := c.SetNetworkLayerForChecksum(pseudo); err != nil {
				return nil, err
			}
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, append([]gopacket.SerializableLayer{ethernet, network}, above...)...); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

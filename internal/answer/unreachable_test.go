// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// serialize lays out a frame with right lengths and checksums.
func serialize(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buffer.Bytes())
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: kind}
}

// ip4 is a frame from host 1 to host 2 whose IPv4 packet holds payload; change,
// which may be nil, gets its header first.
func ip4(t testing.TB, protocol layers.IPProtocol, payload string, change func(*layers.IPv4)) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 9, Protocol: protocol, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
	if change != nil {
		change(ip)
	}
	return serialize(t, ethernet(layers.EthernetTypeIPv4), ip, gopacket.Payload(payload))
}

func ip6(t testing.TB, protocol layers.IPProtocol, payload string, change func(*layers.IPv6)) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: protocol, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
	if change != nil {
		change(ip)
	}
	return serialize(t, ethernet(layers.EthernetTypeIPv6), ip, gopacket.Payload(payload))
}

// sum is what RFC 1071 sums up, 0xffff over anything with its right checksum.
func sum(parts ...[]byte) uint16 {
	var n uint32
	for _, b := range parts {
		if len(b)%2 != 0 {
			b = append(bytes.Clone(b), 0)
		}
		for ; len(b) > 0; b = b[2:] {
			n += uint32(binary.BigEndian.Uint16(b))
		}
	}
	for n>>16 != 0 {
		n = n&0xffff + n>>16
	}
	return uint16(n)
}

// unreachable is an answer, taken apart byte by byte.
type unreachable struct {
	Src, Dst   string
	Protocol   uint8
	Type, Code uint8
	Quote      int
}

func readUnreachable(t *testing.T, out, asked []byte) unreachable {
	t.Helper()
	ip, header, pseudo := out[14:], 20, []byte(nil)
	var u unreachable
	var length int
	if binary.BigEndian.Uint16(out[12:]) == 0x0800 {
		u = unreachable{Src: net.IP(ip[12:16]).String(), Dst: net.IP(ip[16:20]).String(), Protocol: ip[9]}
		length = int(binary.BigEndian.Uint16(ip[2:]))
		if ip[0] != 0x45 || ip[6] != 0x40 || sum(ip[:20]) != 0xffff {
			t.Errorf("IPv4 header %x", ip[:20])
		}
	} else {
		header = 40
		u = unreachable{Src: net.IP(ip[8:24]).String(), Dst: net.IP(ip[24:40]).String(), Protocol: ip[6]}
		length = 40 + int(binary.BigEndian.Uint16(ip[4:]))
		pseudo = binary.BigEndian.AppendUint32(bytes.Clone(ip[8:40]), uint32(length-40))
		pseudo = append(pseudo, 0, 0, 0, ip[6])
	}
	if length != len(ip) {
		t.Errorf("the header says %d bytes, there are %d", length, len(ip))
	}
	icmp := ip[header:]
	if sum(pseudo, icmp) != 0xffff || binary.BigEndian.Uint32(icmp[4:]) != 0 {
		t.Errorf("ICMP header %x, sum %#x", icmp[:8], sum(pseudo, icmp))
	}
	u.Type, u.Code, u.Quote = icmp[0], icmp[1], len(icmp)-8
	if !bytes.HasPrefix(asked[14:], icmp[8:]) {
		t.Errorf("it quotes %x", icmp[8:])
	}
	return u
}

func TestUnreachable(t *testing.T) {
	long := strings.Repeat("x", 1400)
	v4 := unreachable{Src: "10.0.0.2", Dst: "10.0.0.1", Protocol: 1, Type: 3, Code: 3}
	v6 := unreachable{Src: "fd00::2", Dst: "fd00::1", Protocol: 58, Type: 1, Code: 4}
	quoting := func(u unreachable, n int) unreachable { u.Quote = n; return u }
	for _, tc := range []struct {
		name  string
		frame []byte
		want  unreachable
	}{
		{"UDP over IPv4", ip4(t, 17, "12345678data", nil), quoting(v4, 32)},
		{"nothing at all over IPv4", ip4(t, 17, "", nil), quoting(v4, 20)},
		{"padded", append(ip4(t, 17, "12345678", nil), make([]byte, 18)...), quoting(v4, 28)},
		{"long", ip4(t, 17, long, nil), quoting(v4, 548)},
		{"just as long as fits", ip4(t, 17, long[:528], nil), quoting(v4, 548)},
		{"odd", ip4(t, 17, long[:527], nil), quoting(v4, 547)},
		{"cut off", ip4(t, 17, long, nil)[:14+20+8], quoting(v4, 28)},
		{"IPv4 options", ip4(t, 17, "12345678", func(ip *layers.IPv4) {
			ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: make([]byte, 5)}}
		}), quoting(v4, 36)},
		{"from class E", ip4(t, 17, "12345678", func(ip *layers.IPv4) { ip.SrcIP = net.IP{240, 0, 0, 1} }), unreachable{"10.0.0.2", "240.0.0.1", 1, 3, 3, 28}},
		{"SCTP over IPv4", ip4(t, 132, "0123456789ab", nil), quoting(v4, 32)},
		{"an echo request", ip4(t, 1, "\x08\x00567812", nil), quoting(v4, 28)},
		{"a first fragment", ip4(t, 17, "12345678", func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }), quoting(v4, 28)},
		{"UDP over IPv6", ip6(t, 17, "12345678data", nil), quoting(v6, 52)},
		{"padded, IPv6", append(ip6(t, 17, "12345678", nil), 0, 0), quoting(v6, 48)},
		{"long, IPv6", ip6(t, 17, long, nil), quoting(v6, 1232)},
		{"cut off, IPv6", ip6(t, 17, long, nil)[:14+40+9], quoting(v6, 49)},
		{"an echo request, IPv6", ip6(t, 58, "\x80\x00567812", nil), quoting(v6, 48)},
		{"a message of ICMPv4 over IPv6", ip6(t, 1, "\x03\x03567812", nil), quoting(v6, 48)},
		{"nothing above", ip6(t, 59, "12345678", nil), quoting(v6, 48)},
		{"extension headers", ip6(t, 0, "\x2b\x00456789\x33\x01"+strings.Repeat("r", 14)+"\x2c\x02"+strings.Repeat("a", 14)+"\x3c\x00\x00\x01abcd\x11\x00\x01\x04\x00\x00\x00\x00"+"12345678", nil), quoting(v6, 40+8+16+16+8+8+8)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParsePacket(tc.frame)
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.Unreachable()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, readUnreachable(t, out, tc.frame)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if _, err := ParsePacket(out); !errors.Is(err, ErrUnanswerable) {
				t.Errorf("the answer itself: %v", err)
			}
		})
	}
}

func TestParsePacketFindsProtocol(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame []byte
		want  layers.IPProtocol
	}{
		{"TCP over IPv4", ip4(t, 6, "", nil), layers.IPProtocolTCP},
		{"TCP over IPv6", ip6(t, 6, "", nil), layers.IPProtocolTCP},
		{"behind destination options", ip6(t, 60, "\x06\x00\x01\x04\x00\x00\x00\x00", nil), layers.IPProtocolTCP},
		{"what cannot be looked into", ip6(t, 50, "\x06\x00", nil), layers.IPProtocolESP},
	} {
		p, err := ParsePacket(tc.frame)
		if err != nil || p.Protocol != tc.want {
			t.Errorf("%s: %v, %v; want %v", tc.name, p.Protocol, err, tc.want)
		}
	}
}

func TestParsePacketUnanswerable(t *testing.T) {
	from4 := func(a string) []byte {
		return ip4(t, 17, "12345678", func(ip *layers.IPv4) { ip.SrcIP = net.ParseIP(a).To4() })
	}
	from6 := func(a string) []byte {
		ip := netip.MustParseAddr(a).As16()
		return ip6(t, 17, "12345678", func(p *layers.IPv6) { p.SrcIP = ip[:] })
	}
	to4 := func(a string) []byte {
		return ip4(t, 17, "12345678", func(ip *layers.IPv4) { ip.DstIP = net.ParseIP(a).To4() })
	}
	group := ip4(t, 17, "12345678", nil)
	copy(group, "\xff\xff\xff\xff\xff\xff")
	type test struct {
		name  string
		frame []byte
		want  string
	}
	tests := []test{
		{"link-layer broadcast", group, "group of stations"},
		{"later fragment", ip4(t, 17, "12345678", func(ip *layers.IPv4) { ip.FragOffset = 1 }), "not the first fragment"},
		{"middle fragment", ip4(t, 17, "12345678", func(ip *layers.IPv4) { ip.FragOffset, ip.Flags = 0x1fff, layers.IPv4MoreFragments }), "not the first fragment"},
		{"later fragment, IPv6", ip6(t, 44, "\x11\x00\x00\x08\x00\x00\x00\x00", nil), "not the first fragment"},
		{"later fragment behind options", ip6(t, 60, "\x2c\x00\x01\x04\x00\x00\x00\x00\x11\x00\x10\x01\x00\x00\x00\x00", nil), "not the first fragment"},
		{"redirect, IPv6", ip6(t, 58, "\x89\x00567812", nil), "ICMP error of type 137"},
		{"error behind options", ip6(t, 60, "\x3a\x00\x01\x04\x00\x00\x00\x00\x01\x04", nil), "ICMP error of type 1"},
		{"ICMP without a type", ip4(t, 1, "", nil), "what kind"},
		{"ICMPv6 without a type", ip6(t, 58, "\x80", nil)[:54], "what kind"},
	}
	for kind, text := range map[byte]string{3: "type 3", 4: "type 4", 5: "type 5", 11: "type 11", 12: "type 12"} {
		tests = append(tests, test{"ICMP " + text, ip4(t, 1, string([]byte{kind, 0}), nil), "ICMP error of " + text})
	}
	for kind, text := range map[byte]string{0: "type 0", 1: "type 1", 4: "type 4", 127: "type 127"} {
		tests = append(tests, test{"ICMPv6 " + text, ip6(t, 58, string([]byte{kind, 0}), nil), "ICMP error of " + text})
	}
	for _, a := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255"} {
		tests = append(tests, test{"from " + a, from4(a), "its source " + a})
	}
	for _, a := range []string{"::", "::1", "ff02::1", "::ffff:10.0.0.1"} {
		tests = append(tests, test{"from " + a, from6(a), "its source " + a})
	}
	for _, a := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"} {
		tests = append(tests, test{"to " + a, to4(a), "its destination " + a})
	}
	tests = append(tests, test{"to ff02::1", ip6(t, 17, "12345678", func(ip *layers.IPv6) { ip.DstIP = net.ParseIP("ff02::1") }), "its destination ff02::1"})
	for _, tc := range tests {
		if _, err := ParsePacket(tc.frame); !errors.Is(err, ErrUnanswerable) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestParsePacketMalformed(t *testing.T) {
	changed := func(b []byte, at int, to byte) []byte { b[at] = to; return b }
	for _, tc := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"nothing", nil, "frame of 0 bytes"},
		{"ARP", changed(ip4(t, 17, "", nil), 13, 6), "type 0x0806"},
		{"IPv4 header cut", ip4(t, 17, "", nil)[:14+19], "no IPv4 header in 19 bytes"},
		{"another version", changed(ip4(t, 17, "", nil), 14, 0x65), "no IPv4 header"},
		{"header below its least", changed(ip4(t, 17, "", nil), 14, 0x44), "header of 16 bytes"},
		{"header above all", changed(ip4(t, 17, "12345678", nil), 14, 0x4f), "header of 60 bytes"},
		{"length below the header", changed(ip4(t, 17, "12345678", nil), 17, 19), "in a packet of 19"},
		{"IPv6 header cut", ip6(t, 17, "12345678", nil)[:14+39], "no IPv6 header in 39 bytes"},
		{"IPv4 as IPv6", changed(ip6(t, 17, "12345678", nil), 14, 0x45), "no IPv6 header"},
		{"options cut", ip6(t, 60, "\x11\x01345678", nil), "header of 16 bytes, of which there are 8"},
		{"options begin", ip6(t, 0, "\x11", nil), "header of 8 bytes, of which there are 1"},
		{"fragment header cut", ip6(t, 44, "\x11\x00\x00", nil), "of which there are 3"},
		{"AH cut", ip6(t, 51, "\x11\x0112345678", nil), "header of 12 bytes, of which there are 10"},
	} {
		if _, err := ParsePacket(tc.frame); err == nil || errors.Is(err, ErrUnanswerable) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

func FuzzParsePacket(f *testing.F) {
	for _, payload := range []string{"", "12345678", "\x03\x03567812", "\x3a\x00\x01\x04\x00\x00\x00\x00\x01\x04", strings.Repeat("x", 1400)} {
		for _, protocol := range []layers.IPProtocol{0, 1, 6, 17, 43, 44, 51, 58, 60} {
			f.Add(ip4(f, protocol, payload, nil))
			if payload != "" {
				f.Add(ip6(f, protocol, payload, nil))
			}
		}
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePacket(b)
		if err != nil {
			return
		}
		out, err := p.Unreachable()
		if err != nil {
			t.Fatal(err)
		}
		limit := 14 + maxError4
		if p.Src.Is6() {
			limit = 14 + maxError6
		}
		if len(out) > limit {
			t.Errorf("an answer of %d bytes", len(out))
		}
		u := readUnreachable(t, out, b)
		if u.Src != net.IP(p.Dst.AsSlice()).String() || u.Dst != net.IP(p.Src.AsSlice()).String() || u.Quote == 0 {
			t.Errorf("answer %+v to %s > %s", u, p.Src, p.Dst)
		}
	})
}

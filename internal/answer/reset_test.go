// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// segment is a frame from port 1111 of host 1 to port 80 of host 2.
func segment(t testing.TB, v6 bool, tcp layers.TCP, payload string) []byte {
	t.Helper()
	tcp.SrcPort, tcp.DstPort = 1111, 80
	kind := layers.EthernetTypeIPv4
	var network gopacket.SerializableLayer
	var pseudo gopacket.NetworkLayer
	if v6 {
		ip := &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		network, pseudo, kind = ip, ip, layers.EthernetTypeIPv6
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 9, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
		network, pseudo = ip, ip
	}
	if err := tcp.SetNetworkLayerForChecksum(pseudo); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ethernet(kind), network, &tcp, gopacket.Payload(payload))
}

// segmentOf reads the segment of a frame.
func segmentOf(frame []byte) (Segment, error) {
	p, err := ParsePacket(frame)
	if err != nil {
		return Segment{}, err
	}
	return p.Segment()
}

// reset is what the tests look at in a frame.
type reset struct {
	Src, Dst string
	Seq, Ack uint32
	Flags    string
}

func read(t *testing.T, frame []byte, err error) reset {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := packet.ErrorLayer(); e != nil {
		t.Fatal(e.Error())
	}
	tcp := packet.TransportLayer().(*layers.TCP)
	if err := tcp.SetNetworkLayerForChecksum(packet.NetworkLayer()); err != nil {
		t.Fatal(err)
	}
	for _, l := range packet.Layers() {
		if c, ok := l.(gopacket.LayerWithChecksum); ok {
			if err, sum := c.VerifyChecksum(); err != nil || !sum.Valid {
				t.Errorf("checksum of %v is wrong: %v", l.LayerType(), err)
			}
		}
	}
	var flags []string
	for _, f := range []struct {
		on   bool
		name string
	}{{tcp.RST, "RST"}, {tcp.ACK, "ACK"}, {tcp.SYN || tcp.FIN || tcp.PSH, "others"}} {
		if f.on {
			flags = append(flags, f.name)
		}
	}
	flow := packet.NetworkLayer().NetworkFlow()
	return reset{
		Src: net.JoinHostPort(flow.Src().String(), packet.TransportLayer().TransportFlow().Src().String()),
		Dst: net.JoinHostPort(flow.Dst().String(), packet.TransportLayer().TransportFlow().Dst().String()),
		Seq: tcp.Seq, Ack: tcp.Ack, Flags: strings.Join(flags, ","),
	}
}

func TestResets(t *testing.T) {
	for _, tc := range []struct {
		name                 string
		tcp                  layers.TCP
		payload              string
		toSender, toReceiver reset
	}{
		{"data", layers.TCP{ACK: true, PSH: true, Seq: 1000, Ack: 77}, "twenty bytes of data",
			reset{Seq: 77, Ack: 1020, Flags: "RST,ACK"}, reset{Seq: 1000, Ack: 77, Flags: "RST,ACK"}},
		{"nothing but an acknowledgement", layers.TCP{ACK: true, Seq: 1000, Ack: 77}, "",
			reset{Seq: 77, Ack: 1000, Flags: "RST,ACK"}, reset{Seq: 1000, Ack: 77, Flags: "RST,ACK"}},
		{"the end, past the end of the numbers", layers.TCP{ACK: true, FIN: true, Seq: 0xffffffff, Ack: 77}, "ab",
			reset{Seq: 77, Ack: 2, Flags: "RST,ACK"}, reset{Seq: 0xffffffff, Ack: 77, Flags: "RST,ACK"}},
		{"the beginning", layers.TCP{SYN: true, Seq: 1000}, "",
			reset{Ack: 1001, Flags: "RST,ACK"}, reset{Seq: 1000, Flags: "RST"}},
		{"with options", layers.TCP{ACK: true, Seq: 5, Ack: 6, Options: []layers.TCPOption{{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}}, "abc",
			reset{Seq: 6, Ack: 8, Flags: "RST,ACK"}, reset{Seq: 5, Ack: 6, Flags: "RST,ACK"}},
	} {
		for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
			t.Run(tc.name+" over "+name, func(t *testing.T) {
				client, server := "10.0.0.1:1111", "10.0.0.2:80"
				if v6 {
					client, server = "[fd00::1]:1111", "[fd00::2]:80"
				}
				whole := segment(t, v6, tc.tcp, tc.payload)
				for _, frame := range [][]byte{whole, whole[:len(whole)-len(tc.payload)]} {
					s, err := segmentOf(frame)
					if err != nil {
						t.Fatal(err)
					}
					tc.toSender.Src, tc.toSender.Dst = server, client
					tc.toReceiver.Src, tc.toReceiver.Dst = client, server
					made, err := s.ToSender()
					if d := cmp.Diff(tc.toSender, read(t, made, err)); d != "" {
						t.Errorf("to the sender (-want +got):\n%s", d)
					}
					made, err = s.ToReceiver()
					if d := cmp.Diff(tc.toReceiver, read(t, made, err)); d != "" {
						t.Errorf("to the receiver (-want +got):\n%s", d)
					}
				}
			})
		}
	}
}

// TestSegmentBehindOthers: what stands between the headers of IP and TCP is not
// of the segment, and a first fragment has one.
func TestSegmentBehindOthers(t *testing.T) {
	header := segment(t, false, layers.TCP{ACK: true, Seq: 1000, Ack: 77}, "twenty bytes of data")[34:]
	for name, frame := range map[string][]byte{
		"first fragment":       ip4(t, 6, string(header), func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }),
		"first fragment, IPv6": ip6(t, 44, "\x06\x00\x00\x01\x00\x00\x00\x00"+string(header), nil),
		"padded":               append(ip4(t, 6, string(header), nil), 0, 0),
		"behind options":       ip6(t, 0, "\x3c\x00\x01\x04\x00\x00\x00\x00\x06\x00\x01\x04\x00\x00\x00\x00"+string(header), nil),
	} {
		s, err := segmentOf(frame)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		made, err := s.ToSender()
		if got := read(t, made, err); got.Seq != 77 || got.Ack != 1020 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestSegmentRefuses(t *testing.T) {
	whole := segment(t, false, layers.TCP{ACK: true}, "data")
	if _, err := segmentOf(segment(t, false, layers.TCP{RST: true}, "")); !errors.Is(err, ErrIsReset) {
		t.Errorf("a reset: %v", err)
	}
	short := append([]byte(nil), whole...)
	short[17] = 30 // the length of the IP packet
	udp := append([]byte(nil), whole...)
	udp[23] = 17
	if _, err := segmentOf(udp); !errors.Is(err, ErrNotTCP) {
		t.Errorf("UDP: %v", err)
	}
	for name, frame := range map[string][]byte{"nothing": nil, "no TCP header": whole[:14+20+10], "headers only claimed": short, "UDP": udp} {
		if s, err := segmentOf(frame); err == nil {
			t.Errorf("%s: no error, but %+v", name, s)
		}
	}
}

func FuzzSegment(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		f.Add(segment(f, v6, layers.TCP{ACK: true, Seq: 1, Ack: 2}, "data"))
		f.Add(segment(f, v6, layers.TCP{SYN: true, Seq: 1}, ""))
		f.Add(segment(f, v6, layers.TCP{RST: true, Seq: 1}, ""))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		s, err := segmentOf(frame)
		if err != nil {
			return
		}
		for _, make := range []func() ([]byte, error){s.ToSender, s.ToReceiver} {
			out, err := make()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := segmentOf(out); !errors.Is(err, ErrIsReset) {
				t.Errorf("not a reset: %v", err)
			}
		}
	})
}

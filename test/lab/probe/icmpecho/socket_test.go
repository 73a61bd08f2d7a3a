// SPDX-License-Identifier: Apache-2.0

package icmpecho

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

func TestLoopback(t *testing.T) {
	for _, test := range []struct {
		name   string
		family int
		to     string
		size   int
	}{
		{"IPv4", 4, "127.0.0.1", 56},
		{"IPv6", 6, "::1", 56},
		{"large", 4, "127.0.0.1", 60000},
		{"smallest", 6, "::1", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket, err := Open(Params{Family: test.family})
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			to := netip.MustParseAddr(test.to)
			for seq := range uint64(3) {
				if err := socket.Send(to, seq+65535, test.size); err != nil {
					t.Fatal(err)
				}
				reply, err := socket.Read(time.Now().Add(5 * time.Second))
				if err != nil {
					t.Fatal(err)
				}
				if reply.Seq != seq+65535 || reply.From != to || reply.At.Before(reply.Sent) {
					t.Errorf("reply %+v", reply)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	payload := make([]byte, 40)
	binary.BigEndian.PutUint64(payload, 7)
	message := icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: 1, Seq: 2, Data: payload}}
	packet, err := message.Marshal(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet, false)
	f.Add([]byte{129, 0}, true)
	f.Fuzz(func(t *testing.T, packet []byte, v6 bool) {
		s := &Socket{family: 4, nonce: 7}
		if v6 {
			s.family = 6
		}
		s.parse(packet)
	})
}

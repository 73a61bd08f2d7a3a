// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"strings"
	"testing"
)

func TestConnectionChooses(t *testing.T) {
	end := netip.MustParseAddrPort
	entry := Connection{
		Zone: 7, Protocol: ProtoTCP,
		Original: Tuple{end("10.0.0.1:1000"), end("10.96.0.1:80")},
		Reply:    Tuple{end("10.0.0.9:8080"), end("10.0.0.1:1000")},
	}
	for _, tc := range []struct {
		name   string
		change func(c *Connection)
		want   bool
	}{
		{"zone alone", func(*Connection) {}, true},
		{"another zone", func(c *Connection) { c.Zone = 0 }, false},
		{"protocol", func(c *Connection) { c.Protocol = ProtoTCP }, true},
		{"another protocol", func(c *Connection) { c.Protocol = ProtoUDP }, false},
		{"destination", func(c *Connection) { c.Original.Dst = entry.Original.Dst }, true},
		{"another port", func(c *Connection) { c.Original.Dst = end("10.96.0.1:81") }, false},
		{"any port", func(c *Connection) { c.Original.Dst = end("10.96.0.1:0") }, true},
		{"another address", func(c *Connection) { c.Original.Dst = end("10.96.0.2:0") }, false},
		{"port alone", func(c *Connection) { c.Reply.Src = netip.AddrPortFrom(netip.Addr{}, 8080) }, true},
		{"endpoint", func(c *Connection) { c.Reply.Src = end("10.0.0.9:8080") }, true},
		{"another endpoint", func(c *Connection) { c.Reply.Src = end("10.0.0.8:8080") }, false},
		{"client", func(c *Connection) { c.Original.Src = entry.Original.Src }, true},
		{"another client", func(c *Connection) { c.Reply.Dst = end("10.0.0.2:1000") }, false},
		{"itself", func(c *Connection) { *c = entry }, true},
	} {
		c := Connection{Zone: 7}
		tc.change(&c)
		if got := c.Chooses(entry); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestConnectionCheck(t *testing.T) {
	end := netip.MustParseAddrPort
	for _, tc := range []struct {
		c    Connection
		want string
	}{
		{Connection{}, ""},
		{Connection{Zone: 5, Protocol: ProtoTCP, Original: Tuple{Dst: end("10.0.0.1:0")}}, ""},
		{Connection{Zone: 5, Protocol: 89, Original: Tuple{Dst: end("10.0.0.1:0")}}, ""},
		{Connection{Protocol: ProtoICMP}, "ICMP cannot be chosen"},
		{Connection{Protocol: ProtoICMPv6}, "ICMP cannot be chosen"},
		{Connection{Protocol: ProtoSCTP, Reply: Tuple{Src: end("[fd00::1]:5")}}, ""},
		{Connection{Original: Tuple{Dst: end("10.0.0.1:80")}}, "protocol 0 has no ports"},
		{Connection{Protocol: 89, Original: Tuple{Dst: end("10.0.0.1:80")}}, "protocol 89 has no ports"},
		{Connection{Original: Tuple{Dst: end("10.0.0.1:0")}, Reply: Tuple{Src: end("[fd00::1]:0")}}, "two families"},
		{Connection{Original: Tuple{Dst: end("[fe80::1%eth0]:0")}}, "not an address of a packet"},
		{Connection{Original: Tuple{Dst: end("[::ffff:10.0.0.1]:0")}}, "not an address of a packet"},
	} {
		err := tc.c.Check()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%v: %v, want %q", tc.c, err, tc.want)
		}
	}
	c := Connection{Zone: 7, Protocol: ProtoUDP, Original: Tuple{Dst: end("10.0.0.1:53")}}
	if want := "zone 7, protocol 17, any->10.0.0.1:53, answers any->any"; c.String() != want {
		t.Errorf("text %q, want %q", c, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openflow_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

// balancing translates the destination in zone 7 and then the source in zone 8.
const balancing = `table=0, priority=1,ip,nw_dst=10.0.1.1 actions=ct(commit,table=1,zone=7,nat(dst=10.0.0.9:80))
table=0, priority=1,ip,nw_dst=10.0.1.2 actions=ct(commit,table=1,zone=7,nat(dst=10.0.0.8:80))
table=0, priority=1,ip,nw_dst=10.0.1.3 actions=ct(commit,table=1,zone=7)
table=0, priority=1,ipv6 actions=ct(commit,table=1,zone=9,nat(dst=[fd00::9]:80))
table=1, priority=1,ip actions=ct(commit,table=2,zone=8,nat(src=10.0.0.77))
table=1, priority=1,ipv6 actions=output:2
table=2, priority=1,ip actions=output:2`

// firstPacket is the first of a connection to a frontend, by its name.
var firstPackets = map[string]string{
	"a": "tcp 10.0.0.1:1001 10.0.1.1:80", "b": "tcp 10.0.0.1:1002 10.0.1.1:81", "c": "udp 10.0.0.1:1003 10.0.1.1:80",
	"d": "tcp 10.0.0.2:1004 10.0.1.2:80", "e": "tcp 10.0.0.2:1005 10.0.1.1:80", "f": "icmp 10.0.0.1:0 10.0.1.3:0",
	"g": "tcp [fd00::1]:1007 [fd00:1::1]:80", "h": "udp [fd00::1]:1008 [fd00:1::1]:80",
}

func protocolOf(name string) uint8 {
	return map[string]uint8{"tcp": flow.ProtoTCP, "udp": flow.ProtoUDP, "icmp": flow.ProtoICMP}[name]
}

// receive has a packet come in by a port of a dummy switch.
func receive(o *ovstest.OVS, port, protocol string, src, dst netip.AddrPort) {
	l3 := fmt.Sprintf("eth_type(0x0800),ipv4(src=%s,dst=%s,proto=%d,tos=0,ttl=64,frag=no)", src.Addr(), dst.Addr(), protocolOf(protocol))
	if src.Addr().Is6() {
		l3 = fmt.Sprintf("eth_type(0x86dd),ipv6(src=%s,dst=%s,label=0,proto=%d,tclass=0,hlimit=64,frag=no)", src.Addr(), dst.Addr(), protocolOf(protocol))
	}
	l4 := fmt.Sprintf("%s(src=%d,dst=%d)", protocol, src.Port(), dst.Port())
	switch protocol {
	case "tcp":
		l4 += ",tcp_flags(syn)"
	case "icmp":
		l4 = "icmp(type=8,code=0)"
	}
	o.Appctl("netdev-dummy/receive", port, "in_port(1),eth(src=0a:00:00:00:00:01,dst=0a:00:00:00:00:02),"+l3+","+l4)
}

// tracked are the connections in the switch that firstPackets made, each as its
// name and zone.
func tracked(o *ovstest.OVS) []string {
	var out []string
	for line := range strings.Lines(o.Appctl("dpctl/dump-conntrack")) {
		for name, p := range firstPackets {
			words := strings.Fields(p)
			sport := fmt.Sprintf("sport=%d,", netip.MustParseAddrPort(words[1]).Port())
			if strings.HasPrefix(line, words[0]) && (words[0] == "icmp" || strings.Contains(line, sport)) {
				_, zone, _ := strings.Cut(line, ",zone=")
				out = append(out, name+zone[:1])
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestForgetConnections(t *testing.T) {
	t.Parallel()
	o := startPorts(t)
	target, _ := start(t, o, time.Hour)
	update(t, target, "balancing", parse(t, strings.Split(balancing, "\n")...))
	syncAll(t, target)
	end := netip.MustParseAddrPort
	all := []string{"a7", "a8", "b7", "b8", "c7", "c8", "d7", "d8", "e7", "e8", "f7", "f8", "g9", "h9"}
	for _, tc := range []struct {
		name   string
		forget []flow.Connection
		gone   string
	}{
		{"a frontend", []flow.Connection{{Zone: 7, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.1.1:80")}}}, "a7 e7"},
		{"a frontend, UDP", []flow.Connection{{Zone: 7, Protocol: 17, Original: flow.Tuple{Dst: end("10.0.1.1:80")}}}, "c7"},
		{"an address, any port", []flow.Connection{{Zone: 7, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.1.1:0")}}}, "a7 b7 e7"},
		{"an address, any protocol", []flow.Connection{{Zone: 7, Original: flow.Tuple{Dst: end("10.0.1.1:0")}}}, "a7 b7 c7 e7"},
		{"an endpoint", []flow.Connection{{Zone: 7, Protocol: 6, Reply: flow.Tuple{Src: end("10.0.0.9:80")}}}, "a7 b7 e7"},
		{"an endpoint of a frontend", []flow.Connection{{Zone: 7, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.1.1:80")}, Reply: flow.Tuple{Src: end("10.0.0.9:80")}}}, "a7 e7"},
		{"not an endpoint of it", []flow.Connection{{Zone: 7, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.1.1:80")}, Reply: flow.Tuple{Src: end("10.0.0.8:80")}}}, ""},
		{"the translated half in its zone", []flow.Connection{{Zone: 8, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.0.8:80")}}}, "d8"},
		{"one, wholly named", []flow.Connection{{Zone: 7, Protocol: 6, Original: flow.Tuple{Src: end("10.0.0.1:1001"), Dst: end("10.0.1.1:80")}}}, "a7"},
		{"a client", []flow.Connection{{Zone: 7, Original: flow.Tuple{Src: end("10.0.0.2:0")}}}, "d7 e7"},
		{"an address, ICMP too", []flow.Connection{{Zone: 7, Original: flow.Tuple{Dst: end("10.0.1.3:0")}}}, "f7"},
		{"IPv6", []flow.Connection{{Zone: 9, Protocol: 6, Original: flow.Tuple{Dst: end("[fd00:1::1]:80")}, Reply: flow.Tuple{Src: end("[fd00::9]:80")}}}, "g9"},
		{"another zone", []flow.Connection{{Zone: 6, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.1.1:80")}}}, ""},
		{"several", []flow.Connection{
			{Zone: 7, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.1.2:80")}},
			{Zone: 3, Protocol: 6, Original: flow.Tuple{Dst: end("10.0.1.2:80")}},
			{Zone: 9, Protocol: 17, Reply: flow.Tuple{Src: end("[fd00::9]:80")}},
		}, "d7 h9"},
		{"a whole zone", []flow.Connection{{Zone: 8}}, "a8 b8 c8 d8 e8 f8"},
		{"none", nil, ""},
	} {
		o.Appctl("dpctl/flush-conntrack")
		for _, p := range firstPackets {
			words := strings.Fields(p)
			receive(o, "p1", words[0], end(words[1]), end(words[2]))
		}
		eventually(t, "connections", func() bool { return len(tracked(o)) == len(all) })
		if err := target.ForgetConnections(deadline(t), tc.forget); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		gone := strings.Fields(tc.gone)
		want := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(gone, s) })
		if diff := cmp.Diff(want, tracked(o)); diff != "" {
			t.Errorf("%s (-want +left):\n%s", tc.name, diff)
		}
	}
	err := target.ForgetConnections(deadline(t), []flow.Connection{{Original: flow.Tuple{Dst: end("10.0.1.1:80")}}})
	if err == nil || errors.Is(err, openflow.ErrRefused) {
		t.Errorf("a port of no protocol: %v", err)
	}
}

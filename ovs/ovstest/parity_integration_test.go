// SPDX-License-Identifier: Apache-2.0

//go:build integration

package ovstest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// receive has a packet come in by its port of a dummy switch.
func (o *OVS) receive(t *testing.T, p Packet) {
	t.Helper()
	s := newState(p)
	proto := uint8(s.uint(flow.FieldIPProto))
	addr := func(f flow.Field) netip.Addr { a, _ := netip.AddrFromSlice(s.get(f)); return a }
	l3 := fmt.Sprintf("eth_type(0x0800),ipv4(src=%s,dst=%s,proto=%d,tos=0,ttl=64,frag=no)", addr(flow.FieldIPSrc), addr(flow.FieldIPDst), proto)
	if s.uint(flow.FieldEthType) == uint64(flow.EthTypeIPv6) {
		l3 = fmt.Sprintf("eth_type(0x86dd),ipv6(src=%s,dst=%s,label=0,proto=%d,tclass=0,hlimit=64,frag=no)", addr(flow.FieldIPv6Src), addr(flow.FieldIPv6Dst), proto)
	}
	name, flags := "udp", ""
	if proto == flow.ProtoTCP {
		name, flags = "tcp", ",tcp_flags(syn)"
		if s.uint(flow.FieldTCPFlags) != 0 {
			flags = ",tcp_flags(syn|ack)"
		}
	}
	ports := portFields[proto]
	port := s.uint(flow.FieldInPort)
	o.Appctl("netdev-dummy/receive", fmt.Sprintf("p%d", port), fmt.Sprintf("in_port(%d),eth(src=0a:00:00:00:00:01,dst=0a:00:00:00:00:02),%s,%s(src=%d,dst=%d)%s",
		port, l3, name, s.uint(ports[0]), s.uint(ports[1]), flags))
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestLearningAgreesWithOVS: what real packets teach a real switch, and where it
// then sends others. ofproto/trace itself teaches nothing.
func TestLearningAgreesWithOVS(t *testing.T) {
	t.Parallel()
	o := withPorts(t, 3, parseFlows(t, learning))
	for _, step := range learningSteps {
		p := packetOf(t, step.packet)
		if got, trace := o.Trace("br-int", p); got != step.want {
			t.Errorf("%s: %s, want %s\n%s", step.packet, got, step.want, trace)
		}
		o.receive(t, p)
		learned := func() string {
			var b strings.Builder
			for _, f := range o.Flows("br-int") {
				if f.Table == 63 {
					f.Cookie = 0
					b.WriteString(f.String() + "\n")
				}
			}
			return b.String()
		}
		eventually(t, "the switch to learn", func() bool { return strings.Count(learned(), "\n") == strings.Count(step.learned, "\n") })
		if diff := cmp.Diff(step.learned, learned()); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.packet, diff)
		}
	}
}

// TestTranslationAgreesWithOVS compares the connection tables after the same
// packets.
func TestTranslationAgreesWithOVS(t *testing.T) {
	t.Parallel()
	flows := parseFlows(t, bothWays)
	o := withPorts(t, 3, flows)
	sw := filled(t, flows, bothWaysTables...)
	for _, tc := range bothWaysPackets {
		p := ctPacket(t, tc.in)
		if tc.name == "answer" {
			p = With(p, flow.Uint(flow.FieldTCPFlags, uint64(flow.TCPSyn|flow.TCPAck)))
		}
		want := leaves(t, sw, tc.name, tc.in)
		out := "p2"
		if strings.HasPrefix(tc.in, "in_port=2") {
			out = "p1"
		}
		before := o.sent(out)
		o.receive(t, p)
		if want != "" {
			eventually(t, tc.name+" to leave by "+out, func() bool { return o.sent(out) != before })
		}
		if diff := cmp.Diff(inWords(sw.Connections()), o.tracked(t)); diff != "" {
			t.Errorf("after %s, connections (-fake +switch):\n%s", tc.name, diff)
		}
	}
}

// sent is the counter of what a port has sent.
func (o *OVS) sent(port string) string {
	_, tx, _ := strings.Cut(o.Ofctl("dump-ports", o.Socket("br-int"), port), "tx ")
	return tx
}

func inWords(connections []Connection) []string {
	var out []string
	for _, c := range connections {
		name := "udp"
		if c.Proto == flow.ProtoTCP {
			name = "tcp"
		}
		out = append(out, fmt.Sprintf("%s,orig=(src=%s,dst=%s,sport=%d,dport=%d),reply=(src=%s,dst=%s,sport=%d,dport=%d),zone=%d",
			name, c.Src.Addr(), c.Dst.Addr(), c.Src.Port(), c.Dst.Port(),
			c.Reply.Src.Addr(), c.Reply.Dst.Addr(), c.Reply.Src.Port(), c.Reply.Dst.Port(), c.Zone))
	}
	slices.Sort(out)
	return out
}

// tracked is the connection table of the switch without the states of TCP.
func (o *OVS) tracked(t *testing.T) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(o.Appctl("dpctl/dump-conntrack")) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), ",protoinfo=")
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

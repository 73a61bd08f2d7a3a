// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// TestTraceNAT: a connection gets another destination; its later packets and
// answers are translated, also when the packet is committed a second time.
func TestTraceNAT(t *testing.T) {
	sw := filled(t, parseFlows(t, `
table=0, priority=1,tcp actions=ct(table=1,zone=7)
table=1, priority=2,ct_state=+new+trk,ct_mark=0,tcp,nw_dst=9.9.9.9 actions=ct(commit,table=2,zone=7,nat(dst=2.2.2.2:8080),exec(set_field:1->ct_mark))
table=1, priority=1,ct_mark=1,tcp actions=ct(table=2,zone=7,nat)
table=2, priority=2,ct_state=+new+trk,tcp actions=ct(commit,zone=7,exec(set_field:5->ct_label)),output:2
table=2, priority=1,tcp actions=output:3`), 0, 1, 2)
	for _, tc := range []struct{ name, packet, want string }{
		{"first", "nw_src=1.1.1.1,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.1,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
		{"again", "nw_src=1.1.1.1,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.1,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
		{"answer", "nw_src=2.2.2.2,nw_dst=1.1.1.1,tp_src=8080,tp_dst=1000", "nw_src=9.9.9.9,nw_dst=1.1.1.1,tp_src=80,tp_dst=1000"},
		{"established", "nw_src=1.1.1.1,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.1,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
		{"another client", "nw_src=1.1.1.2,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.2,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
	} {
		v := sw.Trace(packetOf(t, "tcp,"+tc.packet))
		if len(v.Outputs) != 1 {
			t.Errorf("%s: %v, met\n%s", tc.name, v, v.Met())
			continue
		}
		out := v.Outputs[0].Packet.String() + ","
		for want := range strings.SplitSeq(tc.want, ",") {
			if !strings.Contains(out, want+",") {
				t.Errorf("%s: %s is not in %s", tc.name, want, out)
			}
		}
	}
	if got := sw.Connections(); len(got) != 2 || !got[0].Answered || got[0].Mark != 1 || got[0].Label[15] != 5 {
		t.Errorf("connections: %+v", got)
	}
	// A connection that would get the answers of another is refused.
	if v := sw.Trace(packetOf(t, "tcp,nw_src=1.1.1.1,nw_dst=9.9.9.9,tcp_src=1000,tcp_dst=81")); v.String() != "drop" {
		t.Errorf("clash: %v", v)
	}
}

// bothWays translates the destination of what comes by port 1 in zone 7 and then
// its source in zone 8, and undoes it for what comes by port 2.
const bothWays = `
table=0, priority=1,ip,in_port=1 actions=ct(table=1,zone=7,nat)
table=1, priority=3,ct_state=+est+trk,ip actions=goto_table:2
table=1, priority=2,ct_state=+new+trk,tcp,nw_dst=10.9.0.1 actions=ct(commit,table=2,zone=7,nat(dst=10.0.0.2:8080))
table=1, priority=2,ct_state=+new+trk,udp,nw_dst=10.9.0.1 actions=ct(commit,table=2,zone=7,nat(dst=10.0.0.2:53))
table=1, priority=2,ct_state=+new+trk,icmp,nw_dst=10.9.0.1 actions=ct(commit,table=2,zone=7,nat(dst=10.0.0.2))
table=2, priority=1,ip actions=ct(table=3,zone=8,nat)
table=3, priority=2,ct_state=+new+trk,ip actions=ct(commit,table=4,zone=8,nat(src=10.0.0.77))
table=3, priority=1,ip actions=goto_table:4
table=4, priority=2,ct_state=+snat+trk,ip actions=output:2
table=4, priority=1,ip actions=output:3
table=0, priority=2,ip,in_port=2,nw_dst=10.0.0.77 actions=ct(table=10,zone=8,nat)
table=10, priority=2,ct_state=+rpl+trk+dnat,ip actions=ct(table=11,zone=7,nat)
table=11, priority=2,ct_state=+rpl+trk+snat,ip actions=output:1
`

var bothWaysTables = []uint8{0, 1, 2, 3, 4, 10, 11}

// The packets that bothWays translates: what of a client comes by port 1, and
// the answer that comes by port 2.
var bothWaysPackets = []struct {
	name, in, out string
}{
	{"first", "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.9.0.1,tcp_src=1000,tcp_dst=80", "in_port=1,nw_src=10.0.0.77,nw_dst=10.0.0.2,tp_src=1000,tp_dst=8080"},
	{"answer", "in_port=2,tcp,nw_src=10.0.0.2,nw_dst=10.0.0.77,tcp_src=8080,tcp_dst=1000", "in_port=2,nw_src=10.9.0.1,nw_dst=10.0.0.1,tp_src=80,tp_dst=1000"},
	{"second", "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.9.0.1,tcp_src=1000,tcp_dst=80", "in_port=1,nw_src=10.0.0.77,nw_dst=10.0.0.2,tp_src=1000,tp_dst=8080"},
	{"another port", "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.9.0.1,tcp_src=1001,tcp_dst=80", "in_port=1,nw_src=10.0.0.77,nw_dst=10.0.0.2,tp_src=1001,tp_dst=8080"},
	{"another protocol", "in_port=1,udp,nw_src=10.0.0.1,nw_dst=10.9.0.1,udp_src=1000,udp_dst=53", "in_port=1,nw_src=10.0.0.77,nw_dst=10.0.0.2,tp_src=1000,tp_dst=53"},
	{"its answer", "in_port=2,udp,nw_src=10.0.0.2,nw_dst=10.0.0.77,udp_src=53,udp_dst=1000", "in_port=2,nw_src=10.9.0.1,nw_dst=10.0.0.1,tp_src=53,tp_dst=1000"},
	{"answer to nothing", "in_port=2,udp,nw_src=10.0.0.2,nw_dst=10.0.0.77,udp_src=54,udp_dst=1000", ""},
}

func ctPacket(t testing.TB, text string) Packet {
	t.Helper()
	f, err := flow.ParseFlow(text + " actions=drop")
	if err != nil {
		t.Fatal(err)
	}
	return f.Match
}

// leaves is the packet that leaves, empty when none does.
func leaves(t *testing.T, sw *Switch, name, in string) string {
	t.Helper()
	v := sw.Trace(ctPacket(t, in))
	if v.Err != nil || len(v.Outputs) > 1 {
		t.Fatalf("%s: %v, met\n%s", name, v, v.Met())
	}
	if len(v.Outputs) == 0 {
		return ""
	}
	return v.Outputs[0].Packet.String()
}

func TestTraceNATInTwoZones(t *testing.T) {
	sw := filled(t, parseFlows(t, bothWays), bothWaysTables...)
	for _, tc := range bothWaysPackets {
		got := leaves(t, sw, tc.name, tc.in)
		if tc.out == "" && got != "" {
			t.Errorf("%s leaves: %s", tc.name, got)
		}
		for _, want := range strings.Split(tc.out, ",") {
			if !slices.Contains(append(strings.Split(got, ","), ""), want) {
				t.Errorf("%s: %s is not in %s", tc.name, want, got)
			}
		}
	}
	end := netip.MustParseAddrPort
	udp := func(c flow.Connection) []flow.Connection { c.Protocol = flow.ProtoUDP; return []flow.Connection{c} }
	for _, tc := range []struct {
		name   string
		forget []flow.Connection
		left   int
	}{
		{"another endpoint", udp(flow.Connection{Zone: 7, Reply: flow.Tuple{Src: end("10.0.0.2:8080")}}), 6},
		{"one in one zone", udp(flow.Connection{Zone: 7, Original: flow.Tuple{Dst: end("10.9.0.1:53")}}), 5},
		{"an endpoint", []flow.Connection{{Zone: 7, Reply: flow.Tuple{Src: end("10.0.0.2:0")}}}, 3},
		{"the other zone", []flow.Connection{{Zone: 8}}, 0},
	} {
		if err := sw.ForgetConnections(t.Context(), tc.forget); err != nil {
			t.Fatal(err)
		}
		if got := sw.Connections(); len(got) != tc.left {
			t.Errorf("%s: %d are left, want %d: %+v", tc.name, len(got), tc.left, got)
		}
	}
	if err := sw.ForgetConnections(t.Context(), []flow.Connection{{Protocol: flow.ProtoICMP}}); err == nil {
		t.Error("ICMP is forgotten, which a switch cannot")
	}
	fault := errors.New("broken")
	sw.Fail(fault)
	if err := sw.ForgetConnections(t.Context(), nil); !errors.Is(err, fault) {
		t.Errorf("error %v", err)
	}
}

// TestTraceSNATFindsPort: two clients with the same port cannot both keep it.
func TestTraceSNATFindsPort(t *testing.T) {
	sw := filled(t, parseFlows(t, bothWays), bothWaysTables...)
	for _, src := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		leaves(t, sw, src, "in_port=1,tcp,nw_dst=10.9.0.1,tcp_src=65535,tcp_dst=80,nw_src="+src)
	}
	var ports []uint16
	for _, c := range sw.Connections() {
		if c.Zone == 8 {
			ports = append(ports, c.Reply.Dst.Port())
		}
	}
	if diff := cmp.Diff([]uint16{65535, 1024, 1025}, ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	// A protocol without ports has one connection between two addresses.
	for _, tc := range []struct {
		src  string
		want bool
	}{{"10.0.0.1", true}, {"10.0.0.2", false}} {
		got := leaves(t, sw, "ping", "in_port=1,icmp,icmp_type=8,icmp_code=0,nw_dst=10.9.0.1,nw_src="+tc.src)
		if (got != "") != tc.want {
			t.Errorf("ping of %s: %q", tc.src, got)
		}
	}
}

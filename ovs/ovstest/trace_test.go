// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
)

var (
	macA = net.HardwareAddr{0x0a, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{0x0a, 0, 0, 0, 0, 0xb}
	a4   = netip.MustParseAddr("10.0.0.1")
	b4   = netip.MustParseAddr("10.0.0.2")
	a6   = netip.MustParseAddr("fd00::1")
	b6   = netip.MustParseAddr("fd00::2")
	hop  = Hop{InPort: 1, Src: macA, Dst: macB}
)

var traceGroup = flow.Group{ID: 7, Type: flow.GroupAll, Buckets: []flow.Bucket{
	{Actions: []flow.Action{flow.Output{Port: 2}}},
	{Actions: []flow.Action{flow.Output{Port: 3}}},
}}

func traceFlows(t *testing.T) []flow.Flow {
	t.Helper()
	var out []flow.Flow
	for _, s := range []string{
		"table=0, priority=10,in_port=1 actions=set_field:0x2->reg1,goto_table:10",
		"table=0, priority=10,in_port=3 actions=IN_PORT",
		"table=10, priority=10,ip,nw_dst=10.0.0.2 actions=dec_ttl,set_field:0a:00:00:00:00:0b->eth_dst,goto_table:20",
		"table=10, priority=10,ip,nw_dst=10.9.0.0/16 actions=output:1",
		"table=10, priority=20,udp,tp_dst=67 actions=drop",
		"table=10, priority=10,ipv6,ipv6_dst=fd00::/64 actions=move:NXM_NX_REG1[0..15]->NXM_NX_REG2[16..31],goto_table:20",
		"table=10, priority=10,icmp6,icmp_type=135,nd_target=fe80::1 actions=output:3",
		"table=10, priority=11,arp,arp_op=1,arp_tpa=10.0.0.2 actions=group:7",
		"table=0, priority=10,ipv6,in_port=4 actions=move:NXM_NX_IPV6_DST[]->NXM_NX_XXREG3[],resubmit(,20),resubmit(,10)",
		"table=20, priority=30,ipv6,reg15=0x9 actions=set_field:0x7->reg5,dec_ttl,set_field:0x8->reg5",
		"table=10, priority=30,ipv6,reg12=0xfd000000,reg5=0x7 actions=output:2",
		"table=10, priority=30,ipv6,reg12=0xfd000000,reg5=0x8 actions=output:3",
		"table=20, priority=10,ip,reg1=0x2 actions=output:NXM_NX_REG1[]",
		"table=20, priority=10,ipv6,reg2=0x20000/0xff0000 actions=output:3",
	} {
		f, err := flow.ParseFlow(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// traceCases hold for the fake and for a real switch.
var traceCases = []struct {
	name   string
	packet Packet
	want   string
}{
	{"routed, by register", TCP(hop, a4, b4, 1000, 80), "output:2"},
	{"ttl runs out", TCP(Hop{InPort: 1, Src: macA, Dst: macB, TTL: 1}, a4, b4, 1000, 80), "drop"},
	{"dhcp server", UDP(hop, a4, b4, 1000, 67), "drop"},
	{"back out of the ingress port", UDP(hop, a4, netip.MustParseAddr("10.9.1.1"), 1, 2), "drop"},
	{"asked for the ingress port", Echo(Hop{InPort: 3, Src: macA, Dst: macB}, a4, b4), "output:3"},
	{"ipv6, moved bits", TCP(hop, a6, b6, 1000, 80), "output:3"},
	{"solicitation", Solicit(hop, a6, netip.MustParseAddr("ff02::1:ff00:1"), netip.MustParseAddr("fe80::1"), macA), "output:3"},
	{"group", ARP(hop, 1, macA, a4, make(net.HardwareAddr, 6), b4), "output:2,output:3"},
	{"registers stay after a resubmit", TCP(Hop{InPort: 4, Src: macA, Dst: macB}, a6, netip.MustParseAddr("fd00::9"), 1, 2), "output:3"},
	{"ttl ends a resubmit alone", TCP(Hop{InPort: 4, Src: macA, Dst: macB, TTL: 1}, a6, netip.MustParseAddr("fd00::9"), 1, 2), "output:2"},
	{"no flow", TCP(Hop{InPort: 2, Src: macA, Dst: macB}, a4, b4, 1, 2), "drop"},
}

func TestTrace(t *testing.T) {
	sw := NewSwitch(SwitchParams{Tables: []uint8{0, 10, 20}})
	if err := sw.Update("test", traceFlows(t), []flow.Group{traceGroup}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range traceCases {
		v := sw.Trace(tc.packet)
		if v.String() != tc.want {
			t.Errorf("%s: %v, want %v, met\n%s", tc.name, v, tc.want, v.Met())
		}
	}
	v := sw.Trace(TCP(hop, a4, b4, 1000, 80))
	if len(v.Outputs) != 1 {
		t.Fatalf("outputs: %v", v.Outputs)
	}
	want := "tcp,reg1=0x2,in_port=1,dl_src=0a:00:00:00:00:0a,dl_dst=0a:00:00:00:00:0b,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=63,tp_src=1000,tp_dst=80"
	if diff := cmp.Diff(want, v.Outputs[0].Packet.String()); diff != "" {
		t.Errorf("packet as it leaves (-want +got):\n%s", diff)
	}
}

func TestTraceAmbiguous(t *testing.T) {
	sw := NewSwitch(SwitchParams{Tables: []uint8{0}})
	err := sw.Update("test", []flow.Flow{
		{Priority: 1, Match: flow.Match{flow.InPort(1)}},
		{Priority: 1, Match: flow.Match{flow.EthSrc(macA)}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := sw.Trace(Echo(hop, a4, b4)); v.Err == nil || !strings.Contains(v.Err.Error(), "both match") {
		t.Errorf("verdict %v, want an error", v)
	}
}

func TestSwitchRefuses(t *testing.T) {
	owned := flow.Flow{Priority: 1, Match: flow.Match{flow.InPort(1)}}
	for _, tc := range []struct {
		name  string
		flows []flow.Flow
		group []flow.Group
		want  string
	}{
		{"unknown table", []flow.Flow{{Table: 3}}, nil, "no table 3"},
		{"jump to unknown table", []flow.Flow{{Actions: []flow.Action{flow.GotoTable{Table: 9}}}}, nil, "no table 9"},
		{"resubmit to unknown table", []flow.Flow{{Actions: []flow.Action{flow.Resubmit{Table: 9}}}}, nil, "no table 9"},
		{"unknown group", []flow.Flow{{Actions: []flow.Action{flow.ToGroup{ID: 4}}}}, nil, "no group 4"},
		{"twice", []flow.Flow{{}, {}}, nil, "named twice"},
		{"missing prerequisite", []flow.Flow{{Match: flow.Match{flow.IPProto(6)}}}, nil, "needs a match"},
		{"other's flow", []flow.Flow{owned}, nil, "which first has declared"},
		{"other's group", nil, []flow.Group{{ID: 1}}, "which first has declared"},
		{"bucket to unknown table", nil, []flow.Group{{ID: 2, Buckets: []flow.Bucket{{Actions: []flow.Action{flow.Resubmit{Table: 8}}}}}}, "no table 8"},
	} {
		sw := NewSwitch(SwitchParams{Tables: []uint8{0}})
		if err := sw.Update("first", []flow.Flow{owned}, []flow.Group{{ID: 1}}); err != nil {
			t.Fatal(err)
		}
		before := sw.Dump()
		err := sw.Update("second", tc.flows, tc.group)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
		if diff := cmp.Diff(before, sw.Dump()); diff != "" {
			t.Errorf("%s changed the switch:\n%s", tc.name, diff)
		}
	}
}

func TestSwitchOwners(t *testing.T) {
	sw := NewSwitch(SwitchParams{Tables: []uint8{0}})
	one, two := flow.Flow{Priority: 1}, flow.Flow{Priority: 2}
	if err := errors.Join(
		sw.Update("a", []flow.Flow{one}, nil),
		sw.Update("b", []flow.Flow{two}, []flow.Group{{ID: 3}}),
	); err != nil {
		t.Fatal(err)
	}
	if err := sw.Update("a", []flow.Flow{two}, nil); !errors.Is(err, openflow.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	want := "group_id=3,type=all\ntable=0, priority=2 actions=drop\ntable=0, priority=1 actions=drop\n"
	if diff := cmp.Diff(want, sw.Dump()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := sw.Prune(func(o string) bool { return o == "a" }); n != 1 {
		t.Errorf("pruned %d, want 1", n)
	}
	if diff := cmp.Diff([]string{"a"}, sw.Owners()); diff != "" {
		t.Error(diff)
	}
	sw.Delete("a")
	if got := sw.Dump(); got != "" {
		t.Errorf("left over:\n%s", got)
	}
}

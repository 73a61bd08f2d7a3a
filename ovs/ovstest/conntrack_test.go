// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// tracked sends every packet through ct and out of a port by its state.
const tracked = `
table=0, priority=1,ip actions=ct(table=1,zone=7)
table=0, priority=1,ipv6 actions=ct(table=1,zone=NXM_NX_REG0[0..15])
table=1, priority=10,ct_state=+inv+trk,ip actions=output:9
table=1, priority=8,ct_state=+rel+trk,ip actions=output:8
table=1, priority=7,ct_state=+new+trk,ip,nw_dst=10.0.0.9 actions=output:7
table=1, priority=6,ct_state=+new-est+trk,ct_zone=7,ip actions=set_field:0xab->reg4,move:NXM_OF_TCP_DST[]->NXM_NX_REG7[0..15],ct(commit,zone=7,exec(move:NXM_NX_REG4[]->NXM_NX_CT_LABEL[0..31],move:NXM_NX_REG7[0..15]->NXM_NX_CT_LABEL[64..79],set_field:0x2/0x2->ct_mark)),goto_table:2
table=1, priority=5,ct_state=+est-rpl+trk,ct_mark=0x2/0x2,ip actions=output:3
table=1, priority=5,ct_state=+est+rpl+trk,ct_label=0x500000000000000000/0xffff0000000000000000,ip actions=output:4
table=1, priority=4,ct_state=+est+trk,ip actions=output:5
table=1, priority=4,ct_state=+new+trk,ipv6 actions=ct(commit,zone=NXM_NX_REG0[0..15]),output:2
table=1, priority=4,ct_state=+est+rpl+trk,ct_zone=0,ipv6 actions=output:4
table=2, priority=1,ct_state=-trk,ip actions=output:2
table=2, priority=1,ct_state=+trk,ip actions=output:6
`

func trackedFlows(t *testing.T) []flow.Flow {
	t.Helper()
	// move:NXM_OF_TCP_DST needs a match on tcp.
	return parseFlows(t, strings.ReplaceAll(tracked, "ct_zone=7,ip ", "ct_zone=7,tcp "))
}

func TestConnections(t *testing.T) {
	sw := filled(t, trackedFlows(t), 0, 1, 2)
	back := Hop{InPort: 12, Src: macB, Dst: macA}
	first, first6 := TCP(hop, a4, b4, 1000, 80), TCP(hop, a6, b6, 1000, 80)
	uncommitted := TCP(hop, a4, netip.MustParseAddr("10.0.0.9"), 1, 2)
	for _, step := range []struct {
		name   string
		packet Packet
		want   string
	}{
		{"answer to nothing", Answer(uncommitted, back), "output:2"},
		{"first packet", first, "output:2"},
		{"sent again", first, "output:2"},
		{"answer", Answer(first, back), "output:4"},
		{"second packet", first, "output:3"},
		{"second answer", Answer(first, back), "output:4"},
		{"another port", TCP(hop, a4, b4, 1001, 80), "output:2"},
		{"not committed", uncommitted, "output:7"},
		{"still not", uncommitted, "output:7"},
		{"an error without a connection", ICMP(hop, a4, b4, 3, 1), "output:9"},
		{"an echo reply nobody asked for", ICMP(hop, a4, b4, 0, 0), "output:9"},
		{"first, IPv6", first6, "output:2"},
		{"answer, IPv6", Answer(first6, back), "output:4"},
	} {
		v := sw.Trace(step.packet)
		if step.name == "answer to nothing" {
			sw.ForgetAllConnections()
		}
		if v.String() != step.want {
			t.Errorf("%s: %v, want %s, met\n%s", step.name, v, step.want, v.Met())
		}
	}
	var label [16]byte
	label[15], label[7] = 0xab, 80
	want := []Connection{
		{Zone: 0, Proto: 6, Src: netip.AddrPortFrom(a6, 1000), Dst: netip.AddrPortFrom(b6, 80), Answered: true},
		{Zone: 7, Proto: 6, Src: netip.AddrPortFrom(a4, 1000), Dst: netip.AddrPortFrom(b4, 80), Answered: true, Mark: 2, Label: label},
		{Zone: 7, Proto: 6, Src: netip.AddrPortFrom(a4, 1001), Dst: netip.AddrPortFrom(b4, 80), Mark: 2, Label: label},
	}
	for i, c := range want {
		want[i].Reply = flow.Tuple{Src: c.Dst, Dst: c.Src}
	}
	if diff := cmp.Diff(want, sw.Connections(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	sw.ForgetAllConnections()
	if v := sw.Trace(first); v.String() != "output:2" || len(sw.Connections()) != 1 {
		t.Errorf("after all was forgotten: %v", v)
	}
}

func TestAnswer(t *testing.T) {
	back := Hop{InPort: 2, Src: macB, Dst: macA}
	for _, tc := range []struct{ p, want Packet }{
		{TCP(hop, a4, b4, 1, 2), TCP(back, b4, a4, 2, 1)},
		{UDP(hop, a6, b6, 1, 2), UDP(back, b6, a6, 2, 1)},
		{Echo(hop, a4, b4), ICMP(back, b4, a4, 0, 0)},
		{Echo(hop, a6, b6), ICMP(back, b6, a6, 129, 0)},
	} {
		if diff := cmp.Diff(tc.want.String(), Answer(tc.p, back).String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// stateCases hold for the fake and for a real switch.
var stateCases = []struct {
	name string
	mark uint64
	next uint32
	want string
}{
	{"new", 0, flow.CTNew, "output:2"},
	{"established", 2, flow.CTEstablished, "output:3"},
	{"established without the mark", 0, flow.CTEstablished, "output:5"},
	{"answer", 0, flow.CTEstablished | flow.CTReply, "output:5"},
	{"related", 0, flow.CTRelated | flow.CTEstablished, "output:8"},
	{"invalid", 0, flow.CTInvalid, "output:9"},
}

func statePacket(mark uint64) Packet {
	return With(TCP(hop, a4, b4, 1000, 80), flow.Uint(flow.FieldCTMark, mark))
}

func TestTraceWithGivenState(t *testing.T) {
	sw := filled(t, trackedFlows(t), 0, 1, 2)
	for _, tc := range stateCases {
		sw.ForgetAllConnections()
		if v := sw.Trace(statePacket(tc.mark), tc.next); v.String() != tc.want {
			t.Errorf("%s: %v, want %s, met\n%s", tc.name, v, tc.want, v.Met())
		}
	}
}

func TestTraceCannotTell(t *testing.T) {
	for _, tc := range []struct{ flows, packet, want string }{
		{"table=0, priority=1,tcp actions=ct(commit,table=1,zone=1,nat(src=9.9.9.9:80))", "tcp", "the tracer does not know ct("},
		{"table=0, priority=1,tcp actions=ct(commit,table=1,zone=1,nat(dst=9.9.9.1-9.9.9.9))", "tcp", "the tracer does not know ct("},
		{"table=0, priority=1,ip actions=ct(commit,exec(set_field:1->reg1))", "tcp", "ct cannot execute"},
		{"table=0, priority=1,ip actions=ct(table=0)", "tcp", "lookups"},
		{"table=0, priority=1 actions=resubmit(,0)", "tcp", "tables deep"},
	} {
		v := filled(t, parseFlows(t, tc.flows), 0, 1).Trace(packetOf(t, tc.packet+",nw_src=1.1.1.1,nw_dst=2.2.2.2"))
		if v.Err == nil || !strings.Contains(v.Err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.flows, v, tc.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var mac = net.HardwareAddr{0x0a, 0x57, 0x4d, 0, 0, 1}

// texts are flows as Open vSwitch itself prints them; the integration test
// hands the same list to ovs-ofctl.
var texts = []string{
	"table=0, priority=0 actions=drop",
	"cookie=0x5, table=10, priority=100,icmp6,in_port=3,ipv6_dst=fd00::/64,icmp_type=135,nd_target=fd00::1,nd_sll=00:11:22:33:44:55 actions=goto_table:20",
	"table=10, priority=100,icmp6,ipv6_src=fe80::1,icmp_type=136,icmp_code=0,nd_target=fd00::1,nd_tll=00:11:22:33:44:55 actions=goto_table:20",
	"table=1, priority=5,pkt_mark=0x3,conj_id=4,ct_state=-new+trk,ct_zone=5,ct_mark=0x1/0x3,ct_label=0x1/0x1,tcp,reg0=0x1/0xff,reg15=0x3,tun_id=0x5,tun_src=1.1.1.1,metadata=0x5,nw_ttl=1,nw_frag=no,tp_dst=80 actions=set_field:0x1/0xff->reg0,set_field:0x5->reg1,move:NXM_NX_REG0[0..3]->NXM_NX_REG1[4..7],output:NXM_NX_REG0[],output:NXM_NX_REG1[0..15],IN_PORT,LOCAL,CONTROLLER:65535,NORMAL,output:7",
	"table=1, priority=32768,tcp6,tun_ipv6_dst=fd00::1,dl_vlan=5,tp_dst=0x50/0xfff0 actions=ct(commit,force,table=5,zone=4,nat(src=fd00::5-fd00::9,random),exec(set_field:0x1->ct_mark,set_field:0x1/0x3->ct_label)),resubmit(,5),dec_ttl,ct_clear,group:5,set_field:0x5->tun_id",
	"table=1, priority=1,tcp actions=ct(commit,zone=NXM_NX_REG0[0..15],nat(dst=10.0.0.1:80)),ct(table=4,zone=5),ct(zone=5,nat),set_field:0a:57:4d:00:00:01->eth_src,set_field:fd00::1->tun_ipv6_dst,set_field:1->nw_ttl,set_field:10.0.0.1->tun_dst",
	"table=1, priority=1,udp6 actions=ct(commit,nat(dst=[fd00::1]:80-90))",
	"table=1, priority=1,arp,dl_src=00:00:00:00:00:00/01:00:00:00:00:00,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=1.1.1.0/24,arp_tpa=2.2.2.2,arp_op=1,arp_sha=00:00:00:00:00:01,arp_tha=00:00:00:00:00:02 actions=move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],set_field:2->arp_op,move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]",
	"table=1, priority=1,dl_vlan=5,dl_type=0x88cc actions=drop",
	"table=1, priority=1,sctp,vlan_tci=0x0000/0x1fff,tp_src=5 actions=drop",
	"table=1, priority=1,udp,tun_id=0x5/0xff,tun_dst=1.2.3.0/24,vlan_tci=0x1000/0x1000,nw_frag=first,tp_src=67 actions=drop",
	"table=1, priority=1,ip,nw_src=10.0.0.0/255.0.255.0 actions=conjunction(1,1/2),conjunction(2,2/2)",
	"table=1, priority=1,ct_state=+new+est-rel-rpl-inv+trk,ipv6,nw_ttl=64,nw_frag=not_later actions=drop",
	"table=1, priority=1,icmp,in_port=LOCAL,icmp_type=8,icmp_code=0 actions=IN_PORT",
	"table=1, priority=1,ipv6,nw_proto=89 actions=drop",
	"table=1, priority=1,ip,nw_frag=later actions=drop",
	"table=71, priority=100,conj_id=4294967295,ct_state=+new,ip actions=set_field:0x1/0x1->reg0,set_field:0xffffffff->reg4",
	"table=71, priority=100,reg6=0x7 actions=conjunction(4294967295,1/3),conjunction(7,1/2)",
	"table=71, priority=100,tcp,reg7=0x1000/0xf000 actions=conjunction(4294967295,3/3)",
	"table=55, priority=100,ipv6 actions=set_field:0->reg2,move:NXM_NX_IPV6_DST[]->NXM_NX_XXREG3[],resubmit(,60),resubmit(,61)",
	"table=55, priority=100,ip actions=move:NXM_OF_IP_DST[]->NXM_NX_REG12[],resubmit(,60)",
	"table=56, priority=9,ipv6 actions=set_field:0xfd000000000000000000000000000001->xxreg2,set_field:0x1/0xff->xxreg0,move:NXM_NX_XXREG2[0..31]->NXM_NX_REG1[]",
	"table=48, priority=100,ct_state=+new+trk,tcp actions=move:NXM_OF_TCP_DST[]->NXM_NX_REG7[0..15],ct(commit,zone=65520,exec(move:NXM_NX_REG4[]->NXM_NX_CT_LABEL[0..31],move:NXM_NX_REG5[]->NXM_NX_CT_LABEL[32..63],move:NXM_NX_REG7[0..15]->NXM_NX_CT_LABEL[64..79],move:NXM_NX_REG0[8]->NXM_NX_CT_MARK[0])),goto_table:50",
	"table=62, priority=100,ct_state=+rpl+trk,ip actions=set_field:0->reg7,move:NXM_NX_CT_LABEL[64..79]->NXM_NX_REG7[0..15]",
	"table=62, priority=100,ct_state=-inv+trk,tcp actions=move:NXM_NX_CT_TP_DST[]->NXM_NX_REG7[0..15],move:NXM_NX_CT_TP_SRC[]->NXM_NX_REG7[0..15]",
	"table=24, priority=100,ct_state=+new-rel+trk,tcp6,tp_src=0/0x8000,tcp_flags=-syn actions=drop",
	"table=24, priority=99,tcp,tcp_flags=+syn-ack actions=drop",
	"table=44, priority=100,ip actions=controller(max_len=128,userdata=00.01.ff,meter_id=1)",
	"table=44, priority=99,ip actions=controller(meter_id=9)",
	"table=26, priority=100,ip,reg12=0x5 actions=learn(table=63,idle_timeout=10800,hard_timeout=7,priority=100,cookie=0x574d000000000005,reg12=0x5,metadata=0x7,eth_type=0x800,nw_proto=6,NXM_NX_REG11[],NXM_OF_IP_SRC[],load:0x3->NXM_NX_REG13[],load:0x1->NXM_NX_REG0[8]),ct(commit,table=50,zone=65524,nat(dst=10.0.0.9:80))",
	"table=26, priority=100,tcp6 actions=learn(table=63,eth_type=0x86dd,nw_proto=6,NXM_NX_IPV6_SRC[],OXM_OF_METADATA[],NXM_OF_TCP_SRC[],load:0x1ffff->NXM_NX_CT_LABEL[64..127])",
	"table=26, priority=100,in_port=7 actions=learn(table=63,eth_src=0a:57:4d:00:00:01,NXM_OF_ETH_DST[],OXM_OF_IN_PORT[])",
	"table=26, priority=100,ip actions=learn(table=63,priority=0,load:NXM_NX_REG13[]->NXM_NX_REG13[],load:NXM_OF_IP_DST[8..15]->NXM_NX_REG1[0..7])",
}

func TestTextRoundTrip(t *testing.T) {
	for _, want := range texts {
		f, err := ParseFlow(want)
		if err != nil {
			t.Errorf("ParseFlow: %v", err)
			continue
		}
		if diff := cmp.Diff(want, f.String()); diff != "" {
			t.Errorf("text of the parsed flow (-want +got):\n%s", diff)
		}
	}
}

func TestParseFlowOtherForms(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{
			" cookie=0x0, duration=1.5s, table=0, n_packets=0, n_bytes=0, idle_age=3, priority=1,ip actions=load:0x3->NXM_NX_REG0[4..7]",
			"table=0, priority=1,ip actions=set_field:0x30/0xf0->reg0",
		},
		{"table=2,tcp,tcp_dst=80,reg1=0/0 actions=output:reg1", "table=2, priority=32768,tcp,tp_dst=80 actions=output:NXM_NX_REG1[]"},
		{"priority=1,ip6,ipv6_dst=fd00::1/128,actions=drop", "table=0, priority=1,ipv6,ipv6_dst=fd00::1 actions=drop"},
		{"nw_dst=10.1.2.3/8,dl_type=0x800,priority=1 actions=", "table=0, priority=1,ip,nw_dst=10.0.0.0/8 actions=drop"},
		{"priority=1,ct_state=est|trk actions=drop", "table=0, priority=1,ct_state=-new+est-rel-rpl-inv+trk-snat-dnat actions=drop"},
		{
			"priority=1,xxreg3=0xfd000000000000000000000000000001/0xffffffff000000000000000000000fff,reg8=0x1 actions=drop",
			"table=0, priority=1,reg8=0x1,reg12=0xfd000000,reg15=0x1/0xfff actions=drop",
		},
		{"priority=1,xxreg0=0x5 actions=controller:65535", "table=0, priority=1,reg0=0,reg1=0,reg2=0,reg3=0x5 actions=CONTROLLER:65535"},
		{"priority=1,icmp6,icmpv6_type=134 actions=drop", "table=0, priority=1,icmp6,icmp_type=134 actions=drop"},
		{
			" cookie=0x5, duration=1.5s, table=63, n_packets=0, n_bytes=0, idle_timeout=30, hard_timeout=9, priority=1,ip,nw_src=10.0.0.1 actions=load:0x3->NXM_NX_REG13[]",
			"cookie=0x5, table=63, priority=1,ip,nw_src=10.0.0.1 actions=set_field:0x3->reg13",
		},
		{"priority=1,ip actions=learn(NXM_OF_IP_SRC[], dl_type=0x800,load:5->reg3)", "table=0, priority=1,ip actions=learn(table=0,eth_type=0x800,NXM_OF_IP_SRC[],load:0x5->NXM_NX_REG3[])"},
	} {
		f, err := ParseFlow(tc.in)
		if err != nil {
			t.Errorf("ParseFlow: %v", err)
			continue
		}
		if diff := cmp.Diff(tc.want, f.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.in, diff)
		}
	}
}

func TestParseFlowErrors(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"table=0", "no actions"},
		{"table=256 actions=drop", "out of range"},
		{"banana=1 actions=drop", "unknown field"},
		{"banana actions=drop", "neither a field nor a protocol"},
		{"nw_src=1.2.3.4 actions=drop", "ip_src needs a match on eth_type"},
		{"arp,nw_src=1.2.3.4 actions=drop", "ip_src needs a match on eth_type"},
		{"ip,tp_dst=80 actions=drop", "unknown field, or its protocol is not matched"},
		{"icmp6,icmp_type=136,nd_sll=00:00:00:00:00:01 actions=drop", "nd_sll needs a match on icmpv6_type"},
		{"ip,nw_src=fd00::1 actions=drop", "wrong family"},
		{"ip,nw_src=1.2.3.4/33 actions=drop", "above 32"},
		{"ip,ip actions=drop", "eth_type is named twice"},
		{"in_port=1/3 actions=drop", "cannot be masked"},
		{"ct_state=+foo actions=drop", "not a flag of ct_state"},
		{"reg0=0x1ffffffff actions=drop", "out of range"},
		{"priority=1 actions=explode", "unknown action"},
		{"table=5 actions=goto_table:5", "does not lead to a later table"},
		{"table=5 actions=goto_table:6,output:1", "not the last action"},
		{"priority=1 actions=ct(exec(set_field:1->ct_mark))", "need commit"},
		{"priority=1 actions=ct(commit", "unbalanced"},
		{"priority=1 actions=move:reg0[0..3]->reg1[0..4]", "differ in length"},
		{"priority=1 actions=conjunction(1,3/2)", "clause must be"},
		{"priority=1 actions=conjunction(1,1/2),conjunction(1,2/2)", "conjunction 1 is named twice"},
		{"priority=1 actions=conjunction(1,1/2),output:1", "conjunction together with another action"},
		{"priority=1,xxreg3=0x5,reg13=1 actions=drop", "reg13 is named twice, also as xxreg3"},
		{"priority=1,reg8=1,xxreg2=0x5 actions=drop", "reg8 is named twice, also as xxreg2"},
		{"priority=1,arp actions=ct(table=5)", "ct needs a match on eth_type"},
		{"priority=1 actions=controller(meter_id=4294967295)", "a meter is at most"},
		{"priority=1 actions=controller(banana=1)", "unknown argument"},
		{"priority=1 actions=move:NXM_NX_CT_LABEL[64..128]->NXM_NX_REG7[]", "has no bits"},
		{"priority=1,ip actions=learn(table=63,NXM_OF_IP_SRC[])", "learn: ip_src needs a match on eth_type"},
		{"priority=1 actions=learn(table=63,eth_type=0x800,NXM_OF_IP_SRC[])", "learn from ip_src needs a match on eth_type"},
		{"priority=1,ip actions=learn(table=63,eth_type=0x800,ip_src=10.0.0.0/8)", "ip_src is compared in part"},
		{"priority=1 actions=learn(table=63,reg1=1/0xf)", "reg1 is compared in part"},
		{"priority=1 actions=learn(table=63,NXM_NX_REG1[0..3])", "only whole fields are copied"},
		{"priority=1 actions=learn(table=63,NXM_NX_CT_STATE[])", "ct_state cannot be copied"},
		{"priority=1 actions=learn(table=63,NXM_NX_XXREG1[])", "xxreg1 cannot be copied"},
		{"priority=1 actions=learn(table=63,ct_state=+trk)", "ct_state cannot be compared"},
		{"priority=1 actions=learn(table=63,reg1=1,NXM_NX_REG1[])", "reg1 is named twice"},
		{"priority=1 actions=learn(table=63,load:0x10->NXM_NX_REG1[0..3])", "0x10 does not fit NXM_NX_REG1[0..3]"},
		{"priority=1 actions=learn(table=63,load:1->NXM_NX_CT_LABEL[])", "NXM_NX_CT_LABEL[] has more than 64 bits"},
		{"priority=1 actions=learn(load:1->NXM_NX_XXREG0[])", "has more than 64 bits"},
		{"priority=1 actions=learn(load:NXM_NX_REG0[0..3]->NXM_NX_REG1[])", "differ in length"},
		{"priority=1 actions=learn(load:NXM_OF_IP_DST[]->NXM_NX_REG1[])", "learn from ip_dst needs a match on eth_type"},
		{"priority=1 actions=learn(load:0x10000000000000000->NXM_NX_REG1[])", "out of range"},
		{"priority=1 actions=learn(table=256)", "out of range"},
		{"priority=1 actions=learn(banana=1)", "unknown field"},
		{"priority=1 actions=learn(banana)", "not a known field"},
		{"priority=1 actions=learn(load:5)", "no destination"},
	} {
		_, err := ParseFlow(tc.in)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("ParseFlow(%q) = %v, want an error with %q", tc.in, err, tc.want)
		}
	}
}

func TestConstructors(t *testing.T) {
	f := Flow{
		Table: 3, Priority: 9,
		Match: Match{
			IPSrc(netip.MustParsePrefix("10.1.2.3/24")), EthType(EthTypeIPv4), InPort(4),
			Reg(2, 0xff01, 0xff), EthSrc(mac), CTState(CTNew|CTTracked, CTInvalid),
			Uint(FieldCTLabel, 7),
		},
		Actions: []Action{
			SetReg(1, 0x100, 0xf00), SetReg(2, 5, ^uint32(0)), SetEthDst(mac), SetTunDst(netip.MustParseAddr("fd00::1")),
			Load(Subfield{Field: FieldCTLabel, Offset: 64, N: 4}, 3), GotoTable{7},
		},
	}
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	want := "table=3, priority=9,ct_state=+new-inv+trk,ct_label=0x7,ip,reg2=0x1/0xff,in_port=4,dl_src=0a:57:4d:00:00:01,nw_src=10.1.2.0/24" +
		" actions=set_field:0x100/0xf00->reg1,set_field:0x5->reg2,set_field:0a:57:4d:00:00:01->eth_dst,set_field:fd00::1->tun_ipv6_dst,set_field:0x30000000000000000/0xf0000000000000000->ct_label,goto_table:7"
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	g, err := ParseFlow(f.String())
	if err != nil {
		t.Fatal(err)
	}
	if !f.Equal(g) {
		t.Errorf("flow is not equal to its parsed text:\n%s\n%s", f, g)
	}
}

func TestLearnedFlow(t *testing.T) {
	f, err := ParseFlow("priority=1,tcp actions=learn(table=63,priority=7,cookie=0x5,reg12=0x5,eth_type=0x800,NXM_NX_REG11[],NXM_OF_IP_SRC[]," +
		"load:0x3->NXM_NX_REG13[],load:0x1->NXM_NX_REG0[8],load:NXM_OF_IP_SRC[8..15]->NXM_NX_REG1[16..23])")
	if err != nil {
		t.Fatal(err)
	}
	learned := f.Actions[0].(Learn).Flow(func(f Field) []byte {
		if f == FieldIPSrc {
			return []byte{10, 0, 7, 1}
		}
		return []byte{0, 0, 0, 9}
	})
	want := "cookie=0x5, table=63, priority=7,ip,reg11=0x9,reg12=0x5,nw_src=10.0.7.1 actions=set_field:0x3->reg13,set_field:0x100/0x100->reg0,set_field:0x70000/0xff0000->reg1"
	if diff := cmp.Diff(want, learned.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckBucket(t *testing.T) {
	for _, tc := range []struct {
		actions []Action
		want    string
	}{
		{[]Action{SetReg(1, 5, 0xff), Move{Whole(FieldReg(1)), Whole(FieldReg(2))}, DecTTL{}, Resubmit{Table: 3}}, ""},
		{[]Action{CT{Commit: true, Table: 4}}, ""},
		{nil, ""},
		{[]Action{Learn{Table: 63}, CT{Commit: true, Table: 4}}, "learn(table=63,priority=0) is ignored in a bucket"},
		{[]Action{CTClear{}, Output{Port: 1}}, "ct_clear is ignored in a bucket"},
		{[]Action{CT{Commit: true, Table: NoTable}, Output{Port: 1}}, "ct(commit) is not the last action"},
		{[]Action{Output{Port: 1}, SetReg(1, 5, 0xff)}, "output:1 is not the last action"},
		{[]Action{GotoTable{Table: 5}}, "goto_table cannot be used here"},
		{[]Action{nil}, "action is nil"},
		{[]Action{Load(Subfield{Field: FieldReg(1), N: 4}, 3), Conjunction{ID: 1}}, "clause must be"},
	} {
		err := Group{ID: 1, Buckets: []Bucket{{Actions: tc.actions}}}.Check()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", formatActions(tc.actions), err, tc.want)
		}
	}
}

func TestKey(t *testing.T) {
	a := Flow{Table: 1, Priority: 2, Match: Match{EthType(EthTypeIPv4), IPDst(netip.MustParsePrefix("10.0.0.0/8"))}}
	b := Flow{Table: 1, Priority: 2, Match: Match{IPDst(netip.MustParsePrefix("10.3.0.0/8")), Reg(0, 1, 0), EthType(EthTypeIPv4)}, Actions: []Action{DecTTL{}}}
	if a.Key() != b.Key() {
		t.Errorf("the same entry has two keys:\n%s\n%s", a, b)
	}
	if want := "table=1, priority=2,ip,nw_dst=10.0.0.0/8"; a.Key().String() != want {
		t.Errorf("key is %q, want %q", a.Key(), want)
	}
	if a.Equal(b) {
		t.Error("flows with different actions are equal")
	}
	for _, c := range []Flow{
		{Table: 2, Priority: 2, Match: a.Match},
		{Table: 1, Priority: 3, Match: a.Match},
		{Table: 1, Priority: 2, Match: a.Match[:1]},
		{Table: 1, Priority: 2, Match: Match{EthType(EthTypeIPv4), IPDst(netip.MustParsePrefix("10.0.0.0/9"))}},
		{Table: 1, Priority: 2, Match: Match{EthType(EthTypeIPv4), IPSrc(netip.MustParsePrefix("10.0.0.0/8"))}},
	} {
		if a.Key() == c.Key() {
			t.Errorf("different entries share a key:\n%s\n%s", a, c)
		}
	}
}

func TestSort(t *testing.T) {
	in := []Flow{
		{Table: 2, Priority: 1}, {Table: 1, Priority: 1, Match: Match{InPort(2)}},
		{Table: 1, Priority: 1, Match: Match{InPort(1)}}, {Table: 1, Priority: 7},
	}
	Sort(in)
	var got []string
	for _, f := range in {
		got = append(got, f.String())
	}
	want := []string{
		"table=1, priority=7 actions=drop", "table=1, priority=1,in_port=1 actions=drop",
		"table=1, priority=1,in_port=2 actions=drop", "table=2, priority=1 actions=drop",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckRefusesWrongLengths(t *testing.T) {
	for _, m := range []FieldMatch{
		EthSrc(nil), Addr(FieldIPSrc, netip.MustParseAddr("fd00::1")), Addr(FieldIPSrc, netip.Addr{}),
		Reg(16, 1, 1), {Field: FieldReg0, Value: make([]byte, 4), Mask: make([]byte, 3)},
		{Field: FieldReg0, Value: []byte{0, 0, 0, 2}, Mask: []byte{0, 0, 0, 1}},
		IPSrc(netip.Prefix{}),
	} {
		f := Flow{Match: Match{EthType(EthTypeIPv4), m}}
		if err := f.Check(); err == nil {
			t.Errorf("%s passes", f)
		}
	}
}

func FuzzParseFlow(f *testing.F) {
	for _, s := range texts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseFlow(s)
		if err != nil {
			return
		}
		again, err := ParseFlow(got.String())
		if err != nil {
			t.Fatalf("text of a parsed flow does not parse: %v", err)
		}
		if !got.Equal(again) {
			t.Fatalf("round trip changed the flow:\n%s\n%s", got, again)
		}
	})
}

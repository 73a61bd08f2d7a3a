// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// everything holds every field and every action at least once. The
// integration test sends the same flows to a real switch.
var everything = []string{
	"table=0, priority=0 actions=drop",
	"table=0, priority=10,in_port=3 actions=goto_table:10",
	"table=10, priority=100,icmp6,in_port=3,dl_src=0a:57:4d:00:00:01,ipv6_dst=fd00::/64,icmp_type=135,icmp_code=0,nd_target=fd00::1,nd_sll=00:11:22:33:44:55 actions=goto_table:20",
	"table=10, priority=100,icmp6,ipv6_src=fe80::1,icmp_type=136,nd_target=fd00::1,nd_tll=00:11:22:33:44:55 actions=goto_table:20",
	"table=1, priority=5,pkt_mark=0x3,conj_id=4,ct_state=-new+trk,ct_zone=5,ct_mark=0x1/0x3,ct_label=0x1/0x1,tcp,reg0=0x1/0xff,reg1=0x5,reg2=0x5,reg3=0x5,reg4=0x5,reg5=0x5,reg6=0x5,reg7=0x5,reg8=0x5,reg9=0x5,reg10=0x5,reg11=0x5,reg12=0x5,reg13=0x5,reg14=0x5,reg15=0x3,tun_id=0x5,tun_src=192.0.2.1,metadata=0x5,nw_ttl=1,nw_frag=no,tp_dst=80 actions=set_field:0x1/0xff->reg0,set_field:0x5->reg1,move:NXM_NX_REG0[0..3]->NXM_NX_REG1[4..7],output:NXM_NX_REG0[],output:NXM_NX_REG1[0..15],IN_PORT,LOCAL,CONTROLLER:65535,output:7",
	"table=1, priority=4,tcp6,tun_ipv6_src=fd00::/32,tun_ipv6_dst=fd00::1,dl_vlan=5,tp_src=1000,tp_dst=0x50/0xfff0 actions=ct(commit,force,table=5,zone=4,nat(src=fd00::5-fd00::9,random),exec(set_field:0x1->ct_mark,set_field:0x1/0x3->ct_label)),resubmit(,5),dec_ttl,ct_clear,set_field:0x5->tun_id",
	"table=1, priority=3,tcp actions=ct(commit,zone=NXM_NX_REG0[0..15],nat(dst=10.0.0.1:80)),ct(table=4,zone=5),ct(zone=5,nat),set_field:0a:57:4d:00:00:01->eth_src,set_field:0a:57:4d:00:00:02->eth_dst,set_field:fd00::1->tun_ipv6_dst,set_field:1->nw_ttl,set_field:10.0.0.1->tun_dst,set_field:10.0.0.1->ip_dst",
	"table=1, priority=2,udp6,tp_src=1,tp_dst=2 actions=ct(commit,nat(dst=[fd00::1]:80-90,hash))",
	"table=1, priority=2,udp actions=ct(commit,nat(src=10.0.0.1-10.0.0.9:80-90,persistent))",
	"table=1, priority=1,arp,dl_src=00:00:00:00:00:00/01:00:00:00:00:00,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=192.0.2.0/24,arp_tpa=192.0.2.2,arp_op=1,arp_sha=00:00:00:00:00:01,arp_tha=00:00:00:00:00:02 actions=move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],set_field:2->arp_op,move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:192.0.2.9->arp_spa,set_field:0a:57:4d:00:00:02->arp_sha,IN_PORT",
	"table=1, priority=1,dl_vlan=5,dl_type=0x88cc actions=NORMAL",
	"table=1, priority=1,sctp,vlan_tci=0x0000/0x1fff,tp_src=5,tp_dst=6 actions=drop",
	"table=1, priority=1,udp,tun_id=0x5/0xff,tun_dst=198.51.100.0/24,vlan_tci=0x1000/0x1000,nw_frag=first,tp_src=67,tp_dst=68 actions=drop",
	"table=1, priority=1,ip,nw_src=10.0.0.0/255.0.255.0,nw_dst=10.0.0.0/8 actions=conjunction(1,1/2),conjunction(2,2/2)",
	"table=1, priority=1,ip,nw_frag=later actions=drop",
	"table=1, priority=1,ct_state=+new+est-rel-rpl-inv+trk,ipv6,nw_ttl=64,nw_frag=not_later actions=drop",
	"table=1, priority=1,ct_state=-new+est-rel-rpl-inv+trk-snat-dnat,ipv6 actions=drop",
	"table=1, priority=1,icmp,in_port=LOCAL,icmp_type=8,icmp_code=0 actions=IN_PORT",
	"table=1, priority=1,ipv6,nw_proto=89,ipv6_src=fd00::/ffff:ffff::ffff actions=move:NXM_NX_IPV6_SRC[0..31]->NXM_NX_REG3[],set_field:0x30000/0xff0000->reg3,set_field:0x5->metadata,set_field:fd00::5->ipv6_src",
	"table=71, priority=100,conj_id=4294967295,ct_state=+new,ip actions=set_field:0x1/0x1->reg0,set_field:0xffffffff->reg4",
	"table=71, priority=100,reg6=0x7 actions=conjunction(4294967295,1/3),conjunction(7,1/2)",
	"table=71, priority=100,tcp,reg7=0x1000/0xf000 actions=conjunction(4294967295,3/3)",
	"table=55, priority=100,ipv6 actions=set_field:0->reg2,move:NXM_NX_IPV6_DST[]->NXM_NX_XXREG3[],resubmit(,60),resubmit(,61)",
	"table=60, priority=100,ipv6,reg12=0xfd000000,reg13=0,reg14=0,reg15=0x1 actions=set_field:0x9->reg2",
	"table=56, priority=9,ipv6 actions=set_field:0xfd000000000000000000000000000001->xxreg2,set_field:0x1/0xff->xxreg0,move:NXM_NX_XXREG2[0..31]->NXM_NX_REG1[]",
	"table=48, priority=100,ct_state=+new+trk,tcp actions=move:NXM_OF_TCP_DST[]->NXM_NX_REG7[0..15],ct(commit,zone=65520,exec(move:NXM_NX_REG4[]->NXM_NX_CT_LABEL[0..31],move:NXM_NX_REG5[]->NXM_NX_CT_LABEL[32..63],move:NXM_NX_REG7[0..15]->NXM_NX_CT_LABEL[64..79],move:NXM_NX_REG0[8]->NXM_NX_CT_MARK[0])),goto_table:50",
	"table=62, priority=100,ct_state=+rpl+trk,ip actions=set_field:0->reg7,move:NXM_NX_CT_LABEL[64..79]->NXM_NX_REG7[0..15]",
	"table=62, priority=100,ct_state=-inv+trk,tcp actions=move:NXM_NX_CT_TP_DST[]->NXM_NX_REG7[0..15],move:NXM_NX_CT_TP_SRC[]->NXM_NX_REG7[0..15]",
	"table=24, priority=100,ct_state=+new-rel+trk,tcp6,tp_src=0/0x8000,tcp_flags=-syn actions=drop",
	"table=24, priority=99,tcp,tcp_flags=+syn-ack actions=drop",
	"table=44, priority=100,ip actions=controller(max_len=128,userdata=00.01.ff)",
	"table=26, priority=100,ip,reg12=0x5 actions=learn(table=63,idle_timeout=10800,hard_timeout=7,priority=100,cookie=0x574d000000000005,reg12=0x5,metadata=0x7,eth_type=0x800,nw_proto=6,NXM_NX_REG11[],NXM_OF_IP_SRC[],load:0x3->NXM_NX_REG13[],load:0x1->NXM_NX_REG0[8]),ct(commit,table=50,zone=65524,nat(dst=10.0.0.9:80))",
	"table=26, priority=100,tcp6 actions=learn(table=63,eth_type=0x86dd,nw_proto=6,NXM_NX_IPV6_SRC[],OXM_OF_METADATA[],NXM_OF_TCP_SRC[],load:0x1ffff->NXM_NX_CT_LABEL[64..127])",
	"table=26, priority=100,in_port=7 actions=learn(table=63,eth_src=0a:57:4d:00:00:01,NXM_OF_ETH_DST[],OXM_OF_IN_PORT[])",
	"table=26, priority=99,ip actions=learn(table=63,priority=0,load:NXM_NX_REG13[]->NXM_NX_REG13[],load:NXM_OF_IP_DST[8..15]->NXM_NX_REG1[0..7])",
}

func parse(t testing.TB, s string) flow.Flow {
	t.Helper()
	f, err := flow.ParseFlow(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reported lays a flow out as a switch reports it, with its counters of packets
// and bytes.
func reported(t testing.TB, f flow.Flow, counters ...uint64) []byte {
	t.Helper()
	fields := encodeMatch(f.Match)
	instructions, err := encodeInstructions(f.Actions)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, flowDescLen)
	b[4] = f.Table
	binary.BigEndian.PutUint16(b[6:], f.Priority)
	binary.BigEndian.PutUint64(b[16:], f.Cookie)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(fields)))
	b = append(b, fields...)
	b = append(b, make([]byte, pad8(4+len(fields))-4-len(fields))...)
	// How long it is there comes before the counters.
	stats := binary.BigEndian.AppendUint64([]byte{0x80, 2, 0, 8}, 1<<32)
	for i, n := range counters {
		stats = binary.BigEndian.AppendUint64(append(stats, 0x80, 2, byte(4+i)<<1, 8), n)
	}
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(stats)))
	b = append(b, stats...)
	b = append(b, make([]byte, pad8(4+len(stats))-4-len(stats))...)
	b = append(b, instructions...)
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b
}

func TestFlowRoundTrip(t *testing.T) {
	var body []byte
	var want []string
	metered := "table=44, priority=99,ip actions=controller(userdata=01.02.03.04.05,meter_id=9)"
	for _, s := range append(everything, metered) {
		f := parse(t, s)
		f.Cookie = 7
		body = append(body, reported(t, f)...)
		want = append(want, f.String())
	}
	raws, err := parseFlowStats(body)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range raws {
		f, err := r.decode()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-sent +read):\n%s", diff)
	}
}

func entryOf(t testing.TB, f flow.Flow) *entry {
	t.Helper()
	entries := map[flow.Key]*entry{}
	if err := addEntries(entries, []flow.Flow{f}); err != nil {
		t.Fatal(err)
	}
	e := entries[f.Key()]
	e.owner = &ownerState{name: "x", cookie: Cookie("x")}
	return e
}

// TestFlowModLayout compares with what libOpenflow makes of the same flow; of a
// flow mod only the version has changed since its own.
func TestFlowModLayout(t *testing.T) {
	f := parse(t, "table=10, priority=100,ip,reg1=0x5/0xff actions=set_field:0x1->reg2,goto_table:20")
	want := of.NewFlowMod()
	want.Header.Version, want.Header.Xid = version, 7
	want.Cookie, want.TableId, want.Priority = Cookie("x"), f.Table, f.Priority
	want.Match.AddField(of.MatchField{Class: of.OXM_CLASS_OPENFLOW_BASIC, Field: of.OXM_FIELD_ETH_TYPE, Length: 2, Value: &of.EthTypeField{EthType: 0x800}})
	value, mask := raw{0, 0, 0, 5}, raw{0, 0, 0, 0xff}
	want.Match.Fields = append([]of.MatchField{{Class: of.OXM_CLASS_NXM_1, Field: 1, HasMask: true, Length: 8, Value: &value, Mask: &mask}}, want.Match.Fields...)
	want.Match.Length += 12
	apply := of.NewInstrApplyActions()
	reg := raw{0, 0, 0, 1}
	if err := apply.AddAction(of.NewActionSetField(of.MatchField{Class: of.OXM_CLASS_NXM_1, Field: 2, Length: 4, Value: &reg}), false); err != nil {
		t.Fatal(err)
	}
	want.AddInstruction(apply)
	want.AddInstruction(of.NewInstrGotoTable(20))
	laidOut, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got, err := flowAdd(entryOf(t, f))(7)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(laidOut, got); diff != "" {
		t.Errorf("(-libOpenflow +got):\n%s", diff)
	}
}

func TestMessagesCarryTheirLength(t *testing.T) {
	f := parse(t, everything[5])
	out, err := packetOut(1, []byte{1, 2, 3}, []flow.Action{flow.Output{Port: 1}, flow.DecTTL{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]builder{
		"hello": helloMessage, "flow dump": flowDumpRequest, "group dump": groupDumpRequest,
		"barrier": plainMessage(20), "add": flowAdd(entryOf(t, f)), "delete": flowDelete(f.Table, f.Priority, encodeMatch(f.Match)),
		"meters dump": meterDumpRequest, "meter add": meterMod(of.OFPMC_ADD, flow.Meter{ID: 1, Rate: 5}), "meter delete": meterMod(of.OFPMC_DELETE, flow.Meter{ID: 1}),
		"packet-in format": packetInFormat, "async": packetInsOnly, "receive": receivePackets, "packet out": out,
		"bundle open": bundle{3}.control(0), "bundle add": bundle{3}.add(flowAdd(entryOf(t, f))),
	} {
		msg, err := b(77)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h := parseHeader(msg); h.version != version || h.length != len(msg) || h.xid != 77 {
			t.Errorf("%s: header %+v for %d bytes", name, h, len(msg))
		}
	}
}

// TestPacketRegisters reads pairs of registers as Open vSwitch reports them.
func TestPacketRegisters(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []byte
		want string
	}{
		{"first half", append(packetRegister(6, true), 0, 0, 0, 5, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0), "reg12=0x5"},
		{"second half, in part", append(packetRegister(3, true), 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0), "reg7=0x1000/0xf000"},
		{"whole", append(packetRegister(0, false), 0, 0, 0, 1, 0, 0, 0, 2), "reg0=0x1,reg1=0x2"},
		{"no such register", append(packetRegister(8, false), 0, 0, 0, 1, 0, 0, 0, 2), "unknown field 0x80011008"},
		{"no mask", append(packetRegister(1, true), 0, 0, 0, 1, 0, 0, 0, 2), "packet register 1 has 8 bytes"},
		{"short", append(packetRegister(1, false), 0, 0, 0, 1), errShort.Error()},
	} {
		if tc.name == "no mask" {
			tc.in[3] = packetRegLen
		}
		m, err := decodeMatch(tc.in)
		got := m.String()
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// packetRegister is the header of a packet register.
func packetRegister(n byte, masked bool) []byte {
	if masked {
		return []byte{0x80, 0x01, n<<1 | 1, 2 * packetRegLen}
	}
	return []byte{0x80, 0x01, n << 1, packetRegLen}
}

func TestForeignFlowsCanBeDeleted(t *testing.T) {
	// dp_hash and a field of an experimenter class: not fields of ours.
	fields := []byte{0, 1, 35<<1 | 1, 4, 0, 2, 0, 2, 0xff, 0xff, 3, 6, 0, 0x4f, 0x4e, 0x46, 1, 2}
	fields[10] = 3 << 1
	if _, err := decodeMatch(fields); err == nil {
		t.Fatal("the match is known")
	}
	msg, err := flowDelete(3, 9, fields)(1)
	if err != nil {
		t.Fatal(err)
	}
	got, rest, err := cutMatch(msg[headerLen+40:])
	if err != nil || len(rest) != 0 {
		t.Fatalf("match does not end the message: %x, %v", rest, err)
	}
	if diff := cmp.Diff(fields, got); diff != "" {
		t.Errorf("(-sent +laid out):\n%s", diff)
	}
}

func TestTooManyActions(t *testing.T) {
	f := flow.Flow{}
	for range 10000 {
		f.Actions = append(f.Actions, flow.Output{Port: 1})
	}
	if _, err := sumActions(f.Actions); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("error %v", err)
	}
}

func TestErrors(t *testing.T) {
	msg := []byte{version, 1, 0, 12, 0, 0, 0, 5, 0, 4, 0, 9}
	err := error(parseError(msg))
	if want := "bad match: a prerequisite is missing"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if !errors.Is(err, ErrRefused) {
		t.Error("is not ErrRefused")
	}
	for _, tc := range []struct {
		typ, code uint16
		want      string
	}{{2, 99, "bad action: code 99"}, {77, 1, "error type 77: code 1"}, {17, 13, "bundle failed: a message failed"}} {
		if got := (&SwitchError{Type: tc.typ, Code: tc.code}).Error(); got != tc.want {
			t.Errorf("error %q, want %q", got, tc.want)
		}
	}
}

func TestCookie(t *testing.T) {
	a, b := Cookie("pod/a/b"), Cookie("pod/a/c")
	if a == b || a>>48 != 0x574d || b>>48 != 0x574d || a != Cookie("pod/a/b") {
		t.Errorf("cookies %#x and %#x", a, b)
	}
}

// FuzzDecode feeds the decoders with what a switch could send. What decodes
// must survive being sent again.
func FuzzDecode(f *testing.F) {
	for _, s := range everything {
		f.Add(reported(f, parse(f, s)))
	}
	g, err := addGroup(f, flow.Group{ID: 1, Buckets: []flow.Bucket{{WatchPort: 4, Actions: []flow.Action{flow.DecTTL{}}}}})(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(groupDesc(g))
	registers := reported(f, parse(f, "table=1, priority=1,ct_label=0x1 actions=drop"))
	copy(registers[flowDescLen+4:], packetRegister(6, false)) // a field of 16 bytes becomes one of 8
	f.Add(registers)
	f.Add([]byte{version, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 16})
	f.Fuzz(func(t *testing.T, b []byte) {
		if raws, err := parseFlowStats(b); err == nil {
			for _, r := range raws {
				r.hash(seed)
				if _, err := flowDelete(r.table, r.priority, r.match)(1); err != nil && len(r.match) == 0 {
					t.Fatal(err)
				}
				got, err := r.decode()
				if err != nil || got.Check() != nil {
					continue
				}
				again, err := encodeInstructions(got.Actions)
				if err != nil {
					t.Fatal(err)
				}
				actions, err := decodeInstructions(again)
				if err != nil || !flow.EqualActions(actions, got.Actions) {
					t.Fatalf("round trip changed %s to %v: %v", got, actions, err)
				}
				match, err := decodeMatch(encodeMatch(got.Match))
				if err != nil || match.String() != got.Match.String() {
					t.Fatalf("round trip changed %s to %s: %v", got.Match, match, err)
				}
			}
		}
		if groups, err := parseGroupDesc(b); err == nil {
			for _, r := range groups {
				r.hash(seed)
				_, _ = r.decode()
			}
		}
		if len(b) >= headerLen {
			_ = checkHello(b)
			_ = parseError(b).Error()
			_, _, _ = multipartBody(b, 1)
		}
	})
}

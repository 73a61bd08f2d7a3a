// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// learning remembers in table 63 the port by which packets of an address leave.
// Without the group, ports are chosen by the protocol.
const learning = `
table=0, priority=1,ip actions=set_field:0x5->reg12,resubmit(,63),resubmit(,1)
table=0, priority=1,ipv6 actions=set_field:0x6->reg12,resubmit(,63),resubmit(,1)
table=1, priority=3,tcp,reg13=0 actions=set_field:0x2->reg13,resubmit(,1)
table=1, priority=3,udp,reg13=0 actions=set_field:0x3->reg13,resubmit(,1)
table=1, priority=3,tcp6,reg13=0 actions=set_field:0x3->reg13,resubmit(,1)
table=1, priority=2,ip actions=learn(table=63,idle_timeout=30,hard_timeout=60,priority=9,cookie=0x7,reg12=0x5,eth_type=0x800,NXM_OF_IP_SRC[],load:NXM_NX_REG13[]->NXM_NX_REG13[]),output:NXM_NX_REG13[]
table=1, priority=2,ipv6 actions=learn(table=63,priority=9,eth_type=0x86dd,NXM_NX_REG12[],NXM_NX_IPV6_SRC[],load:0x2->NXM_NX_REG13[0..3]),output:NXM_NX_REG13[]
`

var learningTables = SwitchParams{Tables: []uint8{0, 1}, Learned: []uint8{63}}

// learningSteps hold for the fake and for a real switch: a packet, the port it
// leaves by, and what is known after it.
var learningSteps = []struct{ packet, want, learned string }{
	{"tcp,nw_src=10.0.0.1", "output:2", "table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13\n"},
	{"udp,nw_src=10.0.0.1", "output:2", "table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13\n"},
	{"udp,nw_src=10.0.0.2", "output:3", "table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13\n" +
		"table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.2 actions=set_field:0x3->reg13\n"},
	{"tcp6,ipv6_src=fd00::1", "output:3", "table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13\n" +
		"table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.2 actions=set_field:0x3->reg13\n" +
		"table=63, priority=9,ipv6,reg12=0x6,ipv6_src=fd00::1 actions=set_field:0x2/0xf->reg13\n"},
	{"tcp6,ipv6_src=fd00::1", "output:2", "table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13\n" +
		"table=63, priority=9,ip,reg12=0x5,nw_src=10.0.0.2 actions=set_field:0x3->reg13\n" +
		"table=63, priority=9,ipv6,reg12=0x6,ipv6_src=fd00::1 actions=set_field:0x2/0xf->reg13\n"},
}

func learningSwitch(t testing.TB) *Switch {
	t.Helper()
	sw := NewSwitch(learningTables)
	if err := sw.Update("test", parseFlows(t, learning), nil); err != nil {
		t.Fatal(err)
	}
	return sw
}

func TestLearn(t *testing.T) {
	sw := learningSwitch(t)
	dump := sw.Dump()
	for _, step := range learningSteps {
		v := sw.Trace(packetOf(t, step.packet))
		if v.String() != step.want {
			t.Errorf("%s: %v, want %s, met\n%s", step.packet, v, step.want, v.Met())
		}
		if diff := cmp.Diff(step.learned, sw.DumpLearned()); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.packet, diff)
		}
	}
	if diff := cmp.Diff(dump, sw.Dump()); diff != "" {
		t.Errorf("what is learned is among the flows of owners:\n%s", diff)
	}
	got, err := sw.LearnedFlows(t.Context(), 63)
	if err != nil || len(got) != 3 {
		t.Fatalf("%d flows, %v", len(got), err)
	}
	if f := got[0]; f.Packets != 1 || f.IdleTimeout != 30 || f.HardTimeout != 60 || f.Cookie != 7 || got[1].Packets != 0 || got[2].IdleTimeout != 0 {
		t.Errorf("learned %+v", got)
	}
	sw.Delete("test")
	if strings.Count(sw.DumpLearned(), "\n") != 3 {
		t.Error("what was learned goes with its teacher, in a switch it stays")
	}
	sw.ExpireLearned()
	if got := sw.DumpLearned(); got != "" {
		t.Errorf("left over:\n%s", got)
	}
}

func TestRemoveLearned(t *testing.T) {
	for _, tc := range []struct{ name, match, gone string }{
		{"one", "ip,reg12=5,nw_src=10.0.0.1", "nw_src=10.0.0.1 "},
		{"a set", "reg12=0x5", "reg12=0x5"},
		{"bits of it", "reg12=0x4/0x4", "reg12"},
		{"a prefix", "ip,nw_src=10.0.0.0/24", "nw_src"},
		{"another value", "reg12=0x7", "nothing"},
		{"more than it compares", "ip,reg12=5,nw_src=10.0.0.1,reg11=0", "nothing"},
		{"all", "", "table"},
	} {
		sw := learningSwitch(t)
		var want string
		for _, step := range learningSteps {
			sw.Trace(packetOf(t, step.packet))
		}
		for line := range strings.Lines(sw.DumpLearned()) {
			if !strings.Contains(line, tc.gone) {
				want += line
			}
		}
		f := parseFlows(t, "priority=1,"+tc.match+" actions=drop")[0]
		if err := sw.RemoveLearned(t.Context(), 63, []flow.Match{f.Match}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, sw.DumpLearned()); diff != "" {
			t.Errorf("%s (-want +left):\n%s", tc.name, diff)
		}
		if v := sw.Trace(packetOf(t, "udp,nw_src=10.0.0.1")); (v.String() == "output:3") != !strings.Contains(want, "nw_src=10.0.0.1 ") {
			t.Errorf("%s: a packet after it: %v, met\n%s", tc.name, v, v.Met())
		}
	}
}

func TestLearnRefused(t *testing.T) {
	sw := learningSwitch(t)
	for name, f := range map[string]string{
		"only the switch makes flows in table 63": "table=63,priority=1 actions=drop",
		"table 1 is not for what is learned":      "table=0,priority=7 actions=learn(table=1)",
		"table 9 is not for what is learned":      "table=0,priority=7 actions=learn(table=9)",
	} {
		if err := sw.Update("other", parseFlows(t, f), nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", f, err)
		}
	}
	if err := sw.RemoveLearned(t.Context(), 1, nil); err == nil {
		t.Error("flows of owners can be removed")
	}
	if err := sw.RemoveLearned(t.Context(), 63, []flow.Match{{flow.IPProto(6)}}); err == nil {
		t.Error("a match without its prerequisite is taken")
	}
	fault := errors.New("broken")
	sw.Fail(fault)
	if _, err := sw.LearnedFlows(t.Context(), 63); !errors.Is(err, fault) {
		t.Errorf("error %v", err)
	}
	if err := sw.RemoveLearned(t.Context(), 63, nil); !errors.Is(err, fault) {
		t.Errorf("error %v", err)
	}
}

func TestChoose(t *testing.T) {
	out := func(weight uint16, port uint32) flow.Bucket {
		return flow.Bucket{Weight: weight, Actions: []flow.Action{flow.Output{Port: port}}}
	}
	sw := NewSwitch(SwitchParams{Tables: []uint8{0}})
	flows := parseFlows(t, "table=0, priority=1,ip actions=group:1\ntable=0, priority=1,ipv6 actions=group:2\ntable=0, priority=1,arp actions=group:3")
	groups := []flow.Group{
		{ID: 1, Type: flow.GroupSelect, Buckets: []flow.Bucket{out(0, 2), out(1, 3), out(1, 4)}},
		{ID: 2, Type: flow.GroupSelect},
		{ID: 3, Type: flow.GroupIndirect, Buckets: []flow.Bucket{out(0, 5)}},
	}
	if err := sw.Update("test", flows, groups); err != nil {
		t.Fatal(err)
	}
	byPort := func(g flow.Group, p Packet) int {
		port, _ := p.Get(flow.FieldUDPSrc)
		return int(port.Value[1])
	}
	for _, tc := range []struct {
		name, packet, want string
		pick               func(flow.Group, Packet) int
	}{
		{"the first with a weight", "tcp", "output:3", nil},
		{"no bucket", "tcp6", "drop", nil},
		{"not a group to choose from", "arp", "output:5", func(flow.Group, Packet) int { return 7 }},
		{"chosen", "tcp", "output:4", func(flow.Group, Packet) int { return 2 }},
		{"chosen by the packet", "udp,udp_src=1", "output:3", byPort},
		{"no weight", "tcp", "error: group 1 has no bucket 0 with a weight", func(flow.Group, Packet) int { return 0 }},
		{"no such bucket", "tcp", "error: group 1 has no bucket 3 with a weight", func(flow.Group, Packet) int { return 3 }},
		{"below", "tcp", "error: group 1 has no bucket -1 with a weight", func(flow.Group, Packet) int { return -1 }},
	} {
		sw.Choose(tc.pick)
		if v := sw.Trace(packetOf(t, tc.packet)); v.String() != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, v, tc.want)
		}
	}
}

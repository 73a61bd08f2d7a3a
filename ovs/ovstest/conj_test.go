// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

func parseFlows(t testing.TB, text string) []flow.Flow {
	t.Helper()
	var out []flow.Flow
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		f, err := flow.ParseFlow(line)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func filled(t testing.TB, flows []flow.Flow, tables ...uint8) *Switch {
	t.Helper()
	sw := NewSwitch(SwitchParams{Tables: tables})
	if err := sw.Update("test", flows, nil); err != nil {
		t.Fatal(err)
	}
	return sw
}

// conjunctive is one table. Its cases hold for the fake and for a real switch.
const conjunctive = `
table=0, priority=100,reg6=1 actions=conjunction(1,1/3),conjunction(2,1/2)
table=0, priority=100,reg6=2 actions=conjunction(1,1/3)
table=0, priority=100,reg2=1 actions=conjunction(1,2/3)
table=0, priority=100,reg3=1 actions=conjunction(1,2/3)
table=0, priority=100,tcp,reg7=80 actions=conjunction(1,3/3)
table=0, priority=100,tcp6,reg7=80 actions=conjunction(1,3/3)
table=0, priority=100,udp actions=conjunction(1,3/3)
table=0, priority=100,reg2=9 actions=conjunction(2,2/2)
table=0, priority=100,conj_id=1,ip actions=output:2
table=0, priority=100,conj_id=1,ipv6 actions=output:3
table=0, priority=90,reg6=1 actions=conjunction(3,1/2)
table=0, priority=90,reg2=9 actions=conjunction(3,2/2)
table=0, priority=90,reg2=8 actions=conjunction(3,2/2)
table=0, priority=90,conj_id=3,ip actions=output:4
table=0, priority=80,reg6=2 actions=output:5
table=0, priority=120,udp,reg7=53 actions=output:6
table=0, priority=10,ipv6 actions=output:7
`

var conjunctiveCases = []struct{ name, packet, want string }{
	{"every clause", "tcp,reg6=1,reg2=1,reg7=80", "output:2"},
	{"the peer by the other register", "tcp,reg6=2,reg3=1,reg7=80", "output:2"},
	{"a clause twice is a clause once", "tcp,reg6=2,reg2=1,reg3=1,reg7=80", "output:2"},
	{"the number decides with other fields", "tcp6,reg6=1,reg2=1,reg7=80", "output:3"},
	{"another port", "tcp,reg6=1,reg2=1,reg7=81", "drop"},
	{"any port of a protocol", "udp,reg6=1,reg2=1,reg7=81", "output:2"},
	{"no subject", "tcp,reg6=3,reg2=1,reg7=80", "drop"},
	{"clauses of a lower priority", "tcp,reg6=1,reg2=8,reg7=81", "output:4"},
	{"a plain flow below", "tcp,reg6=2,reg2=5,reg7=80", "output:5"},
	{"a plain flow below is hidden", "tcp,reg6=2,reg2=1,reg7=80", "output:2"},
	{"a plain flow above", "udp,reg6=1,reg2=1,reg7=53", "output:6"},
	{"number without a flow, clauses below", "tcp,reg6=1,reg2=9,reg7=81", "output:4"},
	{"number without a flow takes any flow", "tcp6,reg6=1,reg2=9,reg7=81", "output:7"},
	{"nothing", "tcp,reg6=7", "drop"},
}

func packetOf(t testing.TB, text string) Packet {
	t.Helper()
	f, err := flow.ParseFlow("in_port=1," + text + " actions=drop")
	if err != nil {
		t.Fatal(err)
	}
	return f.Match
}

func TestConjunctions(t *testing.T) {
	sw := filled(t, parseFlows(t, conjunctive), 0)
	for _, tc := range conjunctiveCases {
		if v := sw.Trace(packetOf(t, tc.packet)); v.String() != tc.want {
			t.Errorf("%s: %v, want %s, met\n%s", tc.name, v, tc.want, v.Met())
		}
	}
}

func TestConjunctionsOfOnePriority(t *testing.T) {
	sw := filled(t, parseFlows(t, `
table=0, priority=5,reg6=1 actions=conjunction(1,1/2),conjunction(2,1/2)
table=0, priority=5,reg2=1 actions=conjunction(1,2/2),conjunction(2,2/2)
table=0, priority=5,conj_id=1 actions=output:2
table=0, priority=5,conj_id=2 actions=output:3
table=0, priority=5,reg7=1 actions=output:4
`), 0)
	v := sw.Trace(packetOf(t, "tcp,reg6=1,reg2=1"))
	if v.String() != "output:2" || v.Choices != 1 {
		t.Errorf("two are complete: %v with %d choices", v, v.Choices)
	}
	v = sw.Trace(packetOf(t, "tcp,reg6=1,reg2=1,reg7=1"))
	if v.Err == nil || !strings.Contains(v.Err.Error(), "both match") {
		t.Errorf("a plain flow of the same priority: %v, want an error", v)
	}
	if v = sw.Trace(packetOf(t, "tcp,reg6=1,reg7=1")); v.String() != "output:4" {
		t.Errorf("a plain flow beside an incomplete match: %v", v)
	}
}

// randomTable is a table with plain and conjunctive flows that overlap.
func randomTable(r *rand.Rand, table uint8) []flow.Flow {
	flows := map[flow.Key]flow.Flow{}
	match := func() flow.Match {
		var m flow.Match
		for _, reg := range []int{2, 3, 6} {
			if r.IntN(4) == 0 {
				m = append(m, flow.Reg(reg, uint32(r.IntN(3)), ^uint32(0)))
			}
		}
		if r.IntN(3) == 0 {
			m = append(m, flow.Reg(7, r.Uint32N(16), []uint32{0xf, 0xe, 0xc}[r.IntN(3)]))
		}
		switch r.IntN(4) {
		case 0:
			m = append(m, flow.EthType(flow.EthTypeIPv4), flow.IPProto([]uint8{flow.ProtoTCP, flow.ProtoUDP}[r.IntN(2)]))
		case 1:
			m = append(m, flow.EthType(flow.EthTypeIPv4))
		}
		return m
	}
	out := func() []flow.Action { return []flow.Action{flow.Output{Port: 2 + r.Uint32N(19)}} }
	for id := range uint32(1 + r.IntN(5)) {
		n := uint8(2 + r.IntN(2))
		priority := uint16(10 + 10*r.IntN(3))
		for clause := range n {
			for range 1 + r.IntN(4) {
				f := flow.Flow{Table: table, Priority: priority, Match: match()}
				f.Actions = append(slices.Clone(flows[f.Key()].Actions), flow.Conjunction{ID: id + 1, Clause: clause + 1, N: n})
				if f.Check() == nil {
					flows[f.Key()] = f
				}
			}
		}
		for range r.IntN(3) {
			f := flow.Flow{Table: table, Priority: uint16(1 + r.IntN(40)), Match: match(), Actions: out()}
			f.Match = append(f.Match, flow.Uint(flow.FieldConjID, uint64(id+1)))
			flows[f.Key()] = f
		}
	}
	for range r.IntN(6) {
		f := flow.Flow{Table: table, Priority: uint16(1 + r.IntN(40)), Match: match(), Actions: out()}
		if _, taken := flows[f.Key()]; !taken {
			flows[f.Key()] = f
		}
	}
	return slices.Collect(maps.Values(flows))
}

func randomPacket(r *rand.Rand, table uint8) Packet {
	proto := flow.ProtoTCP
	if r.IntN(2) == 0 {
		proto = flow.ProtoUDP
	}
	return Packet{
		flow.InPort(1), flow.Uint(flow.FieldMetadata, uint64(table)),
		flow.EthType(flow.EthTypeIPv4), flow.IPProto(proto),
		flow.Reg(2, uint32(r.IntN(3)), ^uint32(0)), flow.Reg(3, uint32(r.IntN(3)), ^uint32(0)),
		flow.Reg(6, uint32(r.IntN(3)), ^uint32(0)), flow.Reg(7, r.Uint32N(16), ^uint32(0)),
	}
}

// byMetadata leads a packet to the table that its metadata names.
func byMetadata(tables int) []flow.Flow {
	var out []flow.Flow
	for n := range tables {
		out = append(out, flow.Flow{
			Priority: 1, Match: flow.Match{flow.Uint(flow.FieldMetadata, uint64(n+1))},
			Actions: []flow.Action{flow.GotoTable{Table: uint8(n + 1)}},
		})
	}
	return out
}

// TestLookupAgreesWithScan compares the index with a look at every flow.
func TestLookupAgreesWithScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		flows := randomTable(r, 0)
		for i := range flows {
			if _, ok := flows[i].Actions[0].(flow.Conjunction); ok {
				flows[i].Actions = nil
			}
		}
		sw := filled(t, flows, 0)
		// Take some away again, so that removal is looked at too.
		var gone []flow.Key
		for len(flows) > 2 && r.IntN(3) > 0 {
			gone = append(gone, flows[0].Key())
			flows = flows[1:]
		}
		if err := sw.Patch(flow.Change{Owner: "test", Remove: gone}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			p := randomPacket(r, 0)
			s := newState(p)
			var hard best
			for _, f := range flows {
				if matches(s, f.Match) {
					hard.offer(&rule{flow: f})
				}
			}
			var got *rule
			var err error
			if tb := sw.index[0]; tb != nil {
				got, _, err = tb.lookup(s)
			}
			want, wantErr := hard.result()
			if (err == nil) != (wantErr == nil) || (got == nil) != (want == nil) || got != nil && got.flow.Key() != want.flow.Key() {
				t.Fatalf("%s: %v %v, want %v %v", p, got, err, want, wantErr)
			}
		}
	}
}

func matches(s *state, m flow.Match) bool {
	for _, fm := range m {
		for i, b := range s.get(fm.Field) {
			mask := byte(0xff)
			if fm.Mask != nil {
				mask = fm.Mask[i]
			}
			if b&mask != fm.Value[i] {
				return false
			}
		}
	}
	return true
}

func TestSwitchPatch(t *testing.T) {
	sw := filled(t, parseFlows(t, "table=0, priority=1,in_port=1 actions=drop\ntable=0, priority=1,in_port=2 actions=drop"), 0)
	a := parseFlows(t, "table=0, priority=1,in_port=1 actions=output:9")[0]
	b := parseFlows(t, "table=0, priority=1,in_port=3 actions=drop")[0]
	for _, tc := range []struct {
		name    string
		changes []flow.Change
		want    string
	}{
		{"other's flow", []flow.Change{{Owner: "test", Set: []flow.Flow{b}}, {Owner: "b", Set: []flow.Flow{a}}}, "which test has declared"},
		{"remove other's flow", []flow.Change{{Owner: "b", Remove: []flow.Key{a.Key()}}}, "which test has declared"},
		{"unknown table", []flow.Change{{Owner: "b", Set: []flow.Flow{{Table: 3}}}}, "no table 3"},
		{"twice", []flow.Change{{Owner: "b", Set: []flow.Flow{b}}, {Owner: "c", Set: []flow.Flow{b}}}, "named twice"},
		{"set and removed", []flow.Change{{Owner: "test", Set: []flow.Flow{a}, Remove: []flow.Key{a.Key()}}}, "both set and removed"},
	} {
		before := sw.Dump()
		if err := sw.Patch(tc.changes...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
		if diff := cmp.Diff(before, sw.Dump()); diff != "" {
			t.Errorf("%s: changed the switch:\n%s", tc.name, diff)
		}
	}
	err := sw.Patch(
		flow.Change{Owner: "b", Set: []flow.Flow{a, b}},
		flow.Change{Owner: "test", Remove: []flow.Key{a.Key(), {Table: 0, Priority: 77}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := "table=0, priority=1,in_port=1 actions=output:9\ntable=0, priority=1,in_port=2 actions=drop\ntable=0, priority=1,in_port=3 actions=drop\n"
	if diff := cmp.Diff(want, sw.Dump()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	sw.Delete("test")
	if diff := cmp.Diff([]string{"b"}, sw.Owners()); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkTrace has conjunctive flows of 10,000 rules and 20,000 addresses.
func BenchmarkTrace(b *testing.B) {
	var flows []flow.Flow
	const rules, addresses = 10000, 20000
	all := ^uint32(0)
	for i := range uint32(rules) {
		flows = append(flows,
			flow.Flow{Table: 2, Priority: 100, Match: flow.Match{flow.Uint(flow.FieldConjID, uint64(i+1))}, Actions: []flow.Action{flow.Output{Port: 2}}},
			flow.Flow{Table: 2, Priority: 100, Match: flow.Match{flow.Reg(2, i+1, all)}, Actions: []flow.Action{flow.Conjunction{ID: i + 1, Clause: 2, N: 2}}},
		)
	}
	for pod := range uint32(100) {
		f := flow.Flow{Table: 2, Priority: 100, Match: flow.Match{flow.Reg(6, pod+1, all)}}
		for i := pod; i < rules; i += 100 {
			f.Actions = append(f.Actions, flow.Conjunction{ID: i + 1, Clause: 1, N: 2})
		}
		flows = append(flows, f)
	}
	for i := range uint32(addresses) {
		flows = append(flows, flow.Flow{
			Table: 1, Priority: 100, Match: flow.Match{flow.EthType(flow.EthTypeIPv4), flow.Reg(12, i, all)},
			Actions: []flow.Action{flow.SetReg(2, i%rules+1, all)},
		})
	}
	for _, line := range []string{
		"table=0, priority=1,ip actions=move:NXM_OF_IP_DST[]->NXM_NX_REG12[],set_field:1->reg6,resubmit(,1),goto_table:2",
	} {
		flows = append(flows, parseFlows(b, line)...)
	}
	sw := filled(b, flows, 0, 1, 2)
	b.ReportAllocs()
	n := uint32(0)
	for b.Loop() {
		p := Packet{
			flow.InPort(1), flow.EthType(flow.EthTypeIPv4), flow.IPProto(flow.ProtoTCP),
			flow.Uint(flow.FieldIPDst, uint64(n%addresses)),
		}
		n += 100
		if v := sw.Trace(p); v.Err != nil {
			b.Fatal(fmt.Errorf("%s: %w", p, v.Err))
		}
	}
}

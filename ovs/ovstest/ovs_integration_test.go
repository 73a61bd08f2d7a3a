// SPDX-License-Identifier: Apache-2.0

//go:build integration

package ovstest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
)

func TestTraceAgreesWithOVS(t *testing.T) {
	t.Parallel()
	o := StartOVS(t)
	o.AddBridge("br-int", DatapathDummy)
	for n := uint32(1); n <= 4; n++ {
		o.AddPort("br-int", "p"+string(rune('0'+n)), "dummy", n)
	}
	sw := NewSwitch(SwitchParams{Tables: []uint8{0, 10, 20}})
	flows := traceFlows(t)
	if err := sw.Update("test", flows, []flow.Group{traceGroup}); err != nil {
		t.Fatal(err)
	}
	o.Ofctl("add-group", o.Socket("br-int"), traceGroup.String())
	for _, f := range flows {
		o.Ofctl("add-flow", o.Socket("br-int"), f.String())
	}
	for _, tc := range traceCases {
		if got, trace := o.Trace("br-int", tc.packet); got != tc.want {
			t.Errorf("%s: %s, want %s\n%s", tc.name, got, tc.want, trace)
		}
	}
	var want strings.Builder
	for _, f := range sw.Flows() {
		want.WriteString(f.String() + "\n")
	}
	if got := o.Dump("br-int"); got != want.String() {
		t.Errorf("dump differs from what was added:\n%s\nwant\n%s", got, want.String())
	}
}

// withPorts starts a switch with ports 1 to n and these flows.
func withPorts(t *testing.T, n uint32, flows []flow.Flow) *OVS {
	t.Helper()
	o := StartOVS(t)
	o.AddBridge("br-int", DatapathDummy)
	for i := range n {
		o.AddPort("br-int", fmt.Sprintf("p%d", i+1), "dummy", i+1)
	}
	var text strings.Builder
	for _, f := range flows {
		text.WriteString(f.String() + "\n")
	}
	path := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Ofctl("--bundle", "add-flows", o.Socket("br-int"), path)
	return o
}

func TestConjunctionsAgreeWithOVS(t *testing.T) {
	t.Parallel()
	o := withPorts(t, 7, parseFlows(t, conjunctive))
	for _, tc := range conjunctiveCases {
		if got, trace := o.Trace("br-int", packetOf(t, tc.packet)); got != tc.want {
			t.Errorf("%s: %s, want %s\n%s", tc.name, got, tc.want, trace)
		}
	}
}

func TestStatesAgreeWithOVS(t *testing.T) {
	t.Parallel()
	o := withPorts(t, 9, trackedFlows(t))
	for _, tc := range stateCases {
		if got, trace := o.Trace("br-int", statePacket(tc.mark), tc.next); got != tc.want {
			t.Errorf("%s: %s, want %s\n%s", tc.name, got, tc.want, trace)
		}
	}
}

func TestRandomConjunctionsAgreeWithOVS(t *testing.T) {
	t.Parallel()
	const tables, packets = 250, 3
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	flows := byMetadata(tables)
	ids := []uint8{0}
	for n := range uint8(tables) {
		flows = append(flows, randomTable(r, n+1)...)
		ids = append(ids, n+1)
	}
	sw := filled(t, flows, ids...)
	o := withPorts(t, 20, flows)
	var same, byConjunction, choices, unclear int
	for n := range uint8(tables) {
		for range packets {
			p := randomPacket(r, n+1)
			v := sw.Trace(p)
			if v.Choices > 0 {
				choices++
				continue
			}
			if v.Err != nil {
				unclear++
				continue
			}
			if len(v.Flows) > 1 && strings.Contains(v.Flows[1].String(), "conj_id") {
				byConjunction++
			}
			got, trace := o.Trace("br-int", p)
			if got != v.String() {
				t.Errorf("seed %d: %s: the switch says %s, the fake %v, met\n%s%s", seed, p, got, v, v.Met(), trace)
				continue
			}
			same++
		}
	}
	t.Logf("%d agree, %d of them by a conjunctive match; %d with a choice, %d ambiguous", same, byConjunction, choices, unclear)
	if byConjunction < 20 {
		t.Errorf("only %d conjunctive matches: the tables are not telling", byConjunction)
	}
}

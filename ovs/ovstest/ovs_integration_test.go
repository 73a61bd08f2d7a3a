// SPDX-License-Identifier: Apache-2.0

//go:build integration

package ovstest

import (
	"strings"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
)

func TestTraceAgreesWithOVS(t *testing.T) {
	t.Parallel()
	o := StartOVS(t)
	o.AddBridge("br-int", DatapathDummy)
	for n := uint32(1); n <= 3; n++ {
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

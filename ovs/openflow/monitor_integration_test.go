// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openflow_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// TestChangesAreHeardOf: without the regular audits, what somebody else does to
// flows is repaired, and neither what the Target does nor what the switch learns is
// taken for that.
func TestChangesAreHeardOf(t *testing.T) {
	t.Parallel()
	o := startOVS(t)
	target, _ := start(t, o, time.Hour)
	flows := everyFlow(t)
	update(t, target, "all", flows, everyGroup...)
	target.Complete()
	syncAll(t, target)
	want := dump(flows)
	for _, command := range [][]string{
		{"del-flows", o.Socket(bridge)},
		{"del-flows", "--strict", o.Socket(bridge), "table=0,priority=10,in_port=3"},
		{"mod-flows", "--strict", o.Socket(bridge), "table=0,priority=10,in_port=3 actions=drop"},
		{"add-flow", o.Socket(bridge), "table=78,tcp actions=drop"},
	} {
		repairs := target.Stats().Repairs
		o.Ofctl(command...)
		eventually(t, fmt.Sprint(command), func() bool { return target.Stats().Repairs > repairs })
		if got := o.Dump(bridge); got != want {
			t.Errorf("after %v: %s", command, got)
		}
	}

	before := target.Stats()
	many := make([]flow.Flow, 0, 5000)
	for i := range cap(many) {
		many = append(many, parse(t, fmt.Sprintf("table=%d, priority=%d,in_port=3 actions=drop", 20+i%5, 1+i/5))...)
	}
	update(t, target, "many", many)
	syncAll(t, target)
	o.Ofctl("add-flow", o.Socket(bridge), "table=63,priority=1,ip actions=drop")
	target.Delete("many")
	syncAll(t, target)
	o.Ofctl("del-flows", "--strict", o.Socket(bridge), "table=0,priority=10,in_port=3")
	eventually(t, "repaired after that", func() bool { return target.Stats().Repairs > before.Repairs })
	if after := target.Stats(); after.Audits != before.Audits+1 || after.Repairs != before.Repairs+1 {
		t.Errorf("%d audits and %d repairs, want one", after.Audits-before.Audits, after.Repairs-before.Repairs)
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openflow_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

// sticky remembers in table 63 by which port the packets of an address go out,
// which group 5 chooses.
const sticky = `table=0, priority=1,ip,in_port=1 actions=set_field:0x5->reg12,resubmit(,63),resubmit(,1)
table=1, priority=2,ip,reg13=0 actions=group:5
table=1, priority=1,ip,reg12=0x5,reg13=0x2 actions=learn(table=63,idle_timeout=IDLE,priority=100,cookie=0x5,reg12=0x5,eth_type=0x800,NXM_OF_IP_SRC[],load:NXM_NX_REG13[]->NXM_NX_REG13[]),ct(commit,table=2,zone=7,nat(dst=10.0.0.9:80))
table=2, priority=1,ip actions=output:2`

var stickyGroup = flow.Group{ID: 5, Type: flow.GroupSelect, Buckets: []flow.Bucket{
	{Weight: 1, Actions: []flow.Action{flow.SetReg(13, 2, ^uint32(0)), flow.Resubmit{Table: 1}}},
}}

// startLearning starts a Target that leaves table 63 to the switch.
func startLearning(t *testing.T, o *ovstest.OVS, idle uint16) (*openflow.Target, func()) {
	t.Helper()
	target := openflow.New(openflow.Params{Socket: o.Socket(bridge), AuditInterval: 20 * time.Millisecond, Learned: []uint8{63}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := target.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	flows := strings.ReplaceAll(sticky, "IDLE", strconv.Itoa(int(idle)))
	update(t, target, "sticky", parse(t, strings.Split(flows, "\n")...), stickyGroup)
	target.Complete()
	syncAll(t, target)
	return target, stop
}

func startPorts(t *testing.T) *ovstest.OVS {
	t.Helper()
	o := startOVS(t)
	for n := range uint32(3) {
		o.AddPort(bridge, fmt.Sprintf("p%d", n+1), "dummy", n+1)
	}
	return o
}

// send has a packet come in by port 1.
func send(o *ovstest.OVS, src string, srcPort int) {
	o.Appctl("netdev-dummy/receive", "p1", fmt.Sprintf("in_port(1),eth(src=0a:00:00:00:00:01,dst=0a:00:00:00:00:02),eth_type(0x0800),"+
		"ipv4(src=%s,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=%d,dst=53)", src, srcPort))
}

// learned are the flows of table 63.
func learned(o *ovstest.OVS) string {
	var b strings.Builder
	for _, f := range o.Flows(bridge) {
		if f.Table == 63 {
			b.WriteString(f.String() + "\n")
		}
	}
	return b.String()
}

// TestLearnedFlowsStay: what the switch has learned survives a restart of the
// agent, its Complete and its audits, and is no reason to send anything.
func TestLearnedFlowsStay(t *testing.T) {
	t.Parallel()
	o := startPorts(t)
	first, stop := startLearning(t, o, 10800)
	send(o, "10.0.0.1", 1000)
	const want = "cookie=0x5, table=63, priority=100,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13\n"
	eventually(t, "the switch to learn", func() bool { return learned(o) != "" })
	if diff := cmp.Diff(want, learned(o)); diff != "" {
		t.Errorf("learned (-want +got):\n%s", diff)
	}
	audits := first.Stats().Audits
	eventually(t, "audits", func() bool { return first.Stats().Audits > audits+3 })
	if s := first.Stats(); s.Repairs != 0 || mods(s) != 5 {
		t.Errorf("audits with something learned: %+v", s)
	}
	stop()
	again, _ := startLearning(t, o, 10800)
	eventually(t, "audits", func() bool { return again.Stats().Audits > 3 })
	if s := again.Stats(); s.Repairs != 0 || mods(s) != 0 {
		t.Errorf("a restart: %+v", s)
	}
	if diff := cmp.Diff(want, learned(o)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if out := o.Ofctl("dump-flows", o.Socket(bridge), "table=63"); !strings.Contains(out, "idle_timeout=10800") {
		t.Errorf("no timeout: %s", out)
	}
}

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

// TestLearnedFlowsAreCounted: who reads twice sees which flow no packet met, and
// can remove that.
func TestLearnedFlowsAreCounted(t *testing.T) {
	t.Parallel()
	o := startPorts(t)
	target, _ := startLearning(t, o, 0)
	read := func() map[string]openflow.LearnedFlow {
		list, err := target.LearnedFlows(deadline(t), 63)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]openflow.LearnedFlow{}
		for _, f := range list {
			source, _ := f.Match.Get(flow.FieldIPSrc)
			out[source.String()] = f
		}
		return out
	}
	const one, two, three = "ip_src=10.0.0.1", "ip_src=10.0.0.2", "ip_src=10.0.0.3"
	for i, src := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		send(o, src, 1000+i)
	}
	eventually(t, "the switch to learn", func() bool { return len(read()) == 3 })
	before := read()
	want := parse(t, "cookie=0x5, table=63, priority=100,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13")[0]
	if f := before[one]; !f.Equal(want) || f.IdleTimeout != 0 || f.HardTimeout != 0 {
		t.Errorf("learned %+v, want %v", f, want)
	}
	// Each teaches the same again, which must not start the counter anew.
	for i := range 3 {
		send(o, "10.0.0.2", 2000+i)
	}
	eventually(t, "packets to be counted", func() bool { return read()[two].Packets >= before[two].Packets+3 })
	if after := read(); after[one].Packets != before[one].Packets || after[three].Packets != before[three].Packets {
		t.Errorf("idle flows counted: %+v, before %+v", after, before)
	}
	remove := func(m ...flow.Match) {
		t.Helper()
		if err := target.RemoveLearned(deadline(t), 63, m); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	remove(before[one].Match, before[three].Match)
	if got := read(); len(got) != 1 || got[two].Table != 63 {
		t.Errorf("left: %+v", got)
	}
	remove(flow.Match{flow.Reg(12, 6, ^uint32(0))})
	if got := read(); len(got) != 1 {
		t.Errorf("another set was removed, left: %+v", got)
	}
	remove(flow.Match{flow.Reg(12, 5, ^uint32(0))})
	if got := read(); len(got) != 0 {
		t.Errorf("left of the set: %+v", got)
	}
	// The client is taught anew: with its first packet, or with a later one if the
	// datapath still had what it remembered of the last.
	port := 3000
	eventually(t, "the switch to learn again", func() bool {
		send(o, "10.0.0.2", port)
		port++
		return len(read()) == 1
	})
	for _, f := range o.Flows(bridge) {
		if f.Table != 63 {
			remove(f.Match)
		}
	}
	if s := target.Stats(); s.Repairs != 0 || len(o.Flows(bridge)) != 4+len(read()) {
		t.Errorf("flows of an owner were removed: %+v\n%s", s, o.Dump(bridge))
	}
}

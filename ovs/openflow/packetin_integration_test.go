// SPDX-License-Identifier: Apache-2.0

//go:build integration

package openflow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

// reporting sends what comes in by a port to the controller.
const reporting = `table=0, priority=1,tcp,in_port=1 actions=set_field:0xbeef->reg5,ct(table=44,zone=9)
table=0, priority=1,udp,in_port=1 actions=controller(max_len=64,meter_id=3)
table=44, priority=7,ct_state=+trk,ip actions=controller(max_len=64,userdata=01.02.03)`

func startReporting(t *testing.T) (*ovstest.OVS, *openflow.Target) {
	t.Helper()
	o := startOVS(t)
	o.AddPort(bridge, "p1", "dummy", 1)
	o.AddPort(bridge, "p2", "dummy", 2)
	target := openflow.New(openflow.Params{
		Socket: o.Socket(bridge), AuditInterval: 20 * time.Millisecond,
		Meters: []flow.Meter{{ID: 3, Rate: 1, Burst: 5}, {ID: 4, Rate: 100}},
	})
	runUntilEnd(t, target.Run)
	update(t, target, "reports", parse(t, strings.Split(reporting, "\n")...))
	target.Complete()
	syncAll(t, target)
	return o, target
}

func runUntilEnd(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// packet is in the words of ovs-dpctl.
func packet(proto int, dstPort int) string {
	l4 := fmt.Sprintf("tcp(src=1000,dst=%d),tcp_flags(syn)", dstPort)
	if proto == 17 {
		l4 = fmt.Sprintf("udp(src=1000,dst=%d)", dstPort)
	}
	return fmt.Sprintf("in_port(1),eth(src=0a:00:00:00:00:01,dst=0a:00:00:00:00:02),eth_type(0x0800),"+
		"ipv4(src=10.0.0.1,dst=10.0.0.2,proto=%d,tos=0,ttl=64,frag=no),%s", proto, l4)
}

// listen has the packets of both tables arrive in one queue.
func listen(t *testing.T, o *ovstest.OVS) (*openflow.PacketIns, *openflow.PacketQueue) {
	t.Helper()
	q := openflow.NewPacketQueue(openflow.PacketQueueParams{Tables: []uint8{0, 44}, Size: 1000})
	in := openflow.NewPacketIns(openflow.PacketInsParams{Socket: o.Socket(bridge), Queues: []*openflow.PacketQueue{q}})
	runUntilEnd(t, in.Run)
	return in, q
}

func next(t *testing.T, in *openflow.PacketQueue) openflow.PacketIn {
	t.Helper()
	select {
	case p := <-in.Packets():
		return p
	case <-deadline(t).Done():
		t.Fatal("no packet arrives")
		return openflow.PacketIn{}
	}
}

func TestPacketInsArrive(t *testing.T) {
	t.Parallel()
	o, target := startReporting(t)
	connection, in := listen(t, o)
	// The listener connects at some time.
	eventually(t, "the first packet", func() bool {
		o.Appctl("netdev-dummy/receive", "p1", packet(6, 79), "--len", "200")
		select {
		case <-in.Packets():
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	o.Appctl("netdev-dummy/receive", "p1", packet(6, 80), "--len", "200")
	var got openflow.PacketIn
	for {
		if got = next(t, in); len(got.Data) > 37 && got.Data[37] == 80 {
			break
		}
	}
	if got.Table != 44 || got.Cookie != openflow.Cookie("reports") || got.Length != 200 || len(got.Data) != 200 {
		t.Errorf("table %d, cookie %#x, %d of %d bytes", got.Table, got.Cookie, len(got.Data), got.Length)
	}
	if diff := cmp.Diff([]byte{1, 2, 3}, got.Userdata); diff != "" {
		t.Errorf("userdata (-want +got):\n%s", diff)
	}
	if text := got.Metadata.String(); !strings.Contains(text, "reg5=0xbeef") || !strings.Contains(text, "in_port=1") ||
		!strings.Contains(text, "ct_state=+new") || !strings.Contains(text, "ct_zone=9") {
		t.Errorf("metadata %s", text)
	}
	if in.Lost() != 0 || connection.Malformed() != 0 {
		t.Errorf("%d lost, %d malformed", in.Lost(), connection.Malformed())
	}
	if out := o.Ofctl("get-frags", o.Socket(bridge)); !strings.Contains(out, "nx-match") {
		t.Errorf("fragment mode: %s", out)
	}
	checkCounters(t, target)
}

// checkCounters: the packets were counted.
func checkCounters(t *testing.T, target *openflow.Target) {
	t.Helper()
	at := parse(t, strings.Split(reporting, "\n")...)[2].Key()
	read := func(f openflow.CounterFilter) map[flow.Key]openflow.FlowCounter {
		list, err := target.Counters(deadline(t), f)
		if err != nil {
			t.Fatal(err)
		}
		out := map[flow.Key]openflow.FlowCounter{}
		for _, c := range list {
			out[c.Key] = c
		}
		return out
	}
	eventually(t, "packets to be counted", func() bool { return read(openflow.CounterFilter{})[at].Packets >= 2 })
	c := read(openflow.CounterFilter{})[at]
	if c.Bytes != 200*c.Packets || c.Cookie != openflow.Cookie("reports") {
		t.Errorf("counters %+v", c)
	}
	for _, tc := range []struct {
		filter openflow.CounterFilter
		want   int
	}{
		{openflow.CounterFilter{}, 3},
		{openflow.CounterFilter{Owners: []string{"reports"}}, 3},
		{openflow.CounterFilter{Owners: []string{"nobody"}}, 0},
		{openflow.CounterFilter{Owners: []string{"nobody", "reports"}, Tables: []uint8{0}}, 2},
		{openflow.CounterFilter{Tables: []uint8{44, 45}}, 1},
	} {
		if got := read(tc.filter); len(got) != tc.want {
			t.Errorf("%+v: %d flows, want %d", tc.filter, len(got), tc.want)
		}
	}
}

func TestMeterLimitsPacketIns(t *testing.T) {
	t.Parallel()
	o, target := startReporting(t)
	_, in := listen(t, o)
	eventually(t, "the first packet", func() bool {
		o.Appctl("netdev-dummy/receive", "p1", packet(6, 79))
		select {
		case <-in.Packets():
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	args := []string{"netdev-dummy/receive", "p1"}
	for i := range 200 {
		args = append(args, packet(17, 1+i%2))
	}
	o.Appctl(args...)
	// A packet of the other flow, which has no limit, comes last.
	o.Appctl("netdev-dummy/receive", "p1", packet(6, 4242))
	reports := 0
	for {
		p := next(t, in)
		if p.Table == 0 {
			reports++
			continue
		}
		if len(p.Data) > 37 && int(p.Data[36])<<8+int(p.Data[37]) == 4242 {
			break
		}
	}
	if reports == 0 || reports > 20 {
		t.Errorf("%d of 200 packets were reported, the meter lets 5 through and 1 a second", reports)
	}
	t.Logf("%d of 200 packets were reported", reports)

	want := o.Ofctl("dump-meters", o.Socket(bridge))
	if !strings.Contains(want, "meter=3 pktps burst") || !strings.Contains(want, "meter=4 pktps bands") {
		t.Errorf("meters:\n%s", want)
	}
	for _, command := range [][]string{
		{"del-meters", o.Socket(bridge)},
		{"mod-meter", o.Socket(bridge), "meter=3 pktps bands=type=drop rate=9"},
		{"add-meter", o.Socket(bridge), "meter=9 kbps bands=type=drop rate=9"},
	} {
		o.Ofctl(command...)
		eventually(t, command[0], func() bool { return o.Ofctl("dump-meters", o.Socket(bridge)) == want })
	}
	if s := target.Stats(); s.Repairs < 3 {
		t.Errorf("stats %+v", s)
	}
	// Put there again, the meters are those that were there.
	again := openflow.New(openflow.Params{Socket: o.Socket(bridge), AuditInterval: 20 * time.Millisecond, Meters: []flow.Meter{{ID: 3, Rate: 1, Burst: 5}, {ID: 4, Rate: 100}}})
	runUntilEnd(t, again.Run)
	eventually(t, "audits", func() bool { return again.Stats().Audits > 3 })
	if s := again.Stats(); s.Repairs != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestInject(t *testing.T) {
	t.Parallel()
	o, target := startReporting(t)
	_, in := listen(t, o)
	frame := make([]byte, 60)
	copy(frame, []byte{0x0a, 0, 0, 0, 0, 2, 0x0a, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6})
	sum := uint32(0)
	copy(frame[26:], []byte{10, 0, 0, 1, 10, 0, 0, 2, 3, 232, 0, 80})
	frame[46] = 0x50
	frame[47] = 2
	for i := 14; i < 34; i += 2 {
		sum += uint32(frame[i])<<8 | uint32(frame[i+1])
	}
	sum = ^(sum + sum>>16)
	frame[24], frame[25] = byte(sum>>8), byte(sum)
	actions := []flow.Action{flow.SetReg(9, 77, ^uint32(0)), flow.Resubmit{Table: 0}}
	var got openflow.PacketIn
	eventually(t, "the packet to come back", func() bool {
		if err := target.Inject(deadline(t), 1, frame, actions); err != nil {
			t.Fatal(err)
		}
		select {
		case got = <-in.Packets():
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	if text := got.Metadata.String(); got.Table != 44 || !strings.Contains(text, "in_port=1") || !strings.Contains(text, "reg9=0x4d") {
		t.Errorf("table %d, metadata %s", got.Table, text)
	}
	for _, bad := range [][]flow.Action{{flow.ToGroup{ID: 4711}}, {flow.GotoTable{Table: 3}}, {nil}} {
		if err := target.Inject(deadline(t), 1, frame, bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package refuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"go.uber.org/goleak"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a Switch that keeps what is injected.
type recorder struct {
	t      testing.TB
	frames [][]byte
	err    error
	hang   bool
}

func (r *recorder) Inject(ctx context.Context, inPort uint32, frame []byte, actions []flow.Action) error {
	if r.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if d := cmp.Diff(pipeline.ToClient(), actions); d != "" || inPort != flow.PortController {
		r.t.Errorf("injected by port %d, actions (-want +got):\n%s", inPort, d)
	}
	r.frames = append(r.frames, bytes.Clone(frame))
	return r.err
}

// frame goes from a client to a Service.
func frame(t testing.TB, v6 bool, protocol layers.IPProtocol, above ...gopacket.SerializableLayer) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: pipeline.GatewayMAC(), EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer = &layers.IPv4{Version: 4, TTL: 9, Protocol: protocol, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 96, 0, 2}}
	if v6 {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: protocol, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd96::2")}
	}
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, append([]gopacket.SerializableLayer{ethernet, ip}, above...)...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buffer.Bytes())
}

func syn(t testing.TB, v6 bool) []byte {
	return frame(t, v6, layers.IPProtocolTCP, &layers.TCP{SrcPort: 1000, DstPort: 80, Seq: 100, SYN: true})
}

func udp(t testing.TB, v6 bool) []byte {
	return frame(t, v6, layers.IPProtocolUDP, &layers.UDP{SrcPort: 1000, DstPort: 53}, gopacket.Payload("question"))
}

// describe is what a client sees of an answer.
func describe(t testing.TB, b []byte) string {
	t.Helper()
	packet := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	ends := packet.NetworkLayer().NetworkFlow()
	for _, l := range packet.Layers() {
		switch l := l.(type) {
		case *layers.TCP:
			return fmt.Sprintf("%s > %s TCP %d > %d reset %v ack %d", ends.Src(), ends.Dst(), l.SrcPort, l.DstPort, l.RST, l.Ack)
		case *layers.ICMPv4:
			return fmt.Sprintf("%s > %s ICMP %s", ends.Src(), ends.Dst(), l.TypeCode)
		case *layers.ICMPv6:
			return fmt.Sprintf("%s > %s ICMP %s", ends.Src(), ends.Dst(), l.TypeCode)
		}
	}
	t.Fatalf("not an answer: %v", packet)
	return ""
}

// run has a Refuser handle frames.
func run(t *testing.T, sw Switch, frames ...[]byte) (s Stats, log string) {
	t.Helper()
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.Verbosity(0)))
	ctx, cancel := context.WithCancelCause(klog.NewContext(context.Background(), logger))
	r, queue, done := New(Params{Switch: sw}), make(chan openflow.PacketIn), make(chan error)
	go func() { done <- r.Run(ctx, queue) }()
	for _, f := range frames {
		queue <- openflow.PacketIn{Data: f, Length: len(f)}
	}
	over := errors.New("over")
	cancel(over)
	if err := <-done; !errors.Is(err, over) {
		t.Errorf("Run returned %v, want the cause of its context", err)
	}
	return r.Stats(), logger.GetSink().(ktesting.Underlier).GetBuffer().String()
}

func TestRefuse(t *testing.T) {
	fragment := syn(t, false)
	fragment[20] = 0x20 // more of them follow
	later := syn(t, false)
	later[21] = 1
	broadcast := udp(t, false)
	copy(broadcast[26:], "\xff\xff\xff\xff")
	icmp := func(kind uint8) []byte {
		return frame(t, false, layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0)})
	}
	icmp6 := func(kind uint8) []byte {
		return frame(t, true, layers.IPProtocolICMPv6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}, gopacket.Payload("\x00\x01\x00\x01"))
	}
	reset := func(v6 bool) []byte {
		return frame(t, v6, layers.IPProtocolTCP, &layers.TCP{SrcPort: 1000, DstPort: 80, RST: true})
	}
	const unreachable4, unreachable6 = "10.96.0.2 > 10.0.0.1 ICMP DestinationUnreachable(Port)", "fd96::2 > fd00::1 ICMP DestinationUnreachable(PortUnreachable)"
	for name, tc := range map[string]struct {
		frame []byte
		want  string
		stats Stats
		log   string
	}{
		"TCP":                   {syn(t, false), "10.96.0.2 > 10.0.0.1 TCP 80 > 1000 reset true ack 101", Stats{Resets: 1}, ""},
		"TCP, IPv6":             {syn(t, true), "fd96::2 > fd00::1 TCP 80 > 1000 reset true ack 101", Stats{Resets: 1}, ""},
		"first fragment":        {fragment, "10.96.0.2 > 10.0.0.1 TCP 80 > 1000 reset true ack 101", Stats{Resets: 1}, ""},
		"UDP":                   {udp(t, false), unreachable4, Stats{Unreachables: 1}, ""},
		"UDP, IPv6":             {udp(t, true), unreachable6, Stats{Unreachables: 1}, ""},
		"SCTP":                  {frame(t, false, layers.IPProtocolSCTP, gopacket.Payload("0123456789ab")), unreachable4, Stats{Unreachables: 1}, ""},
		"SCTP, IPv6":            {frame(t, true, layers.IPProtocolSCTP, gopacket.Payload("0123456789ab")), unreachable6, Stats{Unreachables: 1}, ""},
		"echo request":          {icmp(8), unreachable4, Stats{Unreachables: 1}, ""},
		"echo request, IPv6":    {icmp6(128), unreachable6, Stats{Unreachables: 1}, ""},
		"reset":                 {reset(false), "", Stats{Unanswered: 1}, ""},
		"reset, IPv6":           {reset(true), "", Stats{Unanswered: 1}, ""},
		"later fragment":        {later, "", Stats{Unanswered: 1}, ""},
		"ICMP error":            {icmp(3), "", Stats{Unanswered: 1}, ""},
		"ICMPv6 error":          {icmp6(3), "", Stats{Unanswered: 1}, ""},
		"ICMPv6 redirect":       {icmp6(137), "", Stats{Unanswered: 1}, ""},
		"from a broadcast":      {broadcast, "", Stats{Unanswered: 1}, ""},
		"TCP header cut":        {syn(t, false)[:14+20+10], "", Stats{Failed: 1}, "packet from 10.0.0.1 to 10.96.0.2"},
		"IP header cut":         {syn(t, false)[:20], "", Stats{Failed: 1}, "no IPv4 header in 6 bytes"},
		"nothing":               {nil, "", Stats{Failed: 1}, "frame of 0 bytes"},
		"neither IPv4 nor IPv6": {append(make([]byte, 12), 8, 6), "", Stats{Failed: 1}, "type 0x0806"},
	} {
		t.Run(name, func(t *testing.T) {
			sw := &recorder{t: t}
			stats, log := run(t, sw, tc.frame)
			got := ""
			for _, f := range sw.frames {
				got += describe(t, f)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("answer (-want +got):\n%s", d)
			}
			if stats != tc.stats {
				t.Errorf("counted %+v, want %+v", stats, tc.stats)
			}
			if tc.log == "" && log != "" || !strings.Contains(log, tc.log) {
				t.Errorf("log %q, want %q", log, tc.log)
			}
		})
	}
}

func TestSwitchTakesNoAnswer(t *testing.T) {
	stats, log := run(t, &recorder{t: t, err: errors.New("connection lost")}, syn(t, false), udp(t, false))
	if want := (Stats{Failed: 2}); stats != want || strings.Count(log, "connection lost") != 2 {
		t.Errorf("counted %+v, want %+v, log %q", stats, want, log)
	}
}

// TestSwitchDoesNotAnswer: the next packet has its turn.
func TestSwitchDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stats, log := run(t, &recorder{t: t, hang: true}, syn(t, false), syn(t, false), udp(t, false))
		if stats.Failed != 3 || !strings.Contains(log, "the switch does not answer") {
			t.Errorf("counted %+v, log %q", stats, log)
		}
	})
}

// TestFailuresAreNotLoggedWithoutLimit: anybody can send packets.
func TestFailuresAreNotLoggedWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stats, log := run(t, &recorder{t: t}, make([][]byte, 100)...)
		if n := strings.Count(log, "Cannot refuse"); n != logRate || stats.Failed != 100 {
			t.Errorf("%d of %d failures are logged, want %d", n, stats.Failed, logRate)
		}
	})
}

func TestMeter(t *testing.T) {
	if err := Meter().Check(); err != nil {
		t.Error(err)
	}
}

// FuzzAnswer: no answer is answered again.
func FuzzAnswer(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		f.Add(syn(f, v6))
		f.Add(udp(f, v6))
		f.Add(frame(f, v6, layers.IPProtocolTCP, &layers.TCP{RST: true}))
		f.Add(frame(f, v6, layers.IPProtocolICMPv4, gopacket.Payload("\x03\x0312341234")))
		f.Add(frame(f, v6, layers.IPProtocolICMPv6, gopacket.Payload("\x01\x0412341234")))
		f.Add(frame(f, v6, layers.IPProtocolIPv6Fragment, gopacket.Payload("\x06\x00\x00\x01\x00\x00\x00\x00"+string(syn(f, true)[54:]))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sw := &recorder{t: t}
		r := New(Params{Switch: sw})
		err := r.refuse(t.Context(), b)
		s := r.Stats()
		if s.Resets+s.Unreachables+s.Unanswered+s.Failed != 1 || (s.Failed == 1) != (err != nil) || int(s.Resets+s.Unreachables) != len(sw.frames) {
			t.Fatalf("counted %+v, error %v, %d answers", s, err, len(sw.frames))
		}
		for _, out := range sw.frames {
			if err := New(Params{Switch: &recorder{t: t, err: errors.New("answered")}}).refuse(t.Context(), out); err != nil {
				t.Errorf("the answer %x: %v", out, err)
			}
		}
	})
}

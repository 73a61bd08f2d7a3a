// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/policy"
)

// frame is what the friend sends to Pod 0.
func frame(t testing.TB, transport gopacket.SerializableLayer, proto layers.IPProtocol) []byte {
	t.Helper()
	ethernet := layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	ip := layers.IPv4{Version: 4, TTL: 9, Protocol: proto, SrcIP: friend.AsSlice(), DstIP: addressOf(0).AsSlice()}
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, &ethernet, &ip, transport, gopacket.Payload("data")); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func tcpFrame(t testing.TB, reset bool) []byte {
	return frame(t, &layers.TCP{SrcPort: 1000, DstPort: 80, Seq: 100, Ack: 200, ACK: true, RST: reset}, layers.IPProtocolTCP)
}

// Registers of package ovs/pipeline, as the reference of the pipeline has them.
const (
	metaReg, ingressReg, egressReg, judgedReg = 0, 4, 5, 6
	answerBit                                 = 0x400
)

// packetIn is a packet that was denied at the Pod of port 10.
func packetIn(data []byte, inPort, state, answer, ingress, egress uint32) openflow.PacketIn {
	reg := func(n int, v uint32) flow.FieldMatch { return flow.Reg(n, v, 0xffffffff) }
	return openflow.PacketIn{Data: data, Length: len(data), Metadata: flow.Match{
		flow.InPort(inPort), {Field: flow.FieldCTState, Value: binary.BigEndian.AppendUint32(nil, state|flow.CTTracked)},
		reg(metaReg, answer), reg(ingressReg, ingress), reg(egressReg, egress), reg(judgedReg, 10),
	}}
}

// handle has Run handle packets.
func (w *world) handle(packets ...openflow.PacketIn) (log string) {
	w.t.Helper()
	logger := ktesting.NewLogger(w.t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.Verbosity(0)))
	ctx, cancel := context.WithCancelCause(klog.NewContext(context.Background(), logger))
	queue, done := make(chan openflow.PacketIn), make(chan error)
	go func() { done <- w.Run(ctx, queue) }()
	for _, p := range packets {
		queue <- p
	}
	over := errors.New("over")
	cancel(over)
	if err := <-done; !errors.Is(err, over) {
		w.t.Errorf("Run returned %v, want the cause of its context", err)
	}
	return logger.GetSink().(ktesting.Underlier).GetBuffer().String()
}

func (w *world) logDenied(on bool) {
	w.t.Helper()
	s := w.current()
	s.LogDenied = on
	if err := w.Configure(s); err != nil {
		w.t.Fatal(err)
	}
}

func TestReset(t *testing.T) {
	udp := frame(t, &layers.UDP{SrcPort: 1000, DstPort: 53}, layers.IPProtocolUDP)
	whole := tcpFrame(t, false)
	for name, tc := range map[string]struct {
		frame []byte
		state uint32
		want  []string
		log   string
	}{
		"established": {whole, flow.CTEstablished, []string{"10.0.1.10:80 > 10.0.2.2:1000 seq 200", "10.0.2.2:1000 > 10.0.1.10:80 seq 100"}, ""},
		"new":         {whole, flow.CTNew, nil, ""},
		"a reset":     {tcpFrame(t, true), flow.CTEstablished, nil, ""},
		"UDP":         {udp, flow.CTEstablished, nil, ""},
		"no TCP":      {whole[:14+20+10], flow.CTEstablished, nil, "Cannot end a denied connection"},
		"no IP":       {whole[:20], flow.CTEstablished, nil, "Cannot end a denied connection"},
		"nothing":     {nil, flow.CTEstablished, nil, "Cannot end a denied connection"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(state(0))
			log := w.handle(packetIn(tc.frame, gatewayPort, tc.state, 0, 0, 0))
			var got []string
			for _, i := range w.sw.injected {
				if i.inPort != flow.PortController {
					t.Errorf("injected by port %d", i.inPort)
				}
				got = append(got, readReset(t, i.frame))
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("resets (-want +got):\n%s", d)
			}
			if tc.log == "" && log != "" || !strings.Contains(log, tc.log) {
				t.Errorf("log %q, want %q", log, tc.log)
			}
			want := Stats{NotLogged: 1, Cut: uint64(len(tc.want) / 2)}
			if s := w.Stats(); s != want {
				t.Errorf("counted %+v, want %+v", s, want)
			}
		})
	}
}

func readReset(t *testing.T, data []byte) string {
	t.Helper()
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
	tcp, ok := packet.TransportLayer().(*layers.TCP)
	if !ok || !tcp.RST {
		t.Fatalf("no reset: %v", packet)
	}
	ends := packet.NetworkLayer().NetworkFlow()
	at := func(e gopacket.Endpoint, p layers.TCPPort) string {
		a, _ := netip.AddrFromSlice(net.IP(e.Raw()))
		return netip.AddrPortFrom(a, uint16(p)).String()
	}
	return fmt.Sprintf("%s > %s seq %d", at(ends.Src(), tcp.SrcPort), at(ends.Dst(), tcp.DstPort), tcp.Seq)
}

func TestResetFails(t *testing.T) {
	w := newWorld(t)
	w.sw.injectErr = errors.New("connection lost")
	log := w.handle(packetIn(tcpFrame(t, false), gatewayPort, flow.CTEstablished, 0, 0, 0))
	if !strings.Contains(log, "connection lost") || !strings.Contains(log, "connection from 10.0.2.2:1000 to 10.0.1.10:80") || w.Stats().Cut != 0 {
		t.Errorf("log %q, counted %+v", log, w.Stats())
	}
}

// TestFailuresAreNotLoggedWithoutLimit: anybody can send packets.
func TestFailuresAreNotLoggedWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		packets := make([]openflow.PacketIn, 100)
		for i := range packets {
			packets[i] = packetIn(nil, gatewayPort, flow.CTEstablished, 0, 0, 0)
		}
		if n := strings.Count(w.handle(packets...), "Cannot end"); n != logRate {
			t.Errorf("%d failures are logged, want %d", n, logRate)
		}
	})
}

func TestLog(t *testing.T) {
	u := state(0)
	denies := &policy.Policy{
		Key: policy.Key{Kind: policy.ClusterNetworkPolicy, Name: "admin"}, Tier: policy.TierAdmin, Subject: subject,
		Rules: []policy.Rule{
			{Action: policy.Deny, Index: 3, Name: "no", Subject: subject, AnyPeer: true},
			{Action: policy.Deny, Direction: policy.Egress, Index: 4, Subject: subject, AnyPeer: true},
		},
	}
	u.Policies = append(u.Policies, denies)
	w := newWorld(t)
	w.apply(u)
	w.attach(0, local(0))
	w.attach(1, local(1))
	numbers := map[string]uint32{}
	for _, r := range w.engine.Rules() {
		numbers[r.Tier.String()+r.Direction.String()] = r.Number
	}
	accepts, in, out := numbers["NetworkPolicyIngress"], numbers["AdminIngress"], numbers["AdminEgress"]
	other := packetIn(tcpFrame(t, false), gatewayPort, flow.CTNew, 0, 0, 0)
	other.Metadata = append(other.Metadata[:len(other.Metadata)-1], flow.Reg(judgedReg, 11, 0xffffffff))
	nobody := packetIn(nil, gatewayPort, flow.CTNew, 0, 0, 0)
	nobody.Metadata = nil
	const ingressDenies, egressDenies = "ClusterNetworkPolicy admin, ingress rule 3 (no)", "ClusterNetworkPolicy admin, egress rule 4"
	icmp := frame(t, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}, layers.IPProtocolICMPv4)
	arp := append(make([]byte, 12), 0x08, 0x06)
	for name, tc := range map[string]struct {
		packet openflow.PacketIn
		want   []string
	}{
		"to the Pod":            {packetIn(tcpFrame(t, false), gatewayPort, flow.CTNew, 0, in, 0), []string{`pod="ns/pod-0"`, `packet="10.0.2.2 > 10.0.1.10 TCP 1000 > 80"`, ingressDenies, "established=false"}},
		"accepted elsewhere":    {packetIn(tcpFrame(t, false), gatewayPort, flow.CTNew, 0, in, out), []string{ingressDenies}},
		"isolated":              {packetIn(tcpFrame(t, false), gatewayPort, flow.CTNew, 0, 0, out), []string{"no ingress rule accepts it"}},
		"an accepting rule":     {packetIn(tcpFrame(t, false), gatewayPort, flow.CTNew, 0, accepts, 0), []string{"no ingress rule accepts it"}},
		"from the Pod":          {packetIn(tcpFrame(t, false), 10, flow.CTNew, 0, 0, out), []string{egressDenies}},
		"the Pod answers":       {packetIn(tcpFrame(t, false), 10, flow.CTEstablished, answerBit, in, out), []string{ingressDenies, "established=true"}},
		"the Pod gets answered": {packetIn(tcpFrame(t, false), gatewayPort, flow.CTEstablished, answerBit, in, out), []string{egressDenies}},
		"held":                  {other, []string{`pod="ns/pod-1"`, "its policies are not known yet"}},
		"ICMP":                  {packetIn(icmp, gatewayPort, flow.CTNew, 0, in, 0), []string{`packet="10.0.2.2 > 10.0.1.10`}},
		"malformed":             {packetIn(tcpFrame(t, false)[:14+20+3], gatewayPort, flow.CTNew, 0, in, 0), []string{`packet="10.0.2.2 > 10.0.1.10`}},
		"not IP":                {packetIn(arp, gatewayPort, flow.CTNew, 0, in, 0), []string{`packet="not IP"`}},
		"nothing":               {nobody, []string{`packet="not IP"`, `pod="the Pod at port 0"`}},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.logDenied(true)
			log := w.handle(tc.packet)
			for _, want := range tc.want {
				if !strings.Contains(log, want) {
					t.Errorf("log %q, want %s", log, want)
				}
			}
			w.logDenied(false)
			if log := w.handle(tc.packet); strings.Contains(log, "Denied") {
				t.Errorf("log %q although nothing is to be logged", log)
			}
		})
	}
}

func TestLogIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.logDenied(true)
		logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
		ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
		queue, done := make(chan openflow.PacketIn), make(chan error)
		go func() { done <- w.Run(ctx, queue) }()
		flood := func() {
			for range 50 {
				queue <- packetIn(tcpFrame(t, false), gatewayPort, flow.CTNew, 0, 0, 0)
			}
			synctest.Wait()
		}
		flood()
		if s := w.Stats(); s != (Stats{Logged: logRate, NotLogged: 50 - logRate}) {
			t.Errorf("after a flood %+v", s)
		}
		time.Sleep(time.Second)
		flood()
		if s := w.Stats(); s != (Stats{Logged: 2 * logRate, NotLogged: 2 * (50 - logRate)}) {
			t.Errorf("after another second %+v", s)
		}
		cancel()
		<-done
		log := logger.GetSink().(ktesting.Underlier).GetBuffer().String()
		if n := strings.Count(log, "notLogged=40"); n != 1 {
			t.Errorf("%d lines say that 40 packets were not logged, want one:\n%s", n, log)
		}
	})
}

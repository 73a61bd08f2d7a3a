// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

// freePort returns a port that was free a moment ago in TCP and UDP.
func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

// start runs a server until the test ends and waits until it answers.
func start(t *testing.T, run func(context.Context) error, answers Target) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	for {
		result := Run(context.Background(), []Target{answers}, 1)[0]
		if result.OK {
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("server ended: %v", err)
		default:
		}
	}
}

// nameServer answers for names until the test ends, and returns its port on
// 127.0.0.1.
func nameServer(t *testing.T, names map[string][]netip.Addr) uint16 {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				done <- nil // the test ends
				return
			}
			answer, err := answerNames(buffer[:n], names)
			if err == nil {
				_, err = conn.WriteTo(answer, from)
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return uint16(conn.LocalAddr().(*net.UDPAddr).Port)
}

func answerNames(question []byte, names map[string][]netip.Addr) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	addrs, ok := names[q.Name.String()]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 5}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return m.Pack()
}

func TestRun(t *testing.T) {
	port, silent := freePort(t), freePort(t)
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	start(t, func(ctx context.Context) error { return serve.TCP(ctx, port, serve.Echo) },
		Target{Protocol: TCP, Address: v4, Port: port})
	start(t, func(ctx context.Context) error { return serve.UDPEcho(ctx, port) },
		Target{Protocol: UDP, Address: v6, Port: port})
	web, names := freePort(t), nameServer(t, map[string][]netip.Addr{"web.example.": {v6, v4}})
	start(t, func(ctx context.Context) error { return serve.HTTP(ctx, web) },
		Target{Protocol: HTTP, Address: v4, Port: web})
	// A socket that is bound and never read stays silent.
	mute, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(silent)})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()

	targets := []Target{
		{Name: "tcp4", Protocol: TCP, Address: v4, Port: port},
		{Name: "tcp6", Protocol: TCP, Address: v6, Port: port},
		{Name: "tcp large", Protocol: TCP, Address: v6, Port: port, Size: 8 << 20},
		{Name: "udp4", Protocol: UDP, Address: v4, Port: port},
		{Name: "udp4 other address", Protocol: UDP, Address: netip.MustParseAddr("127.9.9.9"), Port: port},
		{Name: "udp large", Protocol: UDP, Address: v6, Port: port, Size: 60000},
		{Name: "udp unfragmented", Protocol: UDP, Address: v4, Port: port, DontFragment: true},
		{Name: "icmp4", Protocol: ICMP, Address: v4},
		{Name: "icmp6", Protocol: ICMP, Address: v6, DontFragment: true, Size: 1400},
		{Name: "refused tcp", Protocol: TCP, Address: v4, Port: 1},
		{Name: "refused udp", Protocol: UDP, Address: v6, Port: 1},
		{Name: "silent", Protocol: UDP, Address: v4, Port: silent, Millis: 50},
		{Name: "too large", Protocol: ICMP, Address: v4, Size: 70000},
		{Name: "http", Protocol: HTTP, Address: v6, Port: web},
		{Name: "no http", Protocol: HTTP, Address: v4, Port: port},
		{Name: "from a port", Protocol: UDP, Address: v4, Port: port, From: freePort(t)},
		{Name: "name", Protocol: DNS, Lookup: "web.example.", Address: v4, Port: names},
		{Name: "no name", Protocol: DNS, Lookup: "other.example.", Address: v4, Port: names},
		{Name: "no name server", Protocol: DNS, Lookup: "web.example.", Address: v4, Port: 1, Millis: 500},
		{Name: "name of nothing", Protocol: DNS},
		{Name: "wrong target", Protocol: "sctp", Address: v4, Port: 1},
	}
	want := []Result{
		{Name: "tcp4", OK: true}, {Name: "tcp6", OK: true}, {Name: "tcp large", OK: true},
		{Name: "udp4", OK: true}, {Name: "udp4 other address", OK: true}, {Name: "udp large", OK: true},
		{Name: "udp unfragmented", OK: true}, {Name: "icmp4", OK: true}, {Name: "icmp6", OK: true},
		{Name: "refused tcp", Reason: Refused}, {Name: "refused udp", Reason: Refused},
		{Name: "silent", Reason: Timeout}, {Name: "too large", Reason: TooLarge},
		{Name: "http", OK: true}, {Name: "no http", Reason: Failed},
		{Name: "from a port", OK: true},
		{Name: "name", OK: true, Addresses: []netip.Addr{v4, v6}}, {Name: "no name", Reason: NoName},
		{Name: "no name server", Reason: Failed}, {Name: "name of nothing", Reason: Failed},
		{Name: "wrong target", Reason: Failed},
	}
	got := Run(context.Background(), targets, 4)
	ignored := cmpopts.IgnoreFields(Result{}, "Millis", "Tries", "Client", "Host", "Error", "After")
	if diff := cmp.Diff(want, got, ignored, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, result := range got {
		if result.OK && result.Client.IsValid() && result.Client.Addr().Is4In6() {
			t.Errorf("%s: client %s is a mapped address", result.Name, result.Client)
		}
		if result.OK && result.After != 0 {
			t.Errorf("%s: OK %t, failed after %g ms", result.Name, result.OK, result.After)
		}
		if result.Name == "tcp4" && result.Client.Addr() != v4 {
			t.Errorf("client seen as %s, want %s", result.Client, v4)
		}
	}
}

func TestRunEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	result := Run(ctx, []Target{{Name: "x", Protocol: TCP, Address: netip.MustParseAddr("127.0.0.1"), Port: 1}}, 1)[0]
	if result.OK {
		t.Errorf("result %+v after the context ended", result)
	}
}

// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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

func TestRun(t *testing.T) {
	port, silent := freePort(t), freePort(t)
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	start(t, func(ctx context.Context) error { return serve.TCP(ctx, port, serve.Echo) },
		Target{Protocol: TCP, Address: v4, Port: port})
	start(t, func(ctx context.Context) error { return serve.UDPEcho(ctx, port) },
		Target{Protocol: UDP, Address: v6, Port: port})
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
		{Name: "wrong target", Protocol: "sctp", Address: v4, Port: 1},
	}
	want := []Result{
		{Name: "tcp4", OK: true}, {Name: "tcp6", OK: true}, {Name: "tcp large", OK: true},
		{Name: "udp4", OK: true}, {Name: "udp4 other address", OK: true}, {Name: "udp large", OK: true},
		{Name: "udp unfragmented", OK: true}, {Name: "icmp4", OK: true}, {Name: "icmp6", OK: true},
		{Name: "refused tcp", Reason: Refused}, {Name: "refused udp", Reason: Refused},
		{Name: "silent", Reason: Timeout}, {Name: "too large", Reason: TooLarge},
		{Name: "wrong target", Reason: Failed},
	}
	got := Run(context.Background(), targets, 4)
	ignored := cmpopts.IgnoreFields(Result{}, "Millis", "Tries", "Client", "Host", "Error")
	if diff := cmp.Diff(want, got, ignored); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, result := range got {
		if result.OK && result.Client.IsValid() && result.Client.Addr().Is4In6() {
			t.Errorf("%s: client %s is a mapped address", result.Name, result.Client)
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

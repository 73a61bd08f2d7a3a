// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

func TestSummarize(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	client := netip.MustParseAddrPort("10.0.0.1:5000")
	answered := func(begun, ended int, host string) outcome {
		return outcome{at(begun), at(ended), serve.Hello{Host: host, Client: client}, nil}
	}
	failed := func(begun, ended int) outcome {
		return outcome{at(begun), at(ended), serve.Hello{}, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
	}
	address := netip.MustParseAddrPort("10.96.0.7:80")
	got := summarize(address, []outcome{
		// In the order in which they ended.
		answered(0, 2, "a"), failed(30, 31), failed(20, 900), answered(40, 1041, "b"), answered(10, 1100, "a"), failed(50, 51),
	})
	want := Report{
		Address: address, Made: 6, Answered: 3, Failed: 3, Slow: 2, MaxMillis: 1090,
		Servers: map[string]int{"a": 2, "b": 1},
		Clients: map[netip.Addr]int{client.Addr(): 3},
		Failures: []Failure{
			{at(20), 880, check.Refused, "dial: connection refused"},
			{at(30), 1, check.Refused, "dial: connection refused"},
			{at(50), 1, check.Refused, "dial: connection refused"},
		},
		Outages: []Outage{{Begin: at(20), End: at(1041)}, {Begin: at(50)}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRun connects to a server that greets, and to a port where nobody listens.
func TestRun(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(listener.Addr().String())
	listener.Close()
	closed := runUntil(t, address, 20*time.Millisecond)
	if closed.Made == 0 || closed.Failed != closed.Made || closed.Failures[0].Reason != check.Refused {
		t.Errorf("nobody listens: %+v", closed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve.TCP(ctx, address.Port(), serve.Greet) }()
	open := runUntil(t, address, 20*time.Second)
	if open.Answered == 0 || open.Answered+open.Failed != open.Made || open.Clients[address.Addr()] != open.Answered {
		t.Errorf("a server that greets: %+v", open)
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// runUntil runs for a time, or until the first is answered.
func runUntil(t *testing.T, address netip.AddrPort, longest time.Duration) Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	return Run(ctx, Params{Address: address, Interval: time.Millisecond, Timeout: 5 * time.Second, Answered: cancel})
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

// start runs a server on loopback and returns its port.
func start(t *testing.T) uint16 {
	t.Helper()
	free, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	ctx, cancel := context.WithCancel(context.Background())
	server := &Server{}
	errs := make(chan error, 2)
	go func() { errs <- serve.TCP(ctx, port, server.ServeTCP) }()
	go func() { errs <- server.ServeUDP(ctx, port) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-errs; err != nil {
				t.Errorf("server: %v", err)
			}
		}
	})
	for {
		conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
		if err == nil {
			conn.Close()
			return port
		}
	}
}

func TestLoopback(t *testing.T) {
	port := start(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		address := netip.AddrPortFrom(netip.MustParseAddr(host), port)
		t.Run(host+" rr", func(t *testing.T) {
			report, err := RoundTrips(context.Background(), RoundTripParams{Address: address, Size: 1, Time: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if report.Transactions == 0 || report.PerSecond <= 0 || report.P50 <= 0 || report.P99 < report.P50 || report.Max < report.P99 {
				t.Errorf("report %+v", report)
			}
		})
		for name, params := range map[string]ThroughputParams{
			"tcp":         {Streams: 1, Size: 128 << 10},
			"tcp streams": {Streams: 3, Size: 1000},
			"tcp reverse": {Streams: 2, Size: 64 << 10, Reverse: true},
			"udp":         {UDP: true, Size: 1400, Rate: 20e6},
		} {
			t.Run(host+" "+name, func(t *testing.T) {
				params.Address, params.Time = address, 100*time.Millisecond
				report, err := Throughput(context.Background(), params)
				if err != nil {
					t.Fatal(err)
				}
				if report.Bytes == 0 || report.BitsPerSecond <= 0 {
					t.Errorf("report %+v", report)
				}
				if params.UDP && (report.Received == 0 || report.Received > report.Sent) {
					t.Errorf("report %+v", report)
				}
			})
		}
	}
}

func TestWrongSize(t *testing.T) {
	address := netip.MustParseAddrPort("127.0.0.1:1")
	if _, err := RoundTrips(context.Background(), RoundTripParams{Address: address}); err == nil {
		t.Error("size 0 was accepted")
	}
	if _, err := Throughput(context.Background(), ThroughputParams{Address: address, Streams: 1, Size: maxSize + 1}); err == nil {
		t.Error("a size above the limit was accepted")
	}
}

func TestSummarize(t *testing.T) {
	var took []time.Duration
	for i := range 100 {
		took = append(took, time.Duration(100-i)*time.Microsecond)
	}
	want := RoundTripReport{Transactions: 100, Seconds: 2, PerSecond: 50, P50: 50, P99: 99, Max: 100}
	if diff := cmp.Diff(want, summarize(took, 2*time.Second)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(RoundTripReport{Seconds: 1}, summarize(nil, time.Second)); diff != "" {
		t.Errorf("nothing (-want +got):\n%s", diff)
	}
}

func TestSendingAhead(t *testing.T) {
	for _, test := range []struct {
		sent    int64
		rate    float64
		elapsed time.Duration
		want    time.Duration
	}{
		{sent: 100, rate: 0, want: 0},
		{sent: 1000, rate: 8e6, elapsed: 0, want: time.Second},
		{sent: 1000, rate: 8e6, elapsed: 2 * time.Second, want: -time.Second},
	} {
		if got := sendingAhead(test.sent, 1000, test.rate, test.elapsed); got != test.want {
			t.Errorf("%+v: got %s", test, got)
		}
	}
}

// servePorts runs AnswerPort on free ports of loopback.
func servePorts(t *testing.T, count int) []netip.AddrPort {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	var at []netip.AddrPort
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, netip.MustParseAddrPort(listener.Addr().String()))
		context.AfterFunc(ctx, func() { listener.Close() })
		group.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				if err := AnswerPort(ctx, conn); err != nil {
					t.Error(err)
				}
				conn.Close()
			}
		})
	}
	return at
}

func TestConnect(t *testing.T) {
	at := servePorts(t, 1)[0]
	report, err := Connect(t.Context(), ConnectParams{Address: at, Parallel: 3, Time: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed != 0 || report.Transactions == 0 || report.PerSecond <= 0 || report.P99 < report.P50 {
		t.Errorf("report %+v", report)
	}
	report, err = Connect(t.Context(), ConnectParams{Address: nobody(t), Parallel: 1, Time: time.Millisecond})
	if err != nil || report.Failed == 0 || report.Failure == "" || report.Transactions != 0 {
		t.Errorf("nobody listens: report %+v, error %v", report, err)
	}
	if _, err := Connect(t.Context(), ConnectParams{Address: at}); err == nil {
		t.Error("no connection at once was accepted")
	}
}

func TestWorkerRate(t *testing.T) {
	for _, test := range []struct {
		w    worker
		want float64
	}{
		{worker{}, 0},
		{worker{failed: 3, busy: time.Second}, 0},
		{worker{took: make([]time.Duration, 30), failed: 1, busy: 2 * time.Second}, 15},
	} {
		if got := test.w.rate(); got != test.want {
			t.Errorf("%+v: rate %v, want %v", test.w, got, test.want)
		}
	}
}

// nobody returns an address where nobody listens.
func nobody(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return netip.MustParseAddrPort(listener.Addr().String())
}

func TestSweep(t *testing.T) {
	all := servePorts(t, 5)
	before := time.Now()
	report, err := Sweep(t.Context(), all, 2)
	if err != nil || report.Answered.Before(before) {
		t.Errorf("report %+v, error %v", report, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	silent := nobody(t)
	_, err = Sweep(ctx, append(all, silent), 2)
	if err == nil || !strings.Contains(err.Error(), "5 of 6") || !strings.Contains(err.Error(), silent.String()) {
		t.Errorf("one is silent: error %v", err)
	}
}

func FuzzPort(f *testing.F) {
	for _, text := range []string{"80", "0", "65536", "", "+1", "8 "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if port, err := parsePort(text); (err == nil) != (port != 0) {
			t.Errorf("%q: port %d, error %v", text, port, err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"mode":"rr","size":1}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var req request
		if err := readLine(bufio.NewReader(bytes.NewReader(line)), &req); err == nil && req.validate() == nil && req.Size > maxSize {
			t.Errorf("request %+v", req)
		}
	})
}

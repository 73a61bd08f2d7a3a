// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
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

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"mode":"rr","size":1}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var req request
		if err := readLine(bufio.NewReader(bytes.NewReader(line)), &req); err == nil && req.validate() == nil && req.Size > maxSize {
			t.Errorf("request %+v", req)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// server serves one connection with handle and returns its address.
func server(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		handle(conn)
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func params(address netip.AddrPort) Params {
	return Params{
		Address: address, Interval: time.Millisecond, Size: 1000,
		Stall: time.Minute, Silence: 10 * time.Second, Connect: 10 * time.Second,
	}
}

func TestWhole(t *testing.T) {
	served := make(chan error, 1)
	address := server(t, func(conn net.Conn) { served <- Serve(context.Background(), conn) })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	report := Run(ctx, params(address))
	if err := <-served; err != nil {
		t.Errorf("server: %v", err)
	}
	if report.Broken || report.Error != "" {
		t.Fatalf("report %+v", report)
	}
	client, server := report.Client, report.Server
	if client.Records == 0 || server.Records == 0 || client.Stalls != 0 || server.Stalls != 0 {
		t.Errorf("report %+v", report)
	}
	if client.SentBytes != server.ReceivedBytes || server.SentBytes != client.ReceivedBytes {
		t.Errorf("bytes differ: %+v", report)
	}
}

func TestBroken(t *testing.T) {
	for name, test := range map[string]struct {
		handle func(net.Conn)
		want   string
	}{
		"closed": {func(conn net.Conn) {
			readRecord(bufio.NewReader(conn))
		}, "after 0 records"},
		"silent": {func(conn net.Conn) {
			reader := bufio.NewReader(conn)
			for {
				if _, err := readRecord(reader); err != nil {
					return
				}
			}
		}, "nothing came for 50ms"},
		"wrong order": {func(conn net.Conn) {
			conn.Write(appendRecord(nil, record{kind: kindData, seq: 1}))
			readRecord(bufio.NewReader(conn))
		}, "record 1 where 0 is due"},
		"changed": {func(conn net.Conn) {
			conn.Write(appendRecord(nil, record{kind: kindData, data: []byte{0, 7}}))
			readRecord(bufio.NewReader(conn))
		}, "byte 1 of record 0 changed"},
		"too large": {func(conn net.Conn) {
			conn.Write([]byte{kindData, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0})
			readRecord(bufio.NewReader(conn))
		}, "record of 4294967295 bytes"},
		"ended by the server": {func(conn net.Conn) {
			conn.Write(appendRecord(nil, record{kind: kindEnd, data: []byte("{}")}))
			readRecord(bufio.NewReader(conn))
		}, "the server ended the stream"},
	} {
		t.Run(name, func(t *testing.T) {
			p := params(server(t, test.handle))
			p.Silence = 50 * time.Millisecond
			report := Run(context.Background(), p)
			if !report.Broken || !strings.Contains(report.Error, test.want) {
				t.Errorf("report %+v, want an error with %q", report, test.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	report := Run(context.Background(), params(netip.MustParseAddrPort("127.0.0.1:1")))
	if !report.Broken || !strings.Contains(report.Error, "refused") {
		t.Errorf("report %+v", report)
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add(appendRecord(nil, record{kind: kindData, seq: 3, data: []byte{3, 4}}))
	f.Add([]byte{kindEnd, 0, 0})
	f.Fuzz(func(t *testing.T, wire []byte) {
		r, err := readRecord(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			return
		}
		if again := appendRecord(nil, r); !bytes.HasPrefix(wire, again) {
			t.Errorf("record %+v is not what was read", r)
		}
	})
}

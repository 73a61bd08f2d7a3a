// SPDX-License-Identifier: Apache-2.0

package datagram

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

// TestRun has one socket answer under two names in turn.
func TestRun(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"a", "a", "b", "a"}
	done := make(chan error, 1)
	go func() {
		buffer := make([]byte, 100)
		for i := 0; ; i++ {
			_, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				done <- nil // the test ends
				return
			}
			answer, err := json.Marshal(serve.Hello{Host: hosts[min(i, len(hosts)-1)], Client: from})
			if err == nil {
				_, err = conn.WriteToUDPAddrPort(append(answer, "\n?"...), from)
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var said []string
	asked := make(chan struct{})
	r, err := Run(ctx, Params{
		Address: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Interval: time.Millisecond,
		Sent: func() { close(asked) },
		Answered: func(host string) {
			if said = append(said, host); len(said) == 3 {
				cancel()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-asked
	want := []string{"a", "b", "a"}
	var changes []string
	for _, c := range r.Changes {
		changes = append(changes, c.Host)
		if c.Client.Addr() != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("seen as %s", c.Client)
		}
	}
	if diff := cmp.Diff([][]string{want, want}, [][]string{said, changes}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.Received < len(hosts) || r.Sent < r.Received {
		t.Errorf("%+v", r)
	}
}

func TestNobody(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	address := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := Run(ctx, Params{Address: address, Interval: time.Millisecond})
	if err != nil || r.Received != 0 || r.Refused == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

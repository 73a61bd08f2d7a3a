// SPDX-License-Identifier: Apache-2.0

package sockets

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestEstablished(t *testing.T) {
	// An address of loopback that no other test uses, and a socket of both
	// families, which shows IPv4 addresses within IPv6.
	const remote = "127.83.47.11"
	listener, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote + ":0"))}
	conn, err := dialer.Dial("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	want := []Connection{{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Remote: conn.LocalAddr().(*net.TCPAddr).AddrPort()}}
	for _, step := range []struct {
		name string
		want []Connection
	}{{"open", want}, {"closed", []Connection{}}} {
		if step.name == "closed" {
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Established(netip.MustParseAddr(remote))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(step.want, got, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
	}
}

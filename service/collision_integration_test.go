// SPDX-License-Identifier: Apache-2.0

//go:build integration

package service

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/internal/testnet"
)

// TestSamePortOfTheClient: a client may have connections from one port to two
// Services at the same time, also beside one to their common endpoint itself. To
// the endpoint they must not be the same connection.
func TestSamePortOfTheClient(t *testing.T) {
	testnet.Run(t, func(t *testing.T, root *testnet.Namespace) {
		n := newRealNode(t, root)
		for i, s := range stacks() {
			t.Run(s.name, func(t *testing.T) {
				endpoint := netip.AddrPortFrom(s.podB, 8080)
				n.serve(t, portB, "b", endpoint)
				first, second := at(s, TCP, endpoint), at(s, TCP, endpoint)
				second.Name, second.ClusterIPs = "second", []netip.Addr{s.vip.Next()}
				n.set(t, first)
				n.set(t, second)
				places := map[string]netip.AddrPort{
					"first": netip.AddrPortFrom(s.vip, 80), "second": netip.AddrPortFrom(s.vip.Next(), 80), "itself": endpoint,
				}
				for j, order := range [][]string{{"first", "second"}, {"itself", "first", "second"}} {
					local := uint16(45000 + 10*i + j)
					open := map[string]net.Conn{}
					for _, name := range order {
						c, err := n.dialFrom(t, portA, netip.AddrPortFrom(s.podA, local), places[name])
						if err != nil {
							t.Fatalf("%v: %s: %v\n%s", order, name, err, n.ovs.Appctl("dpctl/dump-conntrack"))
						}
						open[name] = c
					}
					for name, c := range open {
						if server, client := ask(t, c); server != "b" || client.Addr() != s.podA {
							t.Errorf("%v: %s: server %s saw %s", order, name, server, client)
						}
					}
				}
			})
		}
	})
}

// dialFrom connects from an address and port that other connections may have.
func (n *realNode) dialFrom(t *testing.T, host uint32, from, to netip.AddrPort) (c net.Conn, err error) {
	t.Helper()
	reuse := func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		if err != nil {
			return err
		}
		return failed
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Control: reuse}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = n.hosts[host].Do(func() (err error) {
		c, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("from %s: %w", from, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package testnet

import (
	"net"
	"os"
	"testing"
	"time"
)

func TestRunIsolates(t *testing.T) {
	Run(t, func(t *testing.T, node *Namespace) {
		if os.Getpid() != 1 {
			t.Errorf("process %d, want the first of its own PID namespace", os.Getpid())
		}
		ifs, err := net.Interfaces()
		if err != nil || len(ifs) != 1 {
			t.Fatalf("interfaces %v, %v; want the loopback alone", ifs, err)
		}
		peer := New(t, "peer")
		Veth(t,
			End{NS: node, Name: "eth0", MTU: 1400, Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
			End{NS: peer, Name: "eth9", MTU: 1400, Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}})
		WaitFor(t, 5*time.Second, func() error { return node.Try("ping -c1 -W1 2001:db8::2") })
		peer.Exec(t, "ping -c1 -W1 192.0.2.1")

		var l net.Listener
		if err := peer.Do(func() (err error) {
			l, err = net.Listen("tcp", "192.0.2.2:80")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.DialTimeout("tcp", "192.0.2.2:80", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	})
}

func TestSubtests(t *testing.T) {
	for _, name := range []string{"a b", "c(d"} {
		t.Run(name, func(t *testing.T) {
			Run(t, func(t *testing.T, _ *Namespace) { New(t, "same-name") })
		})
	}
}

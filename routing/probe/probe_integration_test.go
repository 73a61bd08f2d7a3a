// SPDX-License-Identifier: Apache-2.0

//go:build integration

package probe

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
)

// deadline is generous: a path that failed holds for a second here.
const deadline = 30 * time.Second

// inside opens the sockets of a real transport in another namespace.
type inside struct {
	*udp
	ns *testnet.Namespace
}

func (i inside) listen(local []netip.Addr) error {
	return i.ns.Do(func() error { return i.udp.listen(local) })
}

// engine runs an engine in a namespace. Flows are many, so that all next hops get
// some of them.
func engine(t *testing.T, ns *testnet.Namespace, c Config) *Engine {
	t.Helper()
	e := New(Params{Flows: 12, Hold: time.Second, MaxHold: time.Second})
	e.newTransport = func(deliver func(datagram)) transport { return inside{newUDP(e.params.Flows, deliver), ns} }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if err := e.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return e
}

// wait waits for the verdicts of both families.
func wait(t *testing.T, e *Engine, v4, v6 Class) {
	t.Helper()
	testnet.WaitFor(t, deadline, func() error {
		vs := e.Status()
		if vs[0].Class != v4 || vs[1].Class != v6 {
			return fmt.Errorf("want %s, %s; have %+v; %+v", v4, v6, vs, e.Counters())
		}
		for _, v := range vs {
			if v.Works != (v.Class == ClassAnswered) {
				return fmt.Errorf("%+v", v)
			}
		}
		return nil
	})
}

// TestFabric breaks the fabric between two nodes in the ways that BGP does not
// see. The nodes have two next hops towards each other, f1 and f2.
func TestFabric(t *testing.T) {
	testnet.Run(t, func(t *testing.T, a *testnet.Namespace) {
		b, f1, f2 := testnet.New(t, "b"), testnet.New(t, "f1"), testnet.New(t, "f2")
		for _, f := range []*testnet.Namespace{f1, f2} {
			f.Exec(t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
		}
		for i, n := range []*testnet.Namespace{a, b} {
			n.Exec(t, "sysctl -qw net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1")
			v4, v6 := "ip route add 10.0.%d.0/24", "ip -6 route add 2001:db8:%d::/64"
			for j, f := range []*testnet.Namespace{f1, f2} {
				link := fmt.Sprintf("192.0.2.%d", 64*i+16*j)
				link4, link6 := netip.MustParseAddr(link), fmt.Sprintf("2001:db8:f%d:%d::", j+1, i+1)
				near, far := link4.Next(), link4.Next().Next()
				testnet.Veth(t,
					testnet.End{NS: n, Name: f.Name, Addrs: []string{near.String() + "/28", link6 + "1/64"}},
					testnet.End{NS: f, Name: []string{"to-a", "to-b"}[i], Addrs: []string{far.String() + "/28", link6 + "2/64"}})
				f.Exec(t, fmt.Sprintf("ip route add 10.0.%d.0/24 via %s", i+1, near))
				f.Exec(t, fmt.Sprintf("ip -6 route add 2001:db8:%d::/64 via %s1", i+1, link6))
				v4 += " nexthop via " + far.String()
				v6 += " nexthop via " + link6 + "2"
			}
			n.Exec(t, fmt.Sprintf(v4, 2-i))
			n.Exec(t, fmt.Sprintf(v6, 2-i))
		}
		with := func(size int) Config {
			c := aConf
			c.Targets = nil
			for _, x := range aConf.Targets {
				x.Size = size
				c.Targets = append(c.Targets, x)
			}
			return c
		}
		ea, eb := engine(t, a, with(1500)), engine(t, b, bConf)
		wait(t, ea, ClassSilent, ClassSilent)
		// The addresses come after the sockets.
		for i, n := range []*testnet.Namespace{a, b} {
			n.Exec(t, fmt.Sprintf("ip address add 10.0.%d.254/32 dev lo", i+1))
			n.Exec(t, fmt.Sprintf("ip address add 2001:db8:%d::fe/128 dev lo nodad", i+1))
		}
		both := func(v4, v6 Class) {
			t.Helper()
			wait(t, ea, v4, v6)
			wait(t, eb, v4, v6)
		}
		both(ClassAnswered, ClassAnswered)

		exec := func(line string, ns ...*testnet.Namespace) {
			t.Helper()
			for _, n := range ns {
				n.Exec(t, line)
			}
		}
		t.Log("the fabric drops Pod addresses of IPv4, one way")
		exec("ip rule add pref 10 from 10.0.1.0/24 blackhole", f1, f2)
		both(ClassSilent, ClassAnswered)
		exec("ip rule del pref 10", f1, f2)
		both(ClassAnswered, ClassAnswered)

		t.Log("the fabric drops Pod addresses of IPv6")
		exec("ip -6 rule add pref 10 from 2001:db8:1::/64 blackhole", f1, f2)
		exec("ip -6 rule add pref 11 from 2001:db8:2::/64 blackhole", f1, f2)
		both(ClassAnswered, ClassSilent)
		exec("ip -6 rule del pref 10", f1, f2)
		exec("ip -6 rule del pref 11", f1, f2)
		both(ClassAnswered, ClassAnswered)

		t.Log("one of two next hops drops all")
		exec("ip rule add pref 10 iif to-a blackhole", f2)
		both(ClassSomeFlows, ClassAnswered)
		exec("ip rule del pref 10", f2)
		exec("ip -6 rule add pref 10 iif to-a blackhole", f2)
		both(ClassAnswered, ClassSomeFlows)
		exec("ip -6 rule del pref 10", f2)
		both(ClassAnswered, ClassAnswered)

		t.Log("a link of the fabric becomes narrower")
		exec("ip link set to-b mtu 1400", f1, f2)
		wait(t, ea, ClassFullSize, ClassFullSize)
		if err := ea.Set(t.Context(), with(1400)); err != nil {
			t.Fatal(err)
		}
		wait(t, ea, ClassAnswered, ClassAnswered)
		t.Logf("%+v\n%+v", ea.Status(), ea.Counters())
	})
}

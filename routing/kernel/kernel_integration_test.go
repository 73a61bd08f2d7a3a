// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// rack gives the node two uplinks and a gateway.
func rack(t *testing.T, node *testnet.Namespace) {
	t.Helper()
	tor := testnet.New(t, "tor")
	for i, addrs := range [][2][]string{
		{{"172.30.0.11/24", "fd30::11/64"}, {"172.30.0.1/24", "172.30.0.2/24", "fd30::1/64", "fd30::2/64"}},
		{{"172.31.0.11/24", "fd31::11/64"}, {"172.31.0.1/24", "fd31::1/64"}},
		{{"10.10.1.1/24", "fd10:0:0:1::1/64"}, nil},
	} {
		name := []string{"eth0", "eth1", "wm-gw0"}[i]
		testnet.Veth(t, testnet.End{NS: node, Name: name, Addrs: addrs[0]}, testnet.End{NS: tor, Name: name, Addrs: addrs[1]})
	}
	// The end of duplicate detection brings routes, which is not the news that tests look for.
	testnet.WaitFor(t, 10*time.Second, func() error {
		if strings.Contains(node.Exec(t, "ip -6 address show"), "tentative") {
			return errors.New("link-local addresses are still tentative")
		}
		return nil
	})
}

// ip is what iproute2 shows of our routes, one a line, without what the kernel adds.
func ip(t *testing.T, node *testnet.Namespace, selector string) []string {
	t.Helper()
	var out []string
	for _, family := range []string{"-4", "-6"} {
		for _, line := range strings.Split(node.Exec(t, "ip "+family+" route show "+selector), "\n") {
			line = strings.NewReplacer(" proto 87", "", " proto waymark", "", " pref medium", "", " weight 1", "").Replace(line)
			line = strings.Join(strings.Fields(line), " ")
			switch {
			case line == "":
			case strings.HasPrefix(line, "nexthop"):
				out[len(out)-1] += " " + line
			default:
				out = append(out, line)
			}
		}
	}
	slices.Sort(out)
	return out
}

func mustApplyRoutes(t *testing.T, desired []routing.Route, opts RouteOptions) RouteResult {
	t.Helper()
	res, err := Routes{}.Apply(t.Context(), desired, opts)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// quiet applies again and fails when the kernel announces any change.
func quiet(t *testing.T, desired []routing.Route) {
	t.Helper()
	sub, err := subscribe(t.Context(), unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.close()
	res := mustApplyRoutes(t, desired, RouteOptions{})
	if len(res.Added)+len(res.Replaced)+len(res.Removed) != 0 || res.Unchanged != len(desired) {
		t.Errorf("second Apply: %+v", res)
	}
	if err := sub.s.SetReceiveTimeout(&unix.Timeval{Usec: 1000}); err != nil {
		t.Fatal(err)
	}
	if msgs, err := sub.receive(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("second Apply wrote: %v, %v", msgs, err)
	}
}

// TestRoutes leads the kernel through states, from each to each.
func TestRoutes(t *testing.T) {
	tunnel := func(prefix, gw, src string, mtu int) routing.Route {
		return routing.Route{
			Prefix: pfx(prefix), Metric: 100, Source: netip.MustParseAddr(src), MTU: mtu,
			NextHops: []routing.NextHop{{Addr: netip.MustParseAddr(gw), Interface: "wm-gw0", OnLink: true}},
		}
	}
	guard := func(prefix string) routing.Route {
		return routing.Route{Prefix: pfx(prefix), Type: routing.Unreachable, Metric: 4096}
	}
	tests := []struct {
		name    string
		desired []routing.Route
		want    []string
	}{
		{
			"tunnel",
			[]routing.Route{
				tunnel("10.10.2.0/24", "10.10.2.1", "10.10.1.1", 1400), guard("10.10.2.0/24"),
				tunnel("fd10:0:0:2::/64", "fd10:0:0:2::1", "fd10:0:0:1::1", 1380), guard("fd10:0:0:2::/64"),
			},
			[]string{
				"10.10.2.0/24 via 10.10.2.1 dev wm-gw0 src 10.10.1.1 metric 100 onlink mtu 1400",
				"fd10:0:0:2::/64 via fd10:0:0:2::1 dev wm-gw0 src fd10:0:0:1::1 metric 100 onlink mtu 1380",
				"unreachable 10.10.2.0/24 metric 4096", "unreachable fd10:0:0:2::/64 dev lo metric 4096",
			},
		},
		{
			"tunnel with another MTU",
			[]routing.Route{
				tunnel("10.10.2.0/24", "10.10.2.1", "10.10.1.1", 1300),
				tunnel("fd10:0:0:2::/64", "fd10:0:0:2::1", "fd10:0:0:1::1", 1300),
			},
			[]string{
				"10.10.2.0/24 via 10.10.2.1 dev wm-gw0 src 10.10.1.1 metric 100 onlink mtu 1300",
				"fd10:0:0:2::/64 via fd10:0:0:2::1 dev wm-gw0 src fd10:0:0:1::1 metric 100 onlink mtu 1300",
			},
		},
		{
			"direct",
			[]routing.Route{
				route("10.10.2.0/24", 100, "172.30.0.1%eth0"), guard("10.10.2.0/24"),
				route("fd10:0:0:2::/64", 100, "fd30::1%eth0"), guard("fd10:0:0:2::/64"),
			},
			[]string{
				"10.10.2.0/24 via 172.30.0.1 dev eth0 metric 100", "fd10:0:0:2::/64 via fd30::1 dev eth0 metric 100",
				"unreachable 10.10.2.0/24 metric 4096", "unreachable fd10:0:0:2::/64 dev lo metric 4096",
			},
		},
		{
			"ECMP over two interfaces",
			[]routing.Route{
				route("10.10.2.0/24", 100, "172.30.0.1", "172.31.0.1%eth1"),
				route("fd10:0:0:2::/64", 100, "fd30::1", "fd31::1%eth1"),
			},
			[]string{
				"10.10.2.0/24 metric 100 nexthop via 172.30.0.1 dev eth0 nexthop via 172.31.0.1 dev eth1",
				"fd10:0:0:2::/64 metric 100 nexthop via fd30::1 dev eth0 nexthop via fd31::1 dev eth1",
			},
		},
		{
			"ECMP over three, two of them on one interface",
			[]routing.Route{
				route("10.10.2.0/24", 100, "172.30.0.1%eth0", "172.30.0.2%eth0", "172.31.0.1%eth1"),
				route("fd10:0:0:2::/64", 100, "fd31::1%eth1", "fd30::1%eth0", "fd30::2%eth0"),
			},
			[]string{
				"10.10.2.0/24 metric 100 nexthop via 172.30.0.1 dev eth0 nexthop via 172.30.0.2 dev eth0 nexthop via 172.31.0.1 dev eth1",
				"fd10:0:0:2::/64 metric 100 nexthop via fd30::1 dev eth0 nexthop via fd30::2 dev eth0 nexthop via fd31::1 dev eth1",
			},
		},
		{
			"IPv4 through IPv6 neighbours (RFC 8950)",
			[]routing.Route{
				route("10.10.2.0/24", 100, "fe80::1%eth0"),
				route("10.10.3.0/24", 100, "fe80::1%eth0", "fd31::1%eth1"),
				route("fd10:0:0:2::/64", 100, "fe80::1%eth0", "fe80::2%eth1"),
			},
			[]string{
				"10.10.2.0/24 via inet6 fe80::1 dev eth0 metric 100",
				"10.10.3.0/24 metric 100 nexthop via inet6 fd31::1 dev eth1 nexthop via inet6 fe80::1 dev eth0",
				"fd10:0:0:2::/64 metric 100 nexthop via fe80::1 dev eth0 nexthop via fe80::2 dev eth1",
			},
		},
		{
			"no router",
			[]routing.Route{route("10.10.2.0/24", 100, "%eth0"), route("fd10:0:0:2::/64", 100, "%eth0")},
			[]string{"10.10.2.0/24 dev eth0 scope link metric 100", "fd10:0:0:2::/64 dev eth0 metric 100"},
		},
		{
			"unreachable in the same place",
			[]routing.Route{
				{Prefix: pfx("10.10.2.0/24"), Type: routing.Unreachable, Metric: 100},
				{Prefix: pfx("fd10:0:0:2::/64"), Type: routing.Unreachable, Metric: 100},
			},
			[]string{"unreachable 10.10.2.0/24 metric 100", "unreachable fd10:0:0:2::/64 dev lo metric 100"},
		},
		{
			"defaults, no metric",
			[]routing.Route{route("0.0.0.0/0", 0, "172.30.0.1%eth0"), route("::/0", 0, "fd30::1%eth0", "fd31::1%eth1")},
			[]string{
				"default metric 1024 nexthop via fd30::1 dev eth0 nexthop via fd31::1 dev eth1",
				"default via 172.30.0.1 dev eth0",
			},
		},
		{"nothing", nil, nil},
	}
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		for _, line := range []string{
			"ip route add 10.99.0.0/16 via 172.30.0.1 metric 100", "ip route add fd99::/48 via fd30::1 metric 100 proto bird",
			"ip route add unreachable 10.98.0.0/16 proto static", "ip route add 10.10.2.0/24 via 172.30.0.2 metric 7 proto bgp",
			"ip route add 10.10.2.0/24 via 172.30.0.2 table 100 proto 87",
		} {
			node.Exec(t, line)
		}
		foreign := func() []string {
			all := ip(t, node, "table all")
			return slices.DeleteFunc(all, func(s string) bool { return slices.Contains(ip(t, node, "proto 87"), s) })
		}
		before := foreign()
		for _, from := range tests {
			for _, to := range tests {
				mustApplyRoutes(t, from.desired, RouteOptions{})
				mustApplyRoutes(t, to.desired, RouteOptions{})
				if diff := cmp.Diff(to.want, ip(t, node, "proto 87"), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("from %s to %s (-want +got):\n%s", from.name, to.name, diff)
				}
				quiet(t, to.desired)
			}
		}
		if diff := cmp.Diff(before, foreign()); diff != "" {
			t.Errorf("routes of others changed (-want +got):\n%s", diff)
		}
	})
}

// ask looks for a route twice: a question that meets the very moment in which
// an IPv6 route is released is refused by the kernel (ip6_create_rt_rcu),
// although another route is there by then. A gap outlasts both questions.
func ask(addr string) error {
	if _, err := netlink.RouteGet(net.ParseIP(addr)); err == nil {
		return nil
	}
	if _, err := netlink.RouteGet(net.ParseIP(addr)); err != nil {
		return fmt.Errorf("no route to %s: %w", addr, err)
	}
	return nil
}

// TestReplaceLeavesNoGap asks for the route all the time while its way changes.
func TestReplaceLeavesNoGap(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		states := [][]routing.Route{
			{route("10.10.2.0/24", 100, "172.30.0.1%eth0"), route("fd10:0:0:2::/64", 100, "fd30::1%eth0")},
			{
				route("10.10.2.0/24", 100, "172.30.0.1%eth0", "172.31.0.1%eth1"),
				route("fd10:0:0:2::/64", 100, "fd30::1%eth0", "fd31::1%eth1"),
			},
			{route("10.10.2.0/24", 200, "172.31.0.1%eth1"), route("fd10:0:0:2::/64", 200, "fd31::1%eth1", "fd30::2%eth0")},
			{route("10.10.2.0/24", 100, "172.31.0.1%eth1"), route("fd10:0:0:2::/64", 100, "fd31::1%eth1")},
		}
		mustApplyRoutes(t, states[0], RouteOptions{})
		done, asked := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				for _, a := range []string{"10.10.2.9", "fd10:0:0:2::9"} {
					if err := ask(a); err != nil {
						asked <- err
						return
					}
				}
				select {
				case <-done:
					asked <- nil
					return
				default:
				}
			}
		}()
		for i := range 200 {
			mustApplyRoutes(t, states[i%len(states)], RouteOptions{})
		}
		close(done)
		if err := <-asked; err != nil {
			t.Error(err)
		}
	})
}

func TestRoutesKeepUnknown(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		old := []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1%eth0"), route("fd10:0:0:2::/64", 200, "fd30::1%eth0")}
		now := []routing.Route{old[0], route("10.10.3.0/24", 200, "172.30.0.1%eth0")}
		mustApplyRoutes(t, old, RouteOptions{})
		got := mustApplyRoutes(t, now, RouteOptions{KeepUnknown: true})
		want := RouteResult{Added: now[1:], Kept: old[1:], Unchanged: 1}
		if diff := cmp.Diff(want, got, equateNetip); diff != "" {
			t.Errorf("while BGP converges (-want +got):\n%s", diff)
		}
		got = mustApplyRoutes(t, now, RouteOptions{})
		if diff := cmp.Diff(RouteResult{Removed: old[1:], Unchanged: 2}, got, equateNetip); diff != "" {
			t.Errorf("afterwards (-want +got):\n%s", diff)
		}
	})
}

// TestRoutesGoOn looks whether one route's failure leaves the others working.
func TestRoutesGoOn(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		node.Exec(t, "ip route add 10.10.2.0/24 via 172.30.0.2 metric 100 proto static")
		node.Exec(t, "ip route add fd10:0:0:2::/64 via fd30::2 metric 100 proto static")
		before := ip(t, node, "proto static")
		good := []routing.Route{route("10.10.9.0/24", 100, "172.30.0.1%eth0"), route("fd10:0:0:9::/64", 100, "fd30::1%eth0")}
		desired := append([]routing.Route{
			route("10.10.2.0/24", 100, "172.30.0.1%eth0"), route("fd10:0:0:2::/64", 100, "fd30::1%eth0"),
			route("10.10.3.0/24", 100, "192.0.2.1%eth0"), route("10.10.4.0/24", 100, "172.30.0.1%gone0"),
		}, good...)
		got, err := Routes{}.Apply(t.Context(), desired, RouteOptions{})
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "10.10.3.0/24") || !strings.Contains(err.Error(), "gone0") {
			t.Errorf("error %v", err)
		}
		if diff := cmp.Diff(RouteResult{Added: good}, got, equateNetip); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, ip(t, node, "proto static")); diff != "" {
			t.Errorf("routes of others changed (-want +got):\n%s", diff)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

var serviceRoutes = ServiceRoutes{Interface: "wm-gw0", Via: []netip.Addr{via4, via6}}

func mustApplyServices(t *testing.T, addrs string, want ServiceRouteResult) {
	t.Helper()
	got, err := serviceRoutes.Apply(t.Context(), addrsOf(addrs))
	if err != nil || got != want {
		t.Fatalf("Apply %s: %+v, %v; want %+v", addrs, got, err, want)
	}
}

// services is what iproute2 shows of routes to Services.
func services(t *testing.T, node *testnet.Namespace) []string {
	t.Helper()
	var out []string
	for _, line := range ip(t, node, "proto 88") {
		out = append(out, strings.ReplaceAll(line, " proto 88", ""))
	}
	return out
}

func TestServiceRoutes(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		pods := []routing.Route{route("10.10.2.0/24", 100, "172.30.0.1%eth0"), route("fd10:0:0:2::/64", 100, "fd30::1%eth0")}
		mustApplyRoutes(t, pods, RouteOptions{})
		// A network around the IPv6 next hop must not lead packets away from it.
		node.Exec(t, "ip -6 route add 100::/64 via fd30::1 dev eth0")
		const all = "10.96.0.1 10.96.0.10 fd00:96::1 fd00:96::10"
		want := []string{
			"10.96.0.1 via 169.254.87.78 dev wm-gw0 metric 50 onlink",
			"10.96.0.10 via 169.254.87.78 dev wm-gw0 metric 50 onlink",
			"100::574e dev wm-gw0 metric 50",
			"169.254.87.78 dev wm-gw0 scope link metric 50",
			"fd00:96::1 via 100::574e dev wm-gw0 metric 50 onlink",
			"fd00:96::10 via 100::574e dev wm-gw0 metric 50 onlink",
		}
		good := func(what string) {
			t.Helper()
			if d := cmp.Diff(want, services(t, node)); d != "" {
				t.Errorf("%s (-want +got):\n%s", what, d)
			}
			mustApplyServices(t, all, ServiceRouteResult{Unchanged: 6})
		}
		mustApplyServices(t, all, ServiceRouteResult{Added: 6})
		good("from nothing")
		for _, damage := range []struct {
			line string
			want ServiceRouteResult
		}{
			{"ip route del 10.96.0.10 proto 88", ServiceRouteResult{Added: 1, Unchanged: 5}},
			{"ip -6 route flush proto 88", ServiceRouteResult{Added: 3, Unchanged: 3}},
			{"ip route replace 10.96.0.1 via 172.30.0.1 metric 50 proto 88", ServiceRouteResult{Added: 1, Removed: 1, Unchanged: 5}},
			{"ip route replace 10.96.0.1 via 169.254.87.78 dev wm-gw0 onlink mtu 1300 metric 50 proto 88", ServiceRouteResult{Replaced: 1, Unchanged: 5}},
			{"ip route replace blackhole 10.96.0.1 metric 50 proto 88", ServiceRouteResult{Added: 1, Removed: 1, Unchanged: 5}},
			{"ip route add 10.96.0.1 via 172.30.0.1 metric 7 proto 88", ServiceRouteResult{Removed: 1, Unchanged: 6}},
			{"ip route add 10.97.0.0/16 proto 88 nexthop via 172.30.0.1 nexthop via 172.31.0.1", ServiceRouteResult{Removed: 1, Unchanged: 6}},
			{"ip -6 route add fd00:97::/64 proto 88 nexthop via fd30::1 nexthop via fd31::1", ServiceRouteResult{Removed: 1, Unchanged: 6}},
			{"ip -6 route append fd00:96::1 via fd30::1 dev eth0 metric 50 proto 88", ServiceRouteResult{Added: 1, Removed: 1, Unchanged: 5}},
			{"ip -6 route replace unreachable fd00:96::10 metric 50 proto 88", ServiceRouteResult{Added: 1, Removed: 1, Unchanged: 5}},
		} {
			node.Exec(t, damage.line)
			mustApplyServices(t, all, damage.want)
			good(damage.line)
		}
		quiet(t, pods) // neither owner touches the other's

		// The node's own addresses get none, and lose it when they become its own.
		node.Exec(t, "ip address add 10.96.0.10/32 dev eth0")
		node.Exec(t, "ip address add fd00:96::10/128 dev eth0 nodad")
		mustApplyServices(t, all, ServiceRouteResult{Removed: 2, Unchanged: 4, Local: 2})
		mustApplyServices(t, "fd00:96::1", ServiceRouteResult{Removed: 2, Unchanged: 2})
		mustApplyServices(t, "", ServiceRouteResult{Removed: 2})
		if d := cmp.Diff([]string(nil), services(t, node), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("left behind (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"10.10.2.0/24 via 172.30.0.1 dev eth0 metric 100", "fd10:0:0:2::/64 via fd30::1 dev eth0 metric 100"}, ip(t, node, "proto 87")); d != "" {
			t.Errorf("routes of Pods (-want +got):\n%s", d)
		}
	})
}

// TestServiceRoutesGoOn looks whether one address's failure leaves the others
// working, and how much of it is said.
func TestServiceRoutesGoOn(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		var all strings.Builder
		for i := range 9 {
			a := fmt.Sprintf("10.96.0.%d", i)
			node.Exec(t, "ip route add blackhole "+a+" metric 50 proto static")
			fmt.Fprintf(&all, "%s ", a)
		}
		got, err := serviceRoutes.Apply(t.Context(), addrsOf(all.String()+"10.96.1.1"))
		if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "10.96.0.4") || !strings.Contains(err.Error(), "and 4 more") {
			t.Errorf("error %v", err)
		}
		if want := (ServiceRouteResult{Added: 2}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if n := len(ip(t, node, "proto static")); n != 9 {
			t.Errorf("%d foreign routes are left of 9", n)
		}
	})
}

// TestManyServiceRoutes says what 10,000 routes cost.
func TestManyServiceRoutes(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		var addrs []netip.Addr
		for i := range 5000 {
			addrs = append(addrs,
				netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}),
				netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}))
		}
		for _, want := range []ServiceRouteResult{{Added: 10002}, {Unchanged: 10002}, {Unchanged: 10002}} {
			start := time.Now()
			got, err := serviceRoutes.Apply(t.Context(), addrs)
			if err != nil || got != want {
				t.Fatalf("%+v, %v; want %+v", got, err, want)
			}
			t.Logf("%+v in %v", got, time.Since(start))
		}
		start := time.Now()
		mustApplyRoutes(t, nil, RouteOptions{})
		t.Logf("routes of Pods beside them: %v", time.Since(start))
	})
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// TestWatcher repairs upon notifications, as the agent does.
func TestWatcher(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		desired := []routing.Route{
			route("10.10.2.0/24", 100, "172.30.0.1%eth0"), route("fd10:0:0:2::/64", 100, "fd30::1%eth0", "fd31::1%eth1"),
		}
		neighbours := []Neighbour{{netip.MustParseAddr("10.10.2.1"), net.HardwareAddr{2, 0, 0, 0, 0, 1}}}
		dirty := make(chan struct{}, 1)
		w := NewWatcher(WatcherParams{Gateway: "wm-gw0", Notify: func(Change) {
			select {
			case dirty <- struct{}{}:
			default:
			}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- w.Run(ctx) }()
		go func() {
			for {
				select {
				case <-ctx.Done():
					ended <- nil
					return
				case <-dirty: // errors pass: an interface that is down takes no route
					_, _ = Routes{}.Apply(ctx, desired, RouteOptions{})
					_, _ = Neighbours{Interface: "wm-gw0"}.Apply(ctx, neighbours, NeighbourOptions{})
				}
			}
		}()
		whole := func() error {
			if n := len(ip(t, node, "proto 87")); n != 2 {
				return fmt.Errorf("%d routes", n)
			}
			if !strings.Contains(node.Exec(t, "ip -6 route show proto 87"), "eth1") {
				return errors.New("a next hop is missing")
			}
			if !strings.Contains(node.Exec(t, "ip neigh show dev wm-gw0"), "10.10.2.1 lladdr 02:00:00:00:00:01 PERMANENT") {
				return errors.New("no neighbour")
			}
			return nil
		}
		testnet.WaitFor(t, time.Second, whole)
		for _, line := range []string{
			"ip route del 10.10.2.0/24 proto 87", "ip -6 route flush proto 87", "ip neigh del 10.10.2.1 dev wm-gw0",
			"ip route replace 10.10.2.0/24 via 172.30.0.2 metric 100 proto 87",
		} {
			node.Exec(t, line)
			testnet.WaitFor(t, time.Second, whole)
		}
		node.Exec(t, "ip link set eth1 down")
		node.Exec(t, "ip link set wm-gw0 down")
		node.Exec(t, "ip link set wm-gw0 up")
		node.Exec(t, "ip link set eth1 up")
		node.Exec(t, "ip address replace fd31::11/64 dev eth1 nodad")
		testnet.WaitFor(t, time.Second, whole)
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNeighbours(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		node.Exec(t, "ip neigh add 172.30.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent")
		node.Exec(t, "ip neigh add 10.10.9.1 lladdr 02:00:00:00:00:09 dev wm-gw0 nud permanent")
		node.Exec(t, "ip neigh add 10.10.2.1 lladdr 02:00:00:00:00:09 dev wm-gw0 nud reachable")
		mac := net.HardwareAddr{0x0a, 0x57, 0x4d, 0, 0, 1}
		n := Neighbours{Interface: "wm-gw0"}
		v4, v6 := netip.MustParseAddr("10.10.2.1"), netip.MustParseAddr("fd10:0:0:2::1")
		got, err := n.Apply(t.Context(), []Neighbour{{v6, mac}, {v4, mac}}, NeighbourOptions{})
		want := NeighbourResult{Set: []netip.Addr{v4, v6}, Removed: []netip.Addr{netip.MustParseAddr("10.10.9.1")}}
		if diff := cmp.Diff(want, got, equateNetip); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		got, err = n.Apply(t.Context(), []Neighbour{{v6, mac}, {v4, mac}}, NeighbourOptions{})
		if diff := cmp.Diff(NeighbourResult{Unchanged: 2}, got, equateNetip); diff != "" || err != nil {
			t.Errorf("second time: %v (-want +got):\n%s", err, diff)
		}
		if got := node.Exec(t, "ip neigh show nud permanent"); strings.Count(got, "PERMANENT") != 3 || !strings.Contains(got, "172.30.0.77") {
			t.Errorf("neighbours:\n%s", got)
		}
	})
}

func TestGatewayLink(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := WaitLink(ctx, "wm-gw0"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without the interface: %v", err)
		}
		found := make(chan error, 1)
		go func() {
			l, err := WaitLink(t.Context(), "wm-gw0")
			if err == nil && l.MAC.String() != "0a:57:4d:00:00:01" {
				err = fmt.Errorf("found %+v", l)
			}
			found <- err
		}()
		node.Exec(t, "ip link add wm-gw0 address 0a:57:4d:00:00:01 type veth peer name other")
		if err := <-found; err != nil {
			t.Fatal(err)
		}
		node.Exec(t, "ip link set other up")
		node.Exec(t, "ip address add 10.10.7.1/24 dev wm-gw0")
		if _, err := EnsureSysctls(t.Context(), SysctlParams{
			Gateway: "wm-gw0", Families: []routing.Family{routing.IPv4, routing.IPv6},
		}); err != nil {
			t.Fatal(err)
		}
		spec := LinkSpec{Name: "wm-gw0", MTU: 1450, Addresses: []netip.Prefix{pfx("10.10.1.1/24"), pfx("fd10:0:0:1::1/64")}}
		for _, step := range []struct {
			script string
			want   LinkResult
		}{
			{"true", LinkResult{Changes: 2, Addresses: 3}},
			{"true", LinkResult{}},
			{"ip link set wm-gw0 mtu 1400", LinkResult{Changes: 1}},
			{"ip address flush dev wm-gw0 scope global", LinkResult{Addresses: 2}},
			{"ip link set wm-gw0 down", LinkResult{Changes: 1, Addresses: 1}},
		} {
			node.Exec(t, step.script)
			got, err := ConfigureLink(t.Context(), spec)
			if err != nil || got.Link.Name != "wm-gw0" || got.Link.MTU != 1450 {
				t.Fatalf("after %s: %+v, %v", step.script, got, err)
			}
			got.Link = Link{}
			if diff := cmp.Diff(step.want, got); diff != "" {
				t.Errorf("after %s (-want +got):\n%s", step.script, diff)
			}
		}
		got := node.Exec(t, "ip -br address show dev wm-gw0")
		for _, want := range []string{"10.10.1.1/24", "fd10:0:0:1::1/64", "fe80::857:4dff:fe00:1/64"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s is missing: %s", want, got)
			}
		}
		if strings.Contains(got, "10.10.7.1") {
			t.Errorf("addresses: %s", got)
		}
		// Without duplicate detection this takes no time, but a worker of the kernel.
		testnet.WaitFor(t, 500*time.Millisecond, func() error {
			if got := node.Exec(t, "ip address show dev wm-gw0 tentative"); got != "" {
				return fmt.Errorf("tentative addresses: %s", got)
			}
			return nil
		})
		if v, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/forwarding"); err != nil || string(v) != "1\n" {
			t.Errorf("IPv6 forwarding: %s, %v", v, err)
		}
	})
}

func TestDiscoverUplink(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		for _, line := range []string{
			"ip route add default via 172.30.0.1 mtu 1480", "ip route add 10.99.0.0/16 via 172.31.0.1 mtu 1300",
			"ip route add 192.0.2.7/32 via 172.30.0.1 mtu 1290", "ip route add 172.32.0.0/24 dev eth0",
			"ip route add 10.10.2.0/24 via 172.30.0.1 proto 87 mtu 1281", "ip address add 172.33.0.1/32 dev eth0",
		} {
			node.Exec(t, line)
		}
		got, err := DiscoverUplink(t.Context(), UplinkParams{NodeAddresses: []netip.Addr{netip.MustParseAddr("172.30.0.11")}})
		if err != nil {
			t.Fatal(err)
		}
		want := Uplink{
			Link: Link{Name: "eth0", MTU: 1500}, PathMTU: 1480,
			Addresses: []netip.Prefix{pfx("172.30.0.11/24"), pfx("172.33.0.1/32"), pfx("fd30::11/64")},
			OnLink:    []netip.Prefix{pfx("172.30.0.0/24"), pfx("172.32.0.0/24"), pfx("fd30::/64")},
		}
		if diff := cmp.Diff(want, got, equateNetip, cmpopts.IgnoreFields(Link{}, "Index", "MAC")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if _, err := DiscoverUplink(t.Context(), UplinkParams{Interface: "eth9"}); !errors.Is(err, ErrNoUplink) {
			t.Errorf("no such interface: %v", err)
		}
	})
}

func TestReadUnderlay(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		for _, line := range []string{
			"ip route add default via 172.30.0.1", "ip route add 10.98.0.0/16 nexthop via 172.30.0.1 nexthop via 172.31.0.1",
			"ip route add 10.10.2.0/24 via 172.30.0.1 proto 87", "ip route add unreachable 10.97.0.0/16",
			"ip -6 route add fd99::/48 via fe80::1 dev eth1", "ip route add 10.96.0.0/16 dev wm-gw0",
		} {
			node.Exec(t, line)
		}
		got, err := ReadUnderlay(t.Context(), "wm-gw0")
		if err != nil {
			t.Fatal(err)
		}
		connected := func(prefix string, metric int, src, dev string) routing.Route {
			r := route(prefix, metric, "%"+dev)
			if src != "" {
				r.Source = netip.MustParseAddr(src)
			}
			return r
		}
		want := Underlay{
			Links: []routing.Link{
				{Name: "eth0", Prefixes: []netip.Prefix{pfx("172.30.0.0/24"), pfx("fd30::/64")}},
				{Name: "eth1", Prefixes: []netip.Prefix{pfx("172.31.0.0/24"), pfx("fd31::/64")}},
			},
			Routes: []routing.Route{
				route("0.0.0.0/0", 0, "172.30.0.1%eth0"), route("10.98.0.0/16", 0, "172.30.0.1%eth0", "172.31.0.1%eth1"),
				connected("172.30.0.0/24", 0, "172.30.0.11", "eth0"), connected("172.31.0.0/24", 0, "172.31.0.11", "eth1"),
				connected("fd30::/64", 256, "", "eth0"), connected("fd31::/64", 256, "", "eth1"),
				route("fd99::/48", 1024, "fe80::1%eth1"),
			},
		}
		if diff := cmp.Diff(want, got, equateNetip); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestLinkWithoutCarrier looks whether ECMP leaves a link that lost its carrier.
func TestLinkWithoutCarrier(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		if _, err := EnsureSysctls(t.Context(), SysctlParams{
			Gateway: "wm-gw0", Interfaces: []string{"eth0", "eth1"}, Families: []routing.Family{routing.IPv4, routing.IPv6},
		}); err != nil {
			t.Fatal(err)
		}
		desired := []routing.Route{
			route("10.10.2.0/24", 200, "172.30.0.1%eth0", "172.31.0.1%eth1"),
			route("fd10:0:0:2::/64", 200, "fd30::1%eth0", "fd31::1%eth1"),
		}
		mustApplyRoutes(t, desired, RouteOptions{})
		node.Exec(t, "ip netns exec tor ip link set eth1 down")
		testnet.WaitFor(t, 5*time.Second, func() error {
			for i := range 32 {
				for _, prefix := range []string{"10.10.2.", "fd10:0:0:2::"} {
					if got := node.Exec(t, fmt.Sprintf("ip route get %s%d", prefix, i+1)); !strings.Contains(got, "dev eth0") {
						return errors.New(got)
					}
				}
			}
			return nil
		})
		quiet(t, desired)
	})
}

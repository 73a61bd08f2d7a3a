// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/routing"
)

var equateNetip = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// via makes next hops: "address", "address%interface" or "%interface".
func via(hops ...string) []routing.NextHop {
	var out []routing.NextHop
	for _, h := range hops {
		addr, iface := h, ""
		for i := range h {
			if h[i] == '%' {
				addr, iface = h[:i], h[i+1:]
				break
			}
		}
		n := routing.NextHop{Interface: iface}
		if addr != "" {
			n.Addr = netip.MustParseAddr(addr)
		}
		out = append(out, n)
	}
	return out
}

func route(prefix string, metric int, hops ...string) routing.Route {
	return routing.Route{Prefix: pfx(prefix), Metric: metric, NextHops: via(hops...)}
}

func ours(r routing.Route) observed { return observed{Route: r, protocol: Protocol} }

func TestDiffRoutes(t *testing.T) {
	unreachable := routing.Route{Prefix: pfx("10.10.2.0/24"), Type: routing.Unreachable, Metric: 4096}
	tunnel := routing.Route{
		Prefix: pfx("10.10.2.0/24"), Metric: 100, Source: netip.MustParseAddr("10.10.1.1"), MTU: 1400,
		NextHops: []routing.NextHop{{Addr: netip.MustParseAddr("10.10.2.1"), Interface: "wm-gw0", OnLink: true}},
	}
	otherMTU, otherSource := tunnel, tunnel
	otherMTU.MTU, otherSource.Source = 1450, netip.Addr{}
	tests := []struct {
		name                       string
		desired                    []routing.Route
		actual                     []observed
		keep                       bool
		add, replace, remove, kept []routing.Route
		unchanged                  int
		foreign                    bool
		err                        bool
	}{
		{name: "nothing"},
		{name: "add", desired: []routing.Route{tunnel, unreachable}, add: []routing.Route{tunnel, unreachable}},
		{
			name: "unchanged, in another order", unchanged: 2,
			desired: []routing.Route{route("fd10::/64", 200, "fe80::2%eth1", "fe80::1%eth0"), unreachable},
			actual:  []observed{ours(unreachable), ours(route("fd10::/64", 200, "fe80::1%eth0", "fe80::2%eth1"))},
		},
		{
			name: "any interface will do", unchanged: 1,
			desired: []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1", "172.30.0.2%eth0")},
			actual:  []observed{ours(route("10.10.2.0/24", 200, "172.30.0.1%eth1", "172.30.0.2%eth0"))},
		},
		{
			name:    "wrong interface",
			desired: []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1%eth0")},
			actual:  []observed{ours(route("10.10.2.0/24", 200, "172.30.0.1%eth1"))},
			replace: []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1%eth0")},
		},
		{
			name:    "one next hop fewer",
			desired: []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1%eth0")},
			actual:  []observed{ours(route("10.10.2.0/24", 200, "172.30.0.1%eth0", "172.30.0.2%eth0"))},
			replace: []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1%eth0")},
		},
		{name: "MTU", desired: []routing.Route{tunnel}, actual: []observed{ours(otherMTU)}, replace: []routing.Route{tunnel}},
		{name: "source", desired: []routing.Route{tunnel}, actual: []observed{ours(otherSource)}, replace: []routing.Route{tunnel}},
		{
			name: "attributes of others", desired: []routing.Route{tunnel}, replace: []routing.Route{tunnel},
			actual: []observed{{Route: tunnel, protocol: Protocol, odd: true}},
		},
		{
			name:    "another metric is another route",
			desired: []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1%eth0")},
			actual:  []observed{ours(route("10.10.2.0/24", 100, "172.30.0.1%eth0"))},
			add:     []routing.Route{route("10.10.2.0/24", 200, "172.30.0.1%eth0")},
			remove:  []routing.Route{route("10.10.2.0/24", 100, "172.30.0.1%eth0")},
		},
		{name: "remove", actual: []observed{ours(tunnel), ours(unreachable)}, remove: []routing.Route{tunnel, unreachable}},
		{
			name: "keep what is not known", keep: true, unchanged: 1,
			desired: []routing.Route{unreachable}, actual: []observed{ours(tunnel), ours(unreachable)}, kept: []routing.Route{tunnel},
		},
		{
			name:   "leave others alone",
			actual: []observed{{Route: tunnel, protocol: 4}, {Route: unreachable, protocol: 186}},
		},
		{
			name: "conflict", desired: []routing.Route{tunnel, unreachable}, actual: []observed{{Route: otherMTU, protocol: 4}},
			add: []routing.Route{unreachable}, foreign: true, err: true,
		},
		{
			name: "twice in the kernel", desired: []routing.Route{tunnel}, unchanged: 1,
			actual: []observed{ours(otherMTU), ours(tunnel)}, remove: []routing.Route{otherMTU},
		},
		{name: "wanted twice", desired: []routing.Route{tunnel, otherMTU}, add: []routing.Route{tunnel}, err: true},
		{
			name:    "IPv6 metric 0 is 1024",
			desired: []routing.Route{route("fd10::/64", 0, "fd30::1%eth0")},
			actual:  []observed{ours(route("fd10::/64", 1024, "fd30::1%eth0"))}, unchanged: 1,
		},
		{
			name: "bad ones do not stop good ones", err: true, add: []routing.Route{tunnel},
			desired: []routing.Route{
				{}, route("10.0.0.0/8", 1), route("fd00::/8", 1, "10.0.0.1"), route("fd00::/8", 2, "fe80::1"),
				{Prefix: pfx("10.0.0.0/8"), Metric: 2, NextHops: []routing.NextHop{{}}},
				{Prefix: pfx("10.0.0.0/8"), Metric: 3, NextHops: []routing.NextHop{{Addr: netip.MustParseAddr("10.0.0.1"), OnLink: true}}},
				route("10.0.0.0/8", 4, "%eth0", "10.0.0.1"), tunnel,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := diffRoutes(tt.desired, tt.actual, tt.keep)
			var remove []routing.Route
			for _, o := range got.remove {
				remove = append(remove, o.Route)
			}
			for name, d := range map[string][2][]routing.Route{
				"add": {tt.add, got.add}, "replace": {tt.replace, got.replace},
				"remove": {tt.remove, remove}, "kept": {tt.kept, got.kept},
			} {
				if diff := cmp.Diff(d[0], d[1], equateNetip, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			err := errors.Join(got.errs...)
			if got.unchanged != tt.unchanged || (err != nil) != tt.err || errors.Is(err, ErrForeign) != tt.foreign {
				t.Errorf("unchanged %d, error %v", got.unchanged, err)
			}
		})
	}
}

func TestNormaliseMergesEqualHops(t *testing.T) {
	got, err := normalise(route("10.10.2.7/24", 200, "::ffff:172.30.0.1%eth0", "172.30.0.1%eth0"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(route("10.10.2.0/24", 200, "172.30.0.1%eth0"), got, equateNetip); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKernelRoutes(t *testing.T) {
	gw := GatewayInterface{Name: "wm-gw0", MAC: net.HardwareAddr{0x0a, 0x57, 0x4d, 0, 0, 1}, TunnelMTU: 1420}
	on := func(link string, s ...string) []NextHop {
		out := hops(s...)
		for i := range out {
			out[i].Interface = link
		}
		return out
	}
	service4 := Neighbour{Addr: ip("10.10.1.2"), MAC: gw.MAC, Interface: "wm-gw0"}
	service6 := Neighbour{Addr: ip("fd10:0:0:1::2"), MAC: gw.MAC, Interface: "wm-gw0"}
	own := []Neighbour{service4, service6}
	guard := func(p string) Route { return Route{Prefix: pfx(p), Type: Unreachable, Metric: MetricGuard} }
	tests := map[string]struct {
		in   KernelInput
		want KernelState
	}{
		"direct": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw, Paths: []Path{
				{Node: "n2", Family: IPv4, PodCIDR: n2.PodCIDRs[0], Kind: PathDirect, NextHops: addrList("10.1.0.2")},
				{Node: "n2", Family: IPv6, PodCIDR: n2.PodCIDRs[1], Kind: PathDirect, NextHops: addrList("fd01::2")},
			}},
			want: KernelState{Neighbours: own, Routes: []Route{
				{Prefix: n2.PodCIDRs[0], NextHops: on("eth0", "10.1.0.2"), Metric: MetricDirect},
				guard("10.10.2.0/24"),
				{Prefix: n2.PodCIDRs[1], NextHops: on("eth0", "fd01::2"), Metric: MetricDirect},
				guard("fd10:0:0:2::/64"),
			}},
		},
		"tunnel": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw, Paths: []Path{
				{Node: "n3", Family: IPv4, PodCIDR: n3.PodCIDRs[0], Kind: PathTunnel, NextHops: addrList("10.2.0.3")},
				{Node: "n3", Family: IPv6, PodCIDR: n3.PodCIDRs[1], Kind: PathTunnel, NextHops: addrList("10.2.0.3")},
			}},
			want: KernelState{
				Routes: []Route{
					{Prefix: n3.PodCIDRs[0], Source: ip("10.10.1.1"), Metric: MetricTunnel, MTU: 1420,
						NextHops: []NextHop{{Addr: ip("10.10.3.1"), Interface: "wm-gw0", OnLink: true}}},
					guard("10.10.3.0/24"),
					{Prefix: n3.PodCIDRs[1], Source: ip("fd10:0:0:1::1"), Metric: MetricTunnel, MTU: 1420,
						NextHops: []NextHop{{Addr: ip("fd10:0:0:3::1"), Interface: "wm-gw0", OnLink: true}}},
					guard("fd10:0:0:3::/64"),
				},
				Neighbours: []Neighbour{
					service4,
					{Addr: ip("10.10.3.1"), MAC: gw.MAC, Interface: "wm-gw0"},
					service6,
					{Addr: ip("fd10:0:0:3::1"), MAC: gw.MAC, Interface: "wm-gw0"},
				},
			},
		},
		"BGP: the learned route serves as the path's": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw,
				Paths:   []Path{{Node: "n3", Family: IPv4, PodCIDR: n3.PodCIDRs[0], Kind: PathBGP, NextHops: addrList("10.1.0.253", "10.1.0.254")}},
				Learned: []LearnedRoute{learnedRoute("10.10.3.0/24", "10.1.0.253", "10.1.0.254"), learnedRoute("10.10.77.0/24", "10.1.0.254")}},
			want: KernelState{Neighbours: own, Routes: []Route{
				{Prefix: n3.PodCIDRs[0], NextHops: on("eth0", "10.1.0.253", "10.1.0.254"), Metric: MetricBGP},
				guard("10.10.3.0/24"),
				{Prefix: pfx("10.10.77.0/24"), NextHops: on("eth0", "10.1.0.254"), Metric: MetricBGP},
			}},
		},
		"BGP: an aggregate is not outranked by the guard": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw,
				Paths:   []Path{{Node: "n3", Family: IPv4, PodCIDR: n3.PodCIDRs[0], Kind: PathBGP, NextHops: addrList("10.1.0.254")}},
				Learned: []LearnedRoute{learnedRoute("10.10.0.0/16", "10.1.0.254")}},
			want: KernelState{Neighbours: own, Routes: []Route{
				{Prefix: pfx("10.10.0.0/16"), NextHops: on("eth0", "10.1.0.254"), Metric: MetricBGP},
				{Prefix: n3.PodCIDRs[0], NextHops: on("eth0", "10.1.0.254"), Metric: MetricBGP},
				guard("10.10.3.0/24"),
			}},
		},
		"one family: one Service address": {
			in:   KernelInput{Local: Node{PodCIDRs: prefixes("fd10:0:0:1::/64")}, Gateway: gw},
			want: KernelState{Neighbours: []Neighbour{service6}},
		},
		"addresses behind the switch are neighbours": {
			in: KernelInput{Gateway: GatewayInterface{Name: gw.Name, MAC: gw.MAC, Behind: addrList("100::574e", "169.254.87.78")}},
			want: KernelState{Neighbours: []Neighbour{
				{Addr: ip("169.254.87.78"), MAC: gw.MAC, Interface: "wm-gw0"},
				{Addr: ip("100::574e"), MAC: gw.MAC, Interface: "wm-gw0"},
			}},
		},
		"none: guard only; trusted default route: nothing": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw, Paths: []Path{
				{Node: "n2", Family: IPv4, PodCIDR: n2.PodCIDRs[0], Kind: PathNone},
				{Node: "n3", Family: IPv4, PodCIDR: n3.PodCIDRs[0], Kind: PathDefault},
			}},
			want: KernelState{Neighbours: own, Routes: []Route{guard("10.10.2.0/24")}},
		},
		"a direct path beside a learned route: both, direct preferred": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw,
				Paths:   []Path{{Node: "n2", Family: IPv4, PodCIDR: n2.PodCIDRs[0], Kind: PathDirect, NextHops: addrList("10.1.0.2")}},
				Learned: []LearnedRoute{learnedRoute("10.10.2.0/24", "10.1.0.254")}},
			want: KernelState{Neighbours: own, Routes: []Route{
				{Prefix: n2.PodCIDRs[0], NextHops: on("eth0", "10.1.0.2"), Metric: MetricDirect},
				{Prefix: n2.PodCIDRs[0], NextHops: on("eth0", "10.1.0.254"), Metric: MetricBGP},
				guard("10.10.2.0/24"),
			}},
		},
		"next hops that are not on-link go the way of the underlay": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw,
				Underlay: []Route{
					{Prefix: pfx("0.0.0.0/0"), NextHops: on("eth0", "10.1.0.254"), Metric: 100},
					{Prefix: pfx("0.0.0.0/0"), NextHops: on("eth0", "10.1.0.253"), Metric: 50},
					{Prefix: pfx("10.2.0.0/24"), NextHops: on("eth1", "10.9.0.1", "10.9.0.2")},
					{Prefix: pfx("10.3.0.0/24"), NextHops: []NextHop{{Interface: "eth2"}}},
				},
				Learned: []LearnedRoute{
					learnedRoute("10.10.3.0/24", "10.2.0.3"),
					learnedRoute("10.10.4.0/24", "10.3.0.3"),
					learnedRoute("10.10.5.0/24", "192.0.2.1", "10.1.0.253"),
					learnedRoute("fd10:0:0:5::/64", "fd02::3", "fd02::4"),
				}},
			want: KernelState{
				Routes: []Route{
					{Prefix: pfx("10.10.3.0/24"), NextHops: on("eth1", "10.9.0.1", "10.9.0.2"), Metric: MetricBGP},
					{Prefix: pfx("10.10.4.0/24"), NextHops: on("eth2", "10.3.0.3"), Metric: MetricBGP},
					{Prefix: pfx("10.10.5.0/24"), NextHops: on("eth0", "10.1.0.253"), Metric: MetricBGP},
				},
				Neighbours: own,
				Unresolved: []string{"route fd10:0:0:5::/64: no way to next hop [fd02::3 fd02::4]"},
			},
		},
		"a path that cannot be resolved is guarded and said": {
			in: KernelInput{Local: n1, Links: uplinks, Gateway: gw,
				Paths: []Path{{Node: "n3", Family: IPv4, PodCIDR: n3.PodCIDRs[0], Kind: PathBGP, NextHops: addrList("10.2.0.3")}}},
			want: KernelState{
				Routes:     []Route{guard("10.10.3.0/24")},
				Neighbours: own,
				Unresolved: []string{"route 10.10.3.0/24 to node n3: no way to next hop [10.2.0.3]"},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.in.Gateway.PodMTU = 1450
			// Each node has routes to its own Pods.
			for _, p := range tc.in.Local.PodCIDRs {
				tc.want.Routes = append(tc.want.Routes, Route{
					Prefix: p, Metric: MetricLocal, MTU: 1450, Source: GatewayOf(p), NextHops: []NextHop{{Interface: "wm-gw0"}},
				})
			}
			slices.SortStableFunc(tc.want.Routes, func(a, b Route) int { return ComparePrefix(a.Prefix, b.Prefix) })
			if diff := cmp.Diff(tc.want, KernelRoutes(tc.in), compareValues); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

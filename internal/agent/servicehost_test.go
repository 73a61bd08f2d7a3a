// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/service"
)

// TestNodeAtNodePorts: in each family that Pods have, the node goes to NodePorts by
// an address that is led into the switch, and to endpoints by one of its own.
func TestNodeAtNodePorts(t *testing.T) {
	pods4, pods6 := netip.MustParsePrefix("10.10.1.1/24"), netip.MustParsePrefix("fd10:0:0:1::1/64")
	node4, node6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")
	four := hostfw.NodeClient{As: pipeline.NodeClient4, Node: node4}
	six := hostfw.NodeClient{As: pipeline.NodeClient6, Node: node6}
	some := []service.NodePort{{Protocol: service.TCP, Port: 30080}}
	for _, tt := range []struct {
		name     string
		gateways []netip.Prefix
		own      []netip.Addr
		ports    []service.NodePort
		want     []hostfw.NodeClient
	}{
		{"both families", []netip.Prefix{pods4, pods6}, []netip.Addr{node6, node4}, some, []hostfw.NodeClient{four, six}},
		{"IPv4 Pods", []netip.Prefix{pods4}, []netip.Addr{node4, node6}, some, []hostfw.NodeClient{four}},
		{"nodes without IPv4", []netip.Prefix{pods4, pods6}, []netip.Addr{node6}, some,
			[]hostfw.NodeClient{{As: four.As, Node: pods4.Addr()}, six}},
		{"no NodePorts", []netip.Prefix{pods4, pods6}, []netip.Addr{node4, node6}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addrs := nodeAddresses(World{Local: routing.Node{Addresses: tt.own}}, &Plan{Gateways: tt.gateways})
			want := &service.Host{NodePorts: tt.ports, Routes: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}
			rules := serviceRules(want, serviceHostSettings{addrs: addrs})
			equal := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			if d := cmp.Diff(tt.want, rules.NodeClients, equal); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			routes := slices.Clone(want.Routes)
			for _, c := range tt.want {
				routes = append(routes, c.As)
			}
			if d := cmp.Diff(routes, serviceRoutes(want, rules), equal); d != "" {
				t.Errorf("routes (-want +got):\n%s", d)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pipeline_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/internal/testnode"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/vsdb"
)

// TestTwoNodes connects Pods of two nodes by every kind of tunnel, with real
// switches and real kernels, and checks who reaches whom.
func TestTwoNodes(t *testing.T) {
	geneve, vxlan := vsdb.Tunnel{Type: encap.Geneve}, vsdb.Tunnel{Type: encap.VXLAN}
	for _, tunnels := range [][]vsdb.Tunnel{
		{geneve}, {vxlan},
		{geneve, vxlan}, {vxlan, {Type: encap.VXLAN, Port: 8472}}, // there by the one, back by the other
	} {
		for _, underlay := range []encap.Underlay{encap.UnderlayIPv4, encap.UnderlayIPv6} {
			var names []string
			for _, tunnel := range tunnels {
				names = append(names, tunnel.PortName())
			}
			t.Run(fmt.Sprintf("%s over %s", strings.Join(names, " and "), underlay), func(t *testing.T) {
				testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) { twoNodes(t, tunnels, underlay) })
			})
		}
	}
}

// twoNodes connects nodes that accept all tunnels. The first sends by the first
// one, the second by the last.
func twoNodes(t *testing.T, tunnels []vsdb.Tunnel, underlay encap.Underlay) {
	ns := []*testnet.Namespace{testnet.New(t, "n1"), testnet.New(t, "n2")}
	macs := []net.HardwareAddr{{2, 0, 0, 0, 1, 1}, {2, 0, 0, 0, 1, 2}}
	testnet.Veth(t,
		testnet.End{NS: ns[0], Name: "eth0", MAC: macs[0].String()},
		testnet.End{NS: ns[1], Name: "eth0", MAC: macs[1].String()})
	mtu := encap.TunnelMTU(1500, 6)
	nodes := make([]*testnode.Node, len(ns))
	for i := range nodes {
		ns[i].Exec(t, "ethtool -K eth0 tx off")
		nodes[i] = testnode.New(t, ns[i], i+1, vsdb.Layout{
			Datapath: vsdb.DatapathNetdev, GatewayMAC: pipeline.GatewayMAC(), MTU: mtu,
			Tunnels: tunnels,
			Uplink:  &vsdb.Uplink{Name: "eth0", MAC: macs[i]},
		})
		nodes[i].SetUp(t)
	}
	nodes[0].Join(t, nodes[1], underlay, tunnels[0])
	nodes[1].Join(t, nodes[0], underlay, tunnels[len(tunnels)-1])
	a, b, c := nodes[0].AddPod(t, mtu), nodes[0].AddPod(t, mtu), nodes[1].AddPod(t, mtu)

	for _, family := range []int{4, 6} {
		ping := func(name string, from *testnet.Namespace, to netip.Addr, options string) {
			t.Helper()
			line := fmt.Sprintf("ping -n -c3 -i0.2 -W5 %s %s", options, to)
			out := from.Exec(t, line)
			if strings.Contains(out, "DUP") || !strings.Contains(out, " 0% packet loss") && !strings.Contains(options, "-t") {
				t.Errorf("IPv%d %s: %s\n%s", family, name, line, out)
			}
		}
		warm := func(from *testnet.Namespace, to netip.Addr) {
			t.Helper()
			from.Exec(t, fmt.Sprintf("ping -n -c1 -w20 %s", to))
		}
		node1, node2 := nodes[0].Addr4(), nodes[1].Addr4()
		gateway1, gateway2 := nodes[0].Gateway4(), nodes[1].Gateway4()
		if family == 6 {
			node1, node2 = nodes[0].Addr6(), nodes[1].Addr6()
			gateway1, gateway2 = nodes[0].Gateway6(), nodes[1].Gateway6()
		}
		warm(a.NS, c.Addr[family]) // resolves the far end of the tunnel
		warm(c.NS, a.Addr[family])
		warm(ns[0], node2)
		ping("Pod to Pod of its node", a.NS, b.Addr[family], "")
		ping("Pod to its gateway", a.NS, gateway1, "")
		ping("Pod to its node", a.NS, node1, "")
		ping("Pod to remote Pod", a.NS, c.Addr[family], "")
		ping("Pod to remote gateway", a.NS, gateway2, "")
		ping("Pod to remote node", a.NS, node2, "")
		ping("node to its Pod", ns[0], a.Addr[family], "")
		ping("node to remote Pod", ns[0], c.Addr[family], "")
		ping("node to node", ns[0], node2, "")
		headers := 28
		if family == 6 {
			headers = 48
		}
		ping("largest packet", a.NS, c.Addr[family], fmt.Sprintf("-M do -s %d", mtu-headers))
		ping("fragments", a.NS, c.Addr[family], "-s 4000")
	}
	t.Run("TTL", func(t *testing.T) { expireTTL(t, nodes, a, b, c) })
}

// expireTTL: the gateway, and nobody else, answers a packet whose time is up.
func expireTTL(t *testing.T, nodes []*testnode.Node, a, b, c *testnode.Pod) {
	for _, to := range []*testnode.Pod{b, c} {
		for family, gateway := range map[int]netip.Addr{4: nodes[0].Gateway4(), 6: nodes[0].Gateway6()} {
			cmd := a.NS.Command(t.Context(), "ping", "-n", "-c1", "-W5", "-t1", to.Addr[family].String())
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("a packet with TTL 1 reached %s", to.Addr[family])
			}
			lower := strings.ToLower(string(out))
			if !strings.Contains(lower, "from "+gateway.String()) ||
				!strings.Contains(lower, "time to live exceeded") && !strings.Contains(lower, "hop limit") {
				t.Errorf("no answer of the gateway to a packet with TTL 1:\n%s", out)
			}
		}
	}
}

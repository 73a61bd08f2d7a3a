// SPDX-License-Identifier: Apache-2.0

package random

import (
	"net/netip"
	"time"

	"github.com/waymark-net/waymark/service"
)

// The world that everything takes place in. The node is that at which Services
// are looked at.
const (
	// Node is its name.
	Node = "n1"
	// TunnelNode is a node that is reached by the tunnel.
	TunnelNode = "n2"
)

var (
	// NodeAddrs are all addresses of the node.
	NodeAddrs = all(netip.ParseAddr, "192.0.2.1", "192.0.2.2", "fd00::1", "fd00::2")
	// Gateways are the first addresses of its Pod CIDRs.
	Gateways = all(netip.ParseAddr, "10.10.1.1", "fd10:0:0:1::1")
	// Pods are the addresses of its Pods, an IPv4 and an IPv6 address each.
	Pods = [][]netip.Addr{
		all(netip.ParseAddr, "10.10.1.11", "fd10:0:0:1::b"),
		all(netip.ParseAddr, "10.10.1.12", "fd10:0:0:1::c"),
		all(netip.ParseAddr, "10.10.1.13", "fd10:0:0:1::d"),
	}
	// TunnelCIDRs are those of the Pods of TunnelNode.
	TunnelCIDRs = all(netip.ParsePrefix, "10.10.2.0/24", "fd10:0:0:2::/64")
)

var (
	// Where endpoints are: Pods of the node, of others, hosts and strangers.
	endpointAddrs = all(netip.ParseAddr,
		"10.10.1.11", "10.10.1.12", "10.10.1.13", "10.10.2.11", "10.10.2.12", "10.10.3.11", "10.10.3.12", "192.0.2.1", "192.0.2.9", "198.18.0.50",
		"fd10:0:0:1::b", "fd10:0:0:1::c", "fd10:0:0:1::d", "fd10:0:0:2::b", "fd10:0:0:2::c", "fd10:0:0:3::b", "fd00::1", "2001:db8:18::50")
	endpointPorts = []uint16{8080, 8080, 8080, 8081, 80}
	// nodesOf says on which node an endpoint is.
	nodesOf = map[string]string{"10.10.1.": Node, "fd10:0:0:1::": Node, "10.10.2.": TunnelNode, "fd10:0:0:2::": TunnelNode, "10.10.3.": "n3", "fd10:0:0:3::": "n3"}

	clusterIPs4 = all(netip.ParseAddr, "10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4", "10.96.0.5")
	clusterIPs6 = all(netip.ParseAddr, "fd00:96::1", "fd00:96::2", "fd00:96::3", "fd00:96::4", "fd00:96::5")
	// Addresses to the outside; some are those of the node.
	outsideIPs = all(netip.ParseAddr, "198.51.100.1", "198.51.100.2", "192.0.2.1", "192.0.2.2", "2001:db8:51::1", "2001:db8:51::2", "fd00::1")

	ports     = []uint16{53, 80, 80, 443, 30080}
	nodePorts = []uint16{30053, 30080, 30081, 30443}
	protocols = []service.Protocol{service.TCP, service.TCP, service.UDP, service.UDP, service.SCTP}

	zones = []string{"z1", "z2", "z3", ""}
	// hintZones and hintNodes have one each that does not exist.
	hintZones = []string{"z1", "z1", "z2", "nowhere"}
	hintNodes = []string{Node, Node, TunnelNode, "nobody"}

	sourceRanges = all(netip.ParsePrefix, "10.10.1.0/28", "10.10.1.12/32", "203.0.113.0/25", "203.0.113.64/26", "192.0.2.0/24", "0.0.0.0/0",
		"fd10:0:0:1::c/128", "2001:db8:113::/64", "2001:db8:113::40/122", "fd00::/64", "::/0")
	// clients are outside of the node.
	clients = all(netip.ParseAddr, "203.0.113.7", "203.0.113.64", "203.0.113.200", "192.0.2.77", "10.10.2.12", "198.18.0.9",
		"2001:db8:113::7", "2001:db8:113::40", "2001:db8:113:1::", "fd00::77", "fd10:0:0:2::c", "2001:db8:18::9")

	// handedOn hold the addresses by which the kernel hands on.
	handedOn = all(netip.ParsePrefix, "169.254.0.0/16", "100::/64")

	affinities = []time.Duration{time.Second, 60 * time.Second, 10800 * time.Second, 65535 * time.Second, 65536 * time.Second, 86400 * time.Second}
)

func all[T any](parse func(string) (T, error), texts ...string) []T {
	var out []T
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			panic(err) // a literal above
		}
		out = append(out, v)
	}
	return out
}

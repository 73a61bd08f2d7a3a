// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strings"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Links is the batch for ip(8), run on the machine, that connects hosts. netns
// gives the name of a host's network namespace.
func Links(links []topology.Link, netns func(host string) string) string {
	var b strings.Builder
	for _, l := range links {
		fmt.Fprintf(&b, "link add name %s mtu %d netns %s type veth peer name %s mtu %d netns %s\n",
			l.A.Interface, l.MTU, netns(l.A.Host), l.B.Interface, l.MTU, netns(l.B.Host))
	}
	return b.String()
}

// Configure is the batch for ip(8), run in the host, that gives it the bridge
// if it is a switch, and addresses and default routes. Its links must be there.
func Configure(h topology.Host) string {
	var b strings.Builder
	b.WriteString("link set lo up\n")
	if h.Role == topology.RoleSwitch {
		// Without snooping: neighbour discovery must not depend on it.
		fmt.Fprintf(&b, "link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n", topology.Bridge)
		fmt.Fprintf(&b, "link set %s up\n", topology.Bridge)
	}
	for _, i := range h.Interfaces {
		b.WriteString(configureInterface(h, i))
	}
	b.WriteString(defaultRoutes(h))
	return b.String()
}

// ConfigureInterface is the part of Configure for one interface, for a link
// that is added to a running host.
func ConfigureInterface(h topology.Host, name string) string {
	for _, i := range h.Interfaces {
		if i.Name == name {
			return configureInterface(h, i)
		}
	}
	return ""
}

func configureInterface(h topology.Host, i topology.Interface) string {
	var b strings.Builder
	if h.Router() {
		fmt.Fprintf(&b, "link set %s address %s\n", i.Name, routerMAC(h, i))
	}
	for _, p := range i.Addresses {
		nodad := ""
		if p.Addr().Is6() {
			nodad = " nodad"
		}
		fmt.Fprintf(&b, "addr add %s dev %s%s\n", p, i.Name, nodad)
	}
	if h.Role == topology.RoleSwitch {
		fmt.Fprintf(&b, "link set %s master %s\n", i.Name, topology.Bridge)
	}
	fmt.Fprintf(&b, "link set %s up\n", i.Name)
	return b.String()
}

// routerMAC is the same each time the router is started, as that of a router of
// metal is: its neighbours would send to the old one until they ask again.
func routerMAC(h topology.Host, i topology.Interface) net.HardwareAddr {
	sum := sha256.Sum256([]byte(h.Name + "/" + i.Name))
	return append(net.HardwareAddr{0x02}, sum[:5]...) // locally administered, unicast
}

// lastResort is the metric of a default route over several gateways. Nobody
// tells a host that one of them is dead, so that a learned route comes before it.
const lastResort = 1024

// defaultRoutes renders one route a family, multipath if there are several gateways.
func defaultRoutes(h topology.Host) string {
	var v4, v6 []string
	for _, g := range h.Gateways {
		if g.Is4() {
			v4 = append(v4, g.String())
		} else {
			v6 = append(v6, g.String())
		}
	}
	var b strings.Builder
	for _, family := range []struct {
		destination string
		gateways    []string
	}{{"0.0.0.0/0", v4}, {"::/0", v6}} {
		switch len(family.gateways) {
		case 0:
		case 1:
			fmt.Fprintf(&b, "route add %s via %s\n", family.destination, family.gateways[0])
		default:
			fmt.Fprintf(&b, "route add %s metric %d", family.destination, lastResort)
			for _, g := range family.gateways {
				fmt.Fprintf(&b, " nexthop via %s", g)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Offloads are the arguments for ethtool(8) that turn off what a veth leaves
// to hardware that is not there: a userspace switch on the link would see
// packets without checksums and larger than the MTU.
func Offloads(name string) []string {
	return []string{"ethtool", "-K", name, "rx", "off", "tx", "off", "tso", "off", "gso", "off", "gro", "off"}
}

// Sysctls are the kernel settings of a host, to be set before it has links.
func Sysctls(role topology.Role) []host.Sysctl {
	settings := []host.Sysctl{
		// Addresses are unique and must be usable at once.
		{Key: "net/ipv6/conf/default/accept_dad", Value: "0"},
		{Key: "net/ipv6/conf/all/accept_dad", Value: "0"},
		// A link that comes back has its addresses, as with IPv4.
		{Key: "net/ipv6/conf/default/keep_addr_on_down", Value: "1"},
		{Key: "net/ipv6/conf/all/keep_addr_on_down", Value: "1"},
	}
	switch role {
	case topology.RoleToR, topology.RoleSpine:
		settings = append(settings,
			host.Sysctl{Key: "net/ipv4/ip_forward", Value: "1"},
			host.Sysctl{Key: "net/ipv6/conf/all/forwarding", Value: "1"},
			host.Sysctl{Key: "net/ipv4/conf/all/rp_filter", Value: "0"},
			host.Sysctl{Key: "net/ipv4/conf/default/rp_filter", Value: "0"},
			// A node keeps both gateways, whichever of them passes packets on.
			host.Sysctl{Key: "net/ipv4/conf/all/send_redirects", Value: "0"},
			host.Sysctl{Key: "net/ipv4/conf/default/send_redirects", Value: "0"},
			// By ports: connections between two hosts spread over all paths.
			host.Sysctl{Key: "net/ipv4/fib_multipath_hash_policy", Value: "1"},
			host.Sysctl{Key: "net/ipv6/fib_multipath_hash_policy", Value: "1"},
			// A router answers each too big packet, also under test.
			host.Sysctl{Key: "net/ipv4/icmp_ratelimit", Value: "0"},
			host.Sysctl{Key: "net/ipv6/icmp/ratelimit", Value: "0"},
		)
	case topology.RoleNode:
		settings = append(settings,
			// As a fresh machine: forwarding is for the product to turn on.
			host.Sysctl{Key: "net/ipv4/ip_forward", Value: "0"},
			// Of two default gateways, one that does not answer is avoided.
			host.Sysctl{Key: "net/ipv4/fib_multipath_use_neigh", Value: "1"},
		)
	}
	return settings
}

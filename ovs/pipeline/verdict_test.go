// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

// verdictCase is a packet in the notation of ovs-fields(7) and what becomes
// of it: "output:PORT" and the header fields that matter, or "drop TABLE/PRIO"
// with the flow that counts it. A packet that names ct_state has that after the
// lookup of its connection, and the mark, label and ports that it names; others
// are the first of their connection.
type verdictCase struct {
	name, packet, want string
}

// testFlows is a node with two dual-stack Pods, a Pod of each single family
// and two remote nodes.
func testFlows() []flow.Flow {
	var out []flow.Flow
	for _, flows := range [][]flow.Flow{
		Base(),
		Gateway(gateway(gw4, gw6)),
		Resume(gateway(gw4, gw6)),
		Pod(podA(podA4, podA6)),
		Pod(PodPort{Port: portB, MAC: macB, Addrs: addrs("10.10.1.3", "fd10:0:0:1::3")}),
		Pod(PodPort{Port: portC, MAC: macC, Addrs: addrs("10.10.1.4")}),
		Pod(PodPort{Port: portD, MAC: macD, Addrs: addrs("fd10:0:0:1::5")}),
		testPolicy(),
		Node(remote()),
		Node(remote6()),
	} {
		out = append(out, flows...)
	}
	return out
}

// Packets begin with one of these.
const (
	fromA  = "in_port=11,dl_src=0e:00:00:00:00:0a,"
	fromC  = "in_port=13,dl_src=0e:00:00:00:00:0c,"
	fromD  = "in_port=14,dl_src=0e:00:00:00:00:0d,"
	fromGW = "in_port=1,dl_src=0a:57:4d:00:00:01,"
	fromT  = "in_port=2,dl_src=0a:57:4d:00:00:01,dl_dst=0a:57:4d:00:00:01,"

	toGW    = "dl_dst=0a:57:4d:00:00:01,"
	toAll   = "dl_dst=ff:ff:ff:ff:ff:ff,"
	node2   = "tun_src=192.0.2.2,"
	node3   = "tun_ipv6_src=fd00::3,"
	solicit = "icmp6,icmpv6_type=135,nw_ttl=255,"
	advert  = "icmp6,icmpv6_type=136,nw_ttl=255,"
)

const (
	spoofed = "drop 10/50"
	wrongND = "drop 10/250"
	quiet   = "drop 10/240"
	forbid  = "drop 10/300"
	noNeigh = "drop 20/50"
)

// verdicts are the cases in the order of the tables.
func verdicts() []verdictCase {
	var out []verdictCase
	for _, cases := range [][]verdictCase{classifyCases(), spoofIPv4Cases(), spoofIPv6Cases(), neighbourCases(),
		forwardCases(), tunnelCases(), ttlCases(), fragmentCases(), exemptCases(), judgeCases(), midStreamCases(),
		loopCases()} {
		out = append(out, cases...)
	}
	return out
}

func classifyCases() []verdictCase {
	return []verdictCase{
		{"unknown port", "in_port=99,tcp,nw_src=10.10.1.2,nw_dst=10.10.1.3", "drop 0/0"},
		{"local port of the bridge", "in_port=LOCAL,tcp,nw_src=10.10.1.1,nw_dst=10.10.1.3", "drop 0/0"},
		{"Pod sends a VLAN tag", fromA + toGW + "dl_vlan=5,tcp,nw_src=10.10.1.2,nw_dst=10.10.1.3", "drop 0/300"},
		{"kernel sends a VLAN tag", fromGW + "dl_vlan=5,tcp,nw_src=10.10.1.1,nw_dst=10.10.1.3", "drop 0/300"},
	}
}

func spoofIPv4Cases() []verdictCase {
	return []verdictCase{
		{"IPv4 with the wrong MAC", "in_port=11,dl_src=0e:00:00:00:00:0b," + toGW + "tcp,nw_src=10.10.1.2,nw_dst=10.10.1.3", spoofed},
		{"IPv4 with another Pod's address", fromA + toGW + "tcp,nw_src=10.10.1.3,nw_dst=10.10.2.9", spoofed},
		{"IPv4 with another Pod's address and MAC", "in_port=11,dl_src=0e:00:00:00:00:0b," + toGW + "tcp,nw_src=10.10.1.3,nw_dst=10.10.2.9", spoofed},
		{"IPv4 with the gateway's address", fromA + toGW + "udp,nw_src=10.10.1.1,nw_dst=10.10.1.3", spoofed},
		{"IPv4 with no address", fromA + toGW + "udp,nw_src=0.0.0.0,nw_dst=10.10.1.3", spoofed},
		{"later fragment with another address", fromA + toGW + "udp,nw_frag=later,nw_src=10.10.1.3,nw_dst=10.10.2.9", spoofed},
		{"IPv4 from a Pod without IPv4", fromD + toGW + "tcp,nw_src=10.10.1.2,nw_dst=10.10.1.3", spoofed},
		{"IPv6 from a Pod without IPv6", fromC + toGW + "tcp6,ipv6_src=fd10:0:0:1::2,ipv6_dst=fd10:0:0:1::3", spoofed},
		{"neither IP nor ARP", fromA + toGW + "dl_type=0x88cc", spoofed},
		{"DHCPv4 server", fromA + toGW + "udp,nw_src=10.10.1.2,nw_dst=10.10.1.3,udp_src=67,udp_dst=68", forbid},
		{"DHCPv4 server on another port", fromA + toGW + "udp,nw_src=10.10.1.2,nw_dst=10.10.1.3,udp_src=6767,udp_dst=68", "drop 10/295"},
		{"DHCPv4 server, broadcast", fromA + toAll + "udp,nw_src=10.10.1.2,nw_dst=255.255.255.255,udp_src=67,udp_dst=68", forbid},
		{"DHCPv4 client", fromA + toAll + "udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67", quiet},
		{"IPv4 multicast", fromA + "dl_dst=01:00:5e:00:00:fb,udp,nw_src=10.10.1.2,nw_dst=224.0.0.251,udp_dst=5353", quiet},
		{"ARP with another MAC in Ethernet", "in_port=11,dl_src=0e:00:00:00:00:0b," + toAll + "arp,arp_op=1,arp_spa=10.10.1.2,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.1", spoofed},
		{"ARP with another sender MAC", fromA + toAll + "arp,arp_op=1,arp_spa=10.10.1.2,arp_sha=0e:00:00:00:00:0b,arp_tpa=10.10.1.1", spoofed},
		{"ARP with another sender address", fromA + toAll + "arp,arp_op=1,arp_spa=10.10.1.3,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.1", spoofed},
		{"ARP announcement of the gateway", fromA + toAll + "arp,arp_op=2,arp_spa=10.10.1.1,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.1", spoofed},
		{"ARP probe", fromA + toAll + "arp,arp_op=1,arp_spa=0.0.0.0,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.2", spoofed},
	}
}

func spoofIPv6Cases() []verdictCase {
	const (
		own   = "ipv6_src=fd10:0:0:1::2,"
		ownLL = "ipv6_src=fe80::c00:ff:fe00:a,"
		sll   = "nd_sll=0e:00:00:00:00:0a"
		tll   = "nd_tll=0e:00:00:00:00:0a"
		gwIP  = "ipv6_dst=fd10:0:0:1::1,"
		group = "dl_dst=33:33:ff:00:00:01,"
		gwNS  = "ipv6_dst=ff02::1:ff00:1,nd_target=fd10:0:0:1::1,"
	)
	return []verdictCase{
		{"IPv6 with the wrong MAC", "in_port=11,dl_src=0e:00:00:00:00:0b," + toGW + "tcp6," + own + gwIP, spoofed},
		{"IPv6 with another Pod's address", fromA + toGW + "tcp6,ipv6_src=fd10:0:0:1::3," + gwIP, spoofed},
		{"IPv6 from the link-local address", fromA + toGW + "udp6," + ownLL + gwIP, spoofed},
		{"IPv6 from the gateway's link-local address", fromA + toGW + "udp6,ipv6_src=fe80::857:4dff:fe00:1," + gwIP, spoofed},
		{"later IPv6 fragment with another address", fromA + toGW + "udp6,nw_frag=later,ipv6_src=fd10:0:0:1::3," + gwIP, spoofed},
		{"router advertisement", fromA + "dl_dst=33:33:00:00:00:01,icmp6,icmpv6_type=134," + ownLL + "ipv6_dst=ff02::1", forbid},
		{"router advertisement, unicast", fromA + toGW + "icmp6,icmpv6_type=134," + own + "ipv6_dst=fd10:0:0:1::3", forbid},
		{"redirect", fromA + toGW + "icmp6,icmpv6_type=137," + own + "ipv6_dst=fd10:0:0:1::3", forbid},
		{"DHCPv6 server", fromA + toGW + "udp6," + own + "ipv6_dst=fd10:0:0:1::3,udp_src=547,udp_dst=546", forbid},
		{"DHCPv6 server on another port", fromA + toGW + "udp6," + own + "ipv6_dst=fd10:0:0:1::3,udp_src=5470,udp_dst=546", "drop 10/295"},
		{"router solicitation", fromA + "dl_dst=33:33:00:00:00:02,icmp6,icmpv6_type=133," + ownLL + "ipv6_dst=ff02::2", quiet},
		{"multicast listener report", fromA + "dl_dst=33:33:00:00:00:16,icmp6,icmpv6_type=143," + ownLL + "ipv6_dst=ff02::16", quiet},
		{"IPv6 multicast", fromA + "dl_dst=33:33:00:00:00:fb,udp6," + own + "ipv6_dst=ff02::fb,udp_dst=5353", quiet},
		{"duplicate address detection", fromA + "dl_dst=33:33:ff:00:00:0a," + solicit + "ipv6_src=::,ipv6_dst=ff02::1:ff00:a,nd_target=fe80::c00:ff:fe00:a", "drop 10/255"},
		{"solicitation from another address", fromA + group + solicit + "ipv6_src=fd10:0:0:1::3," + gwNS + sll, wrongND},
		{"solicitation with another link-layer address", fromA + group + solicit + own + gwNS + "nd_sll=0e:00:00:00:00:0b", wrongND},
		{"solicitation without link-layer address", fromA + group + solicit + own + gwNS + "nd_sll=00:00:00:00:00:00", wrongND},
		{"solicitation from another MAC", "in_port=11,dl_src=0e:00:00:00:00:0b," + group + solicit + own + gwNS + sll, wrongND},
		{"advertisement of another Pod's address", fromA + toGW + advert + own + gwIP + "nd_target=fd10:0:0:1::3," + tll, wrongND},
		{"advertisement of the gateway", fromA + "dl_dst=33:33:00:00:00:01," + advert + own + "ipv6_dst=ff02::1,nd_target=fd10:0:0:1::1," + tll, wrongND},
		{"advertisement with another link-layer address", fromA + toGW + advert + own + gwIP + "nd_target=fd10:0:0:1::2,nd_tll=0e:00:00:00:00:0b", wrongND},
		{"advertisement of a foreign link-local address", fromA + toGW + advert + ownLL + gwIP + "nd_target=fe80::857:4dff:fe00:1," + tll, wrongND},
		{"advertisement from another address", fromA + toGW + advert + "ipv6_src=fd10:0:0:1::3," + gwIP + "nd_target=fd10:0:0:1::2," + tll, wrongND},
	}
}

func neighbourCases() []verdictCase {
	const (
		sllA  = "nd_sll=0e:00:00:00:00:0a"
		sllGW = "nd_sll=0a:57:4d:00:00:01"
		a6    = "ipv6_src=fd10:0:0:1::2,"
		aLL   = "ipv6_src=fe80::c00:ff:fe00:a,"
		gwLL  = "ipv6_src=fe80::857:4dff:fe00:1,"
		toA   = "dl_dst=0e:00:00:00:00:0a,"
	)
	return []verdictCase{
		{"Pod asks for the gateway", fromA + toAll + "arp,arp_op=1,arp_spa=10.10.1.2,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.1", "output:1"},
		{"Pod asks for another Pod", fromA + toAll + "arp,arp_op=1,arp_spa=10.10.1.2,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.3", noNeigh},
		{"Pod answers the gateway", fromA + toGW + "arp,arp_op=2,arp_spa=10.10.1.2,arp_sha=0e:00:00:00:00:0a,arp_tpa=192.0.2.1", "output:1"},
		{"Pod answers another Pod", fromA + "dl_dst=0e:00:00:00:00:0b,arp,arp_op=2,arp_spa=10.10.1.2,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.3", noNeigh},
		{"Pod announces itself", fromA + toAll + "arp,arp_op=1,arp_spa=10.10.1.2,arp_sha=0e:00:00:00:00:0a,arp_tpa=10.10.1.2", noNeigh},
		{"kernel asks for a Pod", fromGW + toAll + "arp,arp_op=1,arp_spa=192.0.2.1,arp_sha=0a:57:4d:00:00:01,arp_tpa=10.10.1.2", "output:11"},
		{"kernel answers a Pod", fromGW + toA + "arp,arp_op=2,arp_spa=10.10.1.1,arp_sha=0a:57:4d:00:00:01,arp_tpa=10.10.1.2", "output:11"},
		{"kernel asks for nobody", fromGW + toAll + "arp,arp_op=1,arp_spa=10.10.1.1,arp_sha=0a:57:4d:00:00:01,arp_tpa=10.10.1.200", noNeigh},

		{"Pod solicits the gateway", fromA + "dl_dst=33:33:ff:00:00:01," + solicit + a6 + "ipv6_dst=ff02::1:ff00:1,nd_target=fd10:0:0:1::1," + sllA, "output:1"},
		{"Pod solicits the gateway, link-local", fromA + "dl_dst=33:33:ff:00:00:01," + solicit + aLL + "ipv6_dst=ff02::1:ff00:1,nd_target=fd10:0:0:1::1," + sllA, "output:1"},
		{"Pod probes the gateway's link-local address", fromA + toGW + solicit + aLL + "ipv6_dst=fe80::857:4dff:fe00:1,nd_target=fe80::857:4dff:fe00:1," + sllA, "output:1"},
		{"Pod solicits another Pod", fromA + "dl_dst=33:33:ff:00:00:03," + solicit + a6 + "ipv6_dst=ff02::1:ff00:3,nd_target=fd10:0:0:1::3," + sllA, noNeigh},
		{"Pod answers the gateway by address", fromA + toGW + advert + a6 + "ipv6_dst=fe80::857:4dff:fe00:1,nd_target=fd10:0:0:1::2,nd_tll=0e:00:00:00:00:0a", "output:1"},
		{"Pod answers a probe", fromA + toGW + advert + a6 + "ipv6_dst=fd10:0:0:1::1,nd_target=fd10:0:0:1::2,nd_tll=00:00:00:00:00:00", "output:1"},
		{"Pod answers by link-local address", fromA + toGW + advert + aLL + "ipv6_dst=fd10:0:0:1::1,nd_target=fe80::c00:ff:fe00:a,nd_tll=0e:00:00:00:00:0a", "output:1"},
		{"Pod advertises itself to all", fromA + "dl_dst=33:33:00:00:00:01," + advert + a6 + "ipv6_dst=ff02::1,nd_target=fd10:0:0:1::2,nd_tll=0e:00:00:00:00:0a", noNeigh},
		{"kernel solicits a Pod", fromGW + "dl_dst=33:33:ff:00:00:02," + solicit + gwLL + "ipv6_dst=ff02::1:ff00:2,nd_target=fd10:0:0:1::2," + sllGW, "output:11"},
		{"kernel probes a Pod's link-local address", fromGW + toA + solicit + gwLL + "ipv6_dst=fe80::c00:ff:fe00:a,nd_target=fe80::c00:ff:fe00:a," + sllGW, "output:11"},
		{"kernel answers a Pod's link-local address", fromGW + toA + advert + "ipv6_src=fd10:0:0:1::1,ipv6_dst=fe80::c00:ff:fe00:a,nd_target=fd10:0:0:1::1,nd_tll=0a:57:4d:00:00:01", "output:11"},
		{"kernel solicits nobody", fromGW + "dl_dst=33:33:ff:00:02:00," + solicit + gwLL + "ipv6_dst=ff02::1:ff00:200,nd_target=fd10:0:0:1::200," + sllGW, noNeigh},
		{"kernel redirects a Pod", fromGW + toA + "icmp,icmp_type=5,nw_src=10.10.1.1,nw_dst=10.10.1.2", "drop 20/300"},
		{"kernel redirects a Pod, IPv6", fromGW + toA + "icmp6,icmpv6_type=137," + gwLL + "ipv6_dst=fd10:0:0:1::2", "drop 20/300"},
	}
}

func forwardCases() []verdictCase {
	const (
		a4, a6 = "tcp,nw_ttl=64,nw_src=10.10.1.2,", "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:1::2,"
		podB   = "output:12 dl_src=0a:57:4d:00:00:01 dl_dst=0e:00:00:00:00:0b nw_ttl=63"
		fromK  = "output:11 dl_src=0a:57:4d:00:00:01 dl_dst=0e:00:00:00:00:0a nw_ttl=64"
		gw     = "output:1 dl_dst=0a:57:4d:00:00:01 nw_ttl=64"
	)
	return []verdictCase{
		{"Pod to Pod", fromA + toGW + a4 + "nw_dst=10.10.1.3", podB},
		{"Pod to Pod, IPv6", fromA + toGW + a6 + "ipv6_dst=fd10:0:0:1::3", podB},
		{"Pod to Pod, fragment", fromA + toGW + "udp,nw_frag=later,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.3", podB},
		{"Pod to gateway", fromA + toGW + a4 + "nw_dst=10.10.1.1", gw},
		{"Pod to gateway, IPv6", fromA + toGW + a6 + "ipv6_dst=fd10:0:0:1::1", gw},
		{"Pod to outside", fromA + toGW + a4 + "nw_dst=203.0.113.7", gw},
		{"Pod to outside, IPv6", fromA + toGW + a6 + "ipv6_dst=2001:db8::7", gw},
		{"Pod to outside, broadcast on the link", fromA + toAll + a4 + "nw_dst=203.0.113.7", gw},
		{"Pod to its node", fromA + toGW + a4 + "nw_dst=192.0.2.1", gw},
		{"Pod to a routed family of a node", fromA + toGW + a4 + "nw_dst=10.10.3.9", gw},
		{"Pod to an address of the node's Pod CIDR that nobody has", fromA + toGW + a4 + "nw_dst=10.10.1.200", gw},
		{"Pod to a link-local address", fromA + toGW + a6 + "ipv6_dst=fe80::857:4dff:fe00:1", "drop 35/300"},
		{"kernel to Pod", fromGW + "dl_dst=0e:00:00:00:00:0a,tcp,nw_ttl=64,nw_src=203.0.113.7,nw_dst=10.10.1.2", fromK},
		{"kernel to Pod, IPv6", fromGW + "dl_dst=0e:00:00:00:00:0a,tcp6,nw_ttl=64,ipv6_src=2001:db8::7,ipv6_dst=fd10:0:0:1::2", fromK},
		{"kernel to Pod by the gateway's MAC", fromGW + toGW + "tcp,nw_ttl=64,nw_src=203.0.113.7,nw_dst=10.10.1.2", fromK},
		{"kernel to nobody", fromGW + "dl_dst=0e:00:00:00:00:0f,tcp,nw_ttl=64,nw_src=203.0.113.7,nw_dst=10.10.1.200", "drop 35/50"},
		{"kernel to its own gateway address", fromGW + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.1,nw_dst=10.10.1.1", "drop 35/50"},
		{"kernel to outside", fromGW + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.1,nw_dst=203.0.113.7", "drop 35/50"},
		{"kernel's multicast", fromGW + "dl_dst=33:33:00:00:00:16,icmp6,icmpv6_type=143,ipv6_src=fe80::857:4dff:fe00:1,ipv6_dst=ff02::16", "drop 35/300"},
		{"kernel's multicast, IPv4", fromGW + "dl_dst=01:00:5e:00:00:fb,udp,nw_src=10.10.1.1,nw_dst=224.0.0.251", "drop 35/300"},
	}
}

func tunnelCases() []verdictCase {
	const (
		a4, a6 = "tcp,nw_ttl=64,nw_src=10.10.1.2,", "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:1::2,"
		over4  = "output:2 dl_dst=0a:57:4d:00:00:01 tun_src=192.0.2.1 tun_dst=192.0.2.2 "
		over6  = "output:2 dl_dst=0a:57:4d:00:00:01 tun_ipv6_src=fd00::1 tun_ipv6_dst=fd00::3 "
		podA   = "output:11 dl_src=0a:57:4d:00:00:01 dl_dst=0e:00:00:00:00:0a nw_ttl=64"
		gw     = "output:1 dl_dst=0a:57:4d:00:00:01 nw_ttl=64"
	)
	return []verdictCase{
		{"Pod to remote Pod", fromA + toGW + a4 + "nw_dst=10.10.2.9", over4 + "nw_ttl=63"},
		{"Pod to remote Pod, IPv6 over IPv4", fromA + toGW + a6 + "ipv6_dst=fd10:0:0:2::9", over4 + "nw_ttl=63"},
		{"Pod to remote Pod, IPv6 over IPv6", fromA + toGW + a6 + "ipv6_dst=fd10:0:0:3::9", over6 + "nw_ttl=63"},
		{"Pod to remote gateway", fromA + toGW + a4 + "nw_dst=10.10.2.1", over4 + "nw_ttl=63"},
		{"Pod to remote node", fromA + toGW + a4 + "nw_dst=192.0.2.2", over4 + "nw_ttl=63"},
		{"Pod to remote node, IPv6", fromA + toGW + a6 + "ipv6_dst=fd00::2", over4 + "nw_ttl=63"},
		{"Pod to remote node over IPv6", fromA + toGW + a6 + "ipv6_dst=fd00::3", over6 + "nw_ttl=63"},
		{"kernel to remote Pod", fromGW + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.1,nw_dst=10.10.2.9", over4 + "nw_ttl=64"},
		{"kernel to remote node never by the tunnel", fromGW + toGW + "tcp,nw_ttl=64,nw_src=192.0.2.1,nw_dst=192.0.2.2", "drop 35/50"},

		{"remote Pod to Pod", fromT + node2 + "tcp,nw_ttl=64,nw_src=10.10.2.9,nw_dst=10.10.1.2", podA},
		{"remote Pod to Pod, IPv6", fromT + node2 + "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:2::9,ipv6_dst=fd10:0:0:1::2", podA},
		{"remote Pod to Pod over IPv6", fromT + node3 + "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:3::9,ipv6_dst=fd10:0:0:1::2", podA},
		{"a routed family still comes in", fromT + node3 + "tcp,nw_ttl=64,nw_src=10.10.3.9,nw_dst=10.10.1.2", podA},
		{"remote Pod to gateway", fromT + node2 + "tcp,nw_ttl=64,nw_src=10.10.2.9,nw_dst=10.10.1.1", gw},
		{"remote Pod to this node", fromT + node2 + "tcp,nw_ttl=64,nw_src=10.10.2.9,nw_dst=192.0.2.1", gw},
		{"remote Pod to this node, IPv6", fromT + node2 + "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:2::9,ipv6_dst=fd00::1", gw},
		{"tunnel never back into a tunnel", fromT + node2 + "tcp,nw_ttl=64,nw_src=10.10.2.9,nw_dst=10.10.2.8", gw},
		{"tunnel never into another tunnel", fromT + node2 + "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:2::9,ipv6_dst=fd10:0:0:3::9", gw},
		{"tunnel to a remote node's address", fromT + node2 + "tcp,nw_ttl=64,nw_src=10.10.2.9,nw_dst=192.0.2.2", gw},
		{"tunnel from a stranger", fromT + "tun_src=198.51.100.9,tcp,nw_src=10.10.2.9,nw_dst=10.10.1.2", spoofed},
		{"tunnel from a stranger, IPv6", fromT + "tun_ipv6_src=2001:db8::9,tcp,nw_src=10.10.2.9,nw_dst=10.10.1.2", spoofed},
		{"neighbour discovery from a tunnel", fromT + node2 + solicit + "ipv6_src=fd10:0:0:2::9,ipv6_dst=fd10:0:0:1::2,nd_target=fd10:0:0:1::2", forbid},
		{"router advertisement from a tunnel", fromT + node2 + "icmp6,icmpv6_type=134,ipv6_src=fd10:0:0:2::9,ipv6_dst=fd10:0:0:1::2", forbid},
		{"multicast from a tunnel", fromT + node2 + "udp,nw_src=10.10.2.9,nw_dst=224.0.0.251", "drop 35/300"},
		{"ARP from a tunnel", fromT + node2 + "arp,arp_op=1,arp_spa=10.10.2.9,arp_tpa=10.10.1.2", "drop 35/0"},
	}
}

func ttlCases() []verdictCase {
	const (
		a4, a6 = "tcp,nw_src=10.10.1.2,", "tcp6,ipv6_src=fd10:0:0:1::2,"
		kernel = "output:1 dl_dst=0a:57:4d:00:00:01 nw_ttl="
	)
	return []verdictCase{
		{"TTL 2 to a Pod", fromA + toGW + a4 + "nw_ttl=2,nw_dst=10.10.1.3", "output:12 nw_ttl=1"},
		{"TTL 1 to a Pod", fromA + toGW + a4 + "nw_ttl=1,nw_dst=10.10.1.3", kernel + "1"},
		{"TTL 0 to a Pod", fromA + toGW + a4 + "nw_ttl=0,nw_dst=10.10.1.3", kernel + "0"},
		{"hop limit 1 to a Pod", fromA + toGW + a6 + "nw_ttl=1,ipv6_dst=fd10:0:0:1::3", kernel + "1"},
		{"TTL 1 to a remote Pod", fromA + toGW + a4 + "nw_ttl=1,nw_dst=10.10.2.9", kernel + "1"},
		{"hop limit 1 to a remote Pod", fromA + toGW + a6 + "nw_ttl=1,ipv6_dst=fd10:0:0:2::9", kernel + "1"},
		{"TTL 1 to the gateway", fromA + toGW + a4 + "nw_ttl=1,nw_dst=10.10.1.1", kernel + "1"},
		{"TTL 1 to outside", fromA + toGW + a4 + "nw_ttl=1,nw_dst=203.0.113.7", kernel + "1"},
		{"TTL 1 from the kernel", fromGW + "dl_dst=0e:00:00:00:00:0a,tcp,nw_ttl=1,nw_src=203.0.113.7,nw_dst=10.10.1.2", "output:11 nw_ttl=1"},
		{"TTL 1 from the tunnel", fromT + node2 + "tcp,nw_ttl=1,nw_src=10.10.2.9,nw_dst=10.10.1.2", "output:11 nw_ttl=1"},
	}
}

// fragmentCases are for a switch in the mode in which package openflow puts it:
// a first fragment shows its ports and ICMP type, a later one has none.
func fragmentCases() []verdictCase {
	return []verdictCase{
		{"first fragment to a Pod", fromA + toGW + "udp,nw_frag=first,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.3", "output:12 nw_ttl=63"},
		{"later fragment to a Pod, IPv6", fromA + toGW + "udp6,nw_frag=later,nw_ttl=64,ipv6_src=fd10:0:0:1::2,ipv6_dst=fd10:0:0:1::3", "output:12 nw_ttl=63"},
		{"first fragment with another address", fromA + toGW + "udp,nw_frag=first,nw_ttl=64,nw_src=10.10.1.3,nw_dst=10.10.2.9", spoofed},
		{"fragmented DHCPv4 server", fromA + toGW + "udp,nw_frag=first,nw_src=10.10.1.2,nw_dst=10.10.1.3,udp_src=67,udp_dst=68", forbid},
		{"fragmented DHCPv6 server", fromA + toGW + "udp6,nw_frag=first,ipv6_src=fd10:0:0:1::2,ipv6_dst=fd10:0:0:1::3,udp_src=547,udp_dst=546", forbid},
		{"fragmented router advertisement", fromA + "dl_dst=33:33:00:00:00:01,icmp6,nw_frag=first,icmpv6_type=134,ipv6_src=fd10:0:0:1::2,ipv6_dst=ff02::1", forbid},
		{"fragmented solicitation", fromA + "dl_dst=33:33:ff:00:00:01,icmp6,nw_frag=first,icmpv6_type=135,nw_ttl=255,ipv6_src=fd10:0:0:1::2,ipv6_dst=ff02::1:ff00:1,nd_target=fd10:0:0:1::1,nd_sll=0e:00:00:00:00:0a", wrongND},
		{"fragmented advertisement of the gateway", fromA + toGW + "icmp6,nw_frag=first,icmpv6_type=136,nw_ttl=255,ipv6_src=fd10:0:0:1::1,ipv6_dst=fd10:0:0:1::3,nd_target=fd10:0:0:1::1", wrongND},
	}
}

// parsePacket reads the notation of a case.
func parsePacket(t *testing.T, packet string) ovstest.Packet {
	t.Helper()
	f, err := flow.ParseFlow(strings.TrimSuffix(packet, ",") + " actions=drop")
	if err != nil {
		t.Fatalf("packet %s: %v", packet, err)
	}
	return f.Match
}

// checkVerdict compares a verdict with what a case wants.
func checkVerdict(t *testing.T, want string, v ovstest.Verdict) {
	t.Helper()
	got := v.String()
	if got == "drop" && len(v.Flows) > 0 {
		last := v.Flows[len(v.Flows)-1]
		got = fmt.Sprintf("drop %d/%d", last.Table, last.Priority)
	}
	action, fields := want, []string(nil)
	if !strings.HasPrefix(want, "drop") {
		words := strings.Fields(want)
		action, fields = words[0], words[1:]
	}
	if got != action {
		t.Errorf("got %s, want %s; the packet met:\n%s", got, action, v.Met())
		return
	}
	for _, f := range fields {
		if out := v.Outputs[0].Packet.String() + ","; !strings.Contains(out, f+",") {
			t.Errorf("%s is not in %s; the packet met:\n%s", f, out, v.Met())
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range verdicts() {
		t.Run(c.name, func(t *testing.T) {
			// A switch of its own: what other packets left in the table of
			// connections must not matter.
			sw := ovstest.NewSwitch(ovstest.SwitchParams{Tables: tableIDs()})
			if err := sw.Update("all", testFlows(), nil); err != nil {
				t.Fatal(err)
			}
			packet, state := c.packet, []uint32(nil)
			if words, ok := c.state(); ok {
				packet = ctState.ReplaceAllString(packet, "")
				state = []uint32{ctBits(t, words)}
			}
			checkVerdict(t, c.want, sw.Trace(parsePacket(t, packet), state...))
		})
	}
}

// ctBits reads the words of --ct-next.
func ctBits(t *testing.T, words string) uint32 {
	t.Helper()
	names := map[string]uint32{
		"trk": flow.CTTracked, "new": flow.CTNew, "est": flow.CTEstablished, "rel": flow.CTRelated,
		"rpl": flow.CTReply, "inv": flow.CTInvalid,
	}
	var bits uint32
	for w := range strings.SplitSeq(words, ",") {
		if names[w] == 0 {
			t.Fatalf("%q is no bit of ct_state", w)
		}
		bits |= names[w]
	}
	return bits
}

func tableIDs() []uint8 {
	var ids []uint8
	for _, tb := range Tables() {
		ids = append(ids, tb.ID)
	}
	return ids
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package gobgp

import (
	"strings"
	"testing"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

var (
	routerV4 = routing.Peer{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}
	routerV6 = routing.Peer{Name: "tor", Address: ip("2001:db8::2"), ASN: 65002}
)

func TestBothFamiliesOverIPv4(t *testing.T) {
	withFRR(t, frrConf("192.0.2.1", 65001, "", ""), func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		s.set(nodeConf(routerV4))
		s.eventually("learned", has(
			route("10.10.2.0/24", "192.0.2.2", "tor"),
			route("fd10:0:0:2::/64", "2001:db8::2", "tor")))
		s.eventually("converged", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return ev.Converged })
		r.eventually("show bgp ipv4 unicast 10.10.1.0/24", "192.0.2.1 from 192.0.2.1", "65001", "best")
		r.eventually("show bgp ipv6 unicast fd10:0:0:1::/64", "2001:db8::1 from 192.0.2.1", "best")
	})
}

func TestBothFamiliesOverIPv6(t *testing.T) {
	withFRR(t, frrConf("2001:db8::1", 65001, "", ""), func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		s.set(nodeConf(routerV6))
		s.eventually("learned", has(
			route("10.10.2.0/24", "192.0.2.2", "tor"),
			route("fd10:0:0:2::/64", "2001:db8::2", "tor")))
		r.eventually("show bgp ipv4 unicast 10.10.1.0/24", "192.0.2.1 from 2001:db8::1", "best")
		r.eventually("show bgp ipv6 unicast fd10:0:0:1::/64", "2001:db8::1 from 2001:db8::1", "best")
	})
}

func TestExtendedNextHop(t *testing.T) {
	extra := " neighbor 2001:db8::1 capability extended-nexthop"
	withFRR(t, frrConf("2001:db8::1", 65001, extra, ""), func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		peer := routerV6
		peer.ExtendedNextHop = true
		s.set(nodeConf(peer))
		s.eventually("learned", has(
			route("10.10.2.0/24", "2001:db8::2", "tor"),
			route("fd10:0:0:2::/64", "2001:db8::2", "tor")))
		r.eventually("show bgp ipv4 unicast 10.10.1.0/24", "2001:db8::1 from 2001:db8::1", "best")
		r.eventually("show bgp ipv6 unicast fd10:0:0:1::/64", "2001:db8::1 from 2001:db8::1", "best")
	})
}

func TestIBGP(t *testing.T) {
	conf := strings.ReplaceAll(frrConf("192.0.2.1", 65001, "", ""), "router bgp 65002", "router bgp 65001")
	withFRR(t, conf, func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		peer := routerV4
		peer.ASN = 65001
		c := nodeConf(peer)
		for i := range c.Advertisements {
			c.Advertisements[i].LocalPref = 150
			c.Advertisements[i].Communities = []routing.Community{standard(65001, 7), standard(65535, 65281), large(65001, 1, 2)}
		}
		s.set(c)
		s.eventually("learned", has(
			route("10.10.2.0/24", "192.0.2.2", "tor"),
			route("fd10:0:0:2::/64", "2001:db8::2", "tor")))
		r.eventually("show bgp ipv4 unicast 10.10.1.0/24", "192.0.2.1 from 192.0.2.1", "localpref 150", "internal",
			"65001:7", "Large Community: 65001:1:2", "no-export")
		r.eventually("show bgp ipv6 unicast fd10:0:0:1::/64", "2001:db8::1 from 192.0.2.1", "localpref 150")
	})
}

func TestPassword(t *testing.T) {
	conf := frrConf("192.0.2.1", 65001, " neighbor 192.0.2.1 password s3cret", "")
	withFRR(t, conf, func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		peer := routerV4
		peer.Password = "wrong"
		s.set(nodeConf(peer))
		s.eventually("wrong password reported", errorLike("tor", "no answer from 192.0.2.2 port 179: unreachable, or the passwords (TCP MD5) differ"))
		peer.Password = ""
		s.set(nodeConf(peer))
		s.eventually("missing password reported", errorLike("tor", "or the peer wants a password (TCP MD5)"))
		peer.Password = "s3cret"
		s.set(nodeConf(peer))
		s.eventually("up", established("tor"))

		// What the peer says of itself is asked for with the password too.
		peer.ASN = 65009
		s.set(nodeConf(peer))
		s.eventually("wrong ASN named", errorLike("tor", "the peer says 65002, configured is 65009"))
		peer.ASN = 65002

		// Changed on both sides, then removed on both.
		r.configure("router bgp 65002", "neighbor 192.0.2.1 password other")
		peer.Password = "other"
		s.set(nodeConf(peer))
		s.eventually("up with the new password", established("tor"))
		s.set(nodeConf())
		r.configure("router bgp 65002", "no neighbor 192.0.2.1 password")
		peer.Password = ""
		s.set(nodeConf(peer))
		s.eventually("up without a password", established("tor"))
	})
}

func TestPasswordIPv6(t *testing.T) {
	conf := frrConf("2001:db8::1", 65001, " neighbor 2001:db8::1 password s3cret", "")
	withFRR(t, conf, func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		peer := routerV6
		peer.Password = "s3cret"
		peer.ASN = 65009
		s.set(nodeConf(peer))
		s.eventually("wrong ASN named", errorLike("tor", "the peer says 65002, configured is 65009"))
		peer.ASN = 65002
		s.set(nodeConf(peer))
		s.eventually("up", established("tor"))
	})
}

// TestPassiveRouter has a router that waits for its neighbours, as with "bgp
// listen range".
func TestPassiveRouter(t *testing.T) {
	conf := `router bgp 65002
 bgp router-id 192.0.2.2
 no bgp ebgp-requires-policy
 neighbor nodes peer-group
 neighbor nodes remote-as external
 neighbor nodes password s3cret
 bgp listen range 192.0.2.0/24 peer-group nodes
`
	withFRR(t, conf, func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		peer := routerV4
		peer.Password = "s3cret"
		c := nodeConf(peer)
		c.Speaker.ListenPort = -1
		s.set(c)
		s.eventually("up", established("tor"))
		s.eventually("warned", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
			return len(ss) == 1 && len(ss[0].Warnings) == 1 && ss[0].Warnings[0] == "the peer does not speak IPv6 on this session"
		})
	})
}

// throughHop is a node and a router (198.51.100.2) with another hop between.
func throughHop(t *testing.T, bgpd string, body func(t *testing.T, r *frr)) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		hop, router := testnet.New(t, "hop"), testnet.New(t, "router")
		testnet.Veth(t,
			testnet.End{NS: node, Name: "eth0", Addrs: []string{"192.0.2.1/24"}},
			testnet.End{NS: hop, Name: "eth0", Addrs: []string{"192.0.2.254/24"}})
		testnet.Veth(t,
			testnet.End{NS: hop, Name: "eth1", Addrs: []string{"198.51.100.254/24"}},
			testnet.End{NS: router, Name: "eth0", Addrs: []string{"198.51.100.2/24"}})
		hop.Exec(t, "sysctl -qw net.ipv4.ip_forward=1")
		node.Exec(t, "ip route add default via 192.0.2.254")
		router.Exec(t, "ip route add default via 198.51.100.254")
		body(t, startFRR(t, router, bgpd))
	})
}

func TestMultihop(t *testing.T) {
	throughHop(t, frrConf("192.0.2.1", 65001, " neighbor 192.0.2.1 ebgp-multihop 3", ""), func(t *testing.T, r *frr) {
		s := startSpeaker(t)
		peer := routing.Peer{Name: "tor", Address: ip("198.51.100.2"), ASN: 65002}
		c := nodeConf(peer)
		c.Advertisements = c.Advertisements[:1]
		s.set(c)
		s.eventually("too far without multihop", errorLike("tor", "no "))
		c.Peers[0].MultihopTTL = 3
		s.set(c)
		s.eventually("up", established("tor"))
		s.eventually("learned", has(route("10.10.2.0/24", "198.51.100.2", "tor")))
		r.eventually("show bgp ipv4 unicast 10.10.1.0/24", "192.0.2.1 ", "best")
	})
}

func TestGTSM(t *testing.T) {
	throughHop(t, frrConf("192.0.2.1", 65001, " neighbor 192.0.2.1 ttl-security hops 2", ""), func(t *testing.T, r *frr) {
		s := startSpeaker(t)
		peer := routing.Peer{Name: "tor", Address: ip("198.51.100.2"), ASN: 65002, GTSMHops: 1}
		c := nodeConf(peer)
		s.set(c)
		s.eventually("too far for one hop", errorLike("tor", "no answer from 198.51.100.2"))
		c.Peers[0].GTSMHops = 2
		s.set(c)
		s.eventually("up", established("tor"))
		r.eventually("show bgp ipv4 unicast 10.10.1.0/24", "192.0.2.1 ", "best")
	})
}

func TestErrorsInWords(t *testing.T) {
	withFRR(t, frrConf("192.0.2.1", 65001, "", ""), func(t *testing.T, node *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		peer := routerV4
		peer.ASN = 65009
		s.set(nodeConf(peer))
		s.eventually("their ASN", errorLike("tor", "OPEN rejected: Bad Peer AS: the peer says 65002, configured is 65009"))

		peer.ASN = 65002
		c := nodeConf(peer)
		c.Speaker.ASN = 65008
		s.set(c)
		s.eventually("our ASN", errorLike("tor", "the peer refused our OPEN message: OPEN rejected: Bad Peer AS"))

		c.Speaker.ASN = 65001
		s.set(c)
		s.eventually("up", established("tor"))
		r.configure("router bgp 65002", "neighbor 192.0.2.1 shutdown message maintenance")
		s.eventually("shutdown", errorLike("tor", "the peer closed the session: Cease: administrative shutdown (maintenance)"))
		r.configure("router bgp 65002", "no neighbor 192.0.2.1 shutdown")
		s.eventually("up again", established("tor"))

		node.Exec(t, "ip link set eth0 down")
		s.eventually("silence", errorLike("tor", "hold timer expired"))
		node.Exec(t, "ip link set eth0 up")
		node.Exec(t, "ip address add 2001:db8::1/64 dev eth0 nodad")
		s.eventually("up after silence", established("tor"))

		c.Speaker.ListenPort = -1
		c.Peers[0].Address = ip("192.0.2.77")
		s.set(c)
		s.eventually("nobody there", errorLike("tor", "192.0.2.77"))
		c.Peers[0].Address = ip("192.0.2.2")
		c.Peers[0].Port = 1790
		s.set(c)
		s.eventually("nothing listens", errorLike("tor", "connection refused by 192.0.2.2 port 1790"))
	})
}

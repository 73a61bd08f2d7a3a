// SPDX-License-Identifier: Apache-2.0

//go:build integration

package gobgp

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// hostile is a router that announces what it must not.
const hostile = `router bgp 65002
 bgp router-id 192.0.2.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 192.0.2.1 remote-as 65001
 neighbor 192.0.2.1 timers connect 1
 address-family ipv4 unicast
  neighbor 192.0.2.1 default-originate
  network 10.10.1.0/24
  network 10.10.1.128/25
  network 10.10.1.5/32
  network 192.0.2.1/32
  network 192.0.2.128/25
  network 192.0.2.0/24
  network 203.0.113.7/32
  network 203.0.113.0/24
  network 10.10.2.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 default-originate
  network fd10:0:0:1::/64
  network fd10:0:0:1:8000::/65
  network 2001:db8::1/128
  network 2001:db8::/64
  network fd10:0:0:2::/64
 exit-address-family
`

func filtered(v4, v6 map[routing.FilterReason]int) func(routing.PathEvent, []routing.SessionStatus) bool {
	return func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return len(ss) == 1 && cmp.Equal(ss[0].Families[0].Filtered, v4) && cmp.Equal(ss[0].Families[1].Filtered, v6)
	}
}

func TestImportFilter(t *testing.T) {
	withFRR(t, hostile, func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		c := nodeConf(routerV4)
		c.Advertisements = nil
		c.Scope.NodeAddresses = append(c.Scope.Local.Addresses, ip("203.0.113.7"))
		s.set(c)
		pods := []routing.LearnedRoute{
			route("10.10.2.0/24", "192.0.2.2", "tor"),
			route("fd10:0:0:2::/64", "2001:db8::2", "tor"),
		}
		s.eventually("only Pods of others", has(pods...))
		s.eventually("the rest counted", filtered(
			map[routing.FilterReason]int{routing.FilterDefault: 1, routing.FilterOwnPrefix: 3, routing.FilterNodeAddress: 2,
				routing.FilterOnLink: 2, routing.FilterOutside: 1},
			map[routing.FilterReason]int{routing.FilterDefault: 1, routing.FilterOwnPrefix: 2, routing.FilterNodeAddress: 1,
				routing.FilterOnLink: 1}))
		since := s.Sessions()[0].Since

		c.Peers[0].Import = routing.ImportRule{AllowDefaultRoute: true, Prefixes: []routing.PrefixRule{{Prefix: pfx("203.0.113.0/24"), LE: 32}}}
		s.set(c)
		s.eventually("what is asked for", has(
			route("0.0.0.0/0", "192.0.2.2", "tor"), pods[0], route("203.0.113.0/24", "192.0.2.2", "tor"),
			route("::/0", "2001:db8::2", "tor"), pods[1]))
		c.Peers[0].Import.MaxPrefixes = 1
		s.set(c)
		s.eventually("the first of each family", has(route("0.0.0.0/0", "192.0.2.2", "tor"), route("::/0", "2001:db8::2", "tor")))
		if got := s.Sessions()[0].Since; !got.Equal(since) {
			t.Errorf("the session is of %v, was of %v", got, since)
		}

		// Withdrawn by the router, then the router dies.
		c.Peers[0].Import = routing.ImportRule{}
		s.set(c)
		s.eventually("only Pods of others again", has(pods...))
		r.configure("router bgp 65002", "address-family ipv4 unicast", "no network 10.10.2.0/24")
		s.eventually("withdrawn", has(pods[1]))
		r.configure("router bgp 65002", "neighbor 192.0.2.1 shutdown")
		s.eventually("gone with the session", has())
	})
}

// TestImportDeny refuses what would be accepted, without the session going down.
func TestImportDeny(t *testing.T) {
	extra := " neighbor 192.0.2.1 passive"
	withFRR(t, frrConf("192.0.2.1", 65001, extra, "  neighbor 192.0.2.1 default-originate"), func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		c := nodeConf(routerV4)
		c.Peers[0].Import.AllowDefaultRoute = true
		s.set(c)
		v4, v6 := route("10.10.2.0/24", "192.0.2.2", "tor"), route("fd10:0:0:2::/64", "2001:db8::2", "tor")
		default4, default6 := route("0.0.0.0/0", "192.0.2.2", "tor"), route("::/0", "2001:db8::2", "tor")
		s.eventually("all", has(default4, v4, default6, v6))
		c.Peers[0].Import.Deny = []routing.PrefixRule{{Prefix: pfx("10.10.0.0/16"), LE: 32}, {Prefix: pfx("::/0")}}
		s.set(c)
		s.eventually("without what is denied", has(default4, v6))
		// The router sends our own announcement back.
		left := map[routing.FilterReason]int{routing.FilterDenied: 1, routing.FilterEcho: 1}
		s.eventually("counted", filtered(left, left))
		c.Peers[0].Import.Deny = nil
		s.set(c)
		s.eventually("all again", has(default4, v4, default6, v6))
		r.oneSession("192.0.2.1")
	})
}

// TestTwoRoutersAtOnce has two FRR routers on one link announce the same network.
func TestTwoRoutersAtOnce(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		a, b := testnet.New(t, "tora"), testnet.New(t, "torb")
		testnet.Veth(t,
			testnet.End{NS: node, Name: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
			testnet.End{NS: a, Name: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}})
		testnet.Veth(t,
			testnet.End{NS: node, Name: "eth1", Addrs: []string{"198.51.100.1/24", "2001:db8:1::1/64"}},
			testnet.End{NS: b, Name: "eth0", Addrs: []string{"198.51.100.2/24", "2001:db8:1::2/64"}})
		startFRR(t, a, frrConf("192.0.2.1", 65001, "", ""))
		startFRR(t, b, frrConf("198.51.100.1", 65001, "", ""))
		s := startSpeaker(t)
		torB := routing.Peer{Name: "torb", Address: ip("198.51.100.2"), ASN: 65002}
		c := nodeConf(routerV4, torB)
		s.set(c)
		both := func(prefix string, hops ...string) routing.LearnedRoute {
			r := routing.LearnedRoute{Prefix: pfx(prefix), Peers: []string{"tor", "torb"}}
			for _, h := range hops {
				r.NextHops = append(r.NextHops, routing.NextHop{Addr: ip(h)})
			}
			return r
		}
		s.eventually("over both", has(
			both("10.10.2.0/24", "192.0.2.2", "198.51.100.2"),
			both("fd10:0:0:2::/64", "2001:db8::2", "2001:db8:1::2")))
		// One link goes: its session times out, the other carries on.
		b.Exec(t, "ip link set eth0 down")
		s.eventually("torb silent", errorLike("torb", "hold timer expired"))
		s.eventually("tor is still up", established("tor"))
	})
}

// TestAggregate announces an aggregate, and the router sends the same of another
// node and that of another rack.
func TestAggregate(t *testing.T) {
	withFRR(t, frrConf("192.0.2.1", 65001, "", ""), func(t *testing.T, _ *testnet.Namespace, r *frr) {
		r.configure("router bgp 65002", "address-family ipv4 unicast", "network 10.20.0.0/20", "network 10.20.16.0/20")
		s := startSpeaker(t)
		c := nodeConf(routerV4)
		summary := advertise("10.20.0.0/20", "192.0.2.1")
		summary.Aggregate, summary.SummaryOnly, summary.Peers = true, true, []string{"tor"}
		c.Advertisements = []routing.Advertisement{summary}
		c.Scope.Aggregates = []netip.Prefix{pfx("10.20.0.0/20"), pfx("10.20.16.0/20")}
		c.Scope.OwnAggregates = c.Scope.Aggregates[:1]
		s.set(c)
		s.eventually("the other rack's is learned, the node's own is not", has(
			route("10.10.2.0/24", "192.0.2.2", "tor"), route("10.20.16.0/20", "192.0.2.2", "tor"),
			route("fd10:0:0:2::/64", "2001:db8::2", "tor")))
		r.eventually("show bgp ipv4 unicast 10.20.0.0/20", "192.0.2.1 from 192.0.2.1", "65001")
	})
}

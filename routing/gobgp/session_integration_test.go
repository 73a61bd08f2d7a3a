// SPDX-License-Identifier: Apache-2.0

//go:build integration

package gobgp

import (
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

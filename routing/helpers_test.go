// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net/netip"
	"time"

	"github.com/google/go-cmp/cmp"
)

var compareValues = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }
func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrList(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, ip(a))
	}
	return out
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, pfx(p))
	}
	return out
}

func hops(s ...string) []NextHop {
	var out []NextHop
	for _, a := range s {
		out = append(out, NextHop{Addr: ip(a)})
	}
	return out
}

func learnedRoute(prefix string, nextHops ...string) LearnedRoute {
	return LearnedRoute{Prefix: pfx(prefix), NextHops: hops(nextHops...)}
}

// n1 and n2 are in rack A (10.1.0.0/24, fd01::/64), n3 is in rack B.
var (
	n1 = Node{Name: "n1", Addresses: addrList("10.1.0.1", "fd01::1"), PodCIDRs: prefixes("10.10.1.0/24", "fd10:0:0:1::/64")}
	n2 = Node{Name: "n2", Addresses: addrList("10.1.0.2", "fd01::2"), PodCIDRs: prefixes("10.10.2.0/24", "fd10:0:0:2::/64")}
	n3 = Node{Name: "n3", Addresses: addrList("10.2.0.3", "fd02::3"), PodCIDRs: prefixes("10.10.3.0/24", "fd10:0:0:3::/64")}

	uplinks = []Link{{Name: "eth0", Prefixes: prefixes("10.1.0.1/24", "fd01::1/64")}}
	t0      = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testScope() ImportScope {
	return ImportScope{
		ClusterCIDRs:  prefixes("10.10.1.0/24", "10.10.2.0/24", "10.20.0.0/16", "fd10:0:0:1::/64", "fd10:0:0:2::/64"),
		Local:         n1,
		Links:         uplinks,
		NodeAddresses: addrList("10.1.0.1", "10.1.0.2", "10.2.0.3", "fd01::1", "fd01::2", "fd02::3", "10.20.0.9"),

		ServiceAddresses: addrList("10.96.0.1", "172.16.0.9", "2001:db8:1::9"),
	}
}

func TestAccept(t *testing.T) {
	asked := ImportRule{AllowDefaultRoute: true, Prefixes: []PrefixRule{
		{Prefix: pfx("172.16.0.0/12"), GE: 16, LE: 24}, {Prefix: pfx("192.0.2.0/24")}, {Prefix: pfx("10.0.0.0/8"), LE: 32}, {Prefix: pfx("2001:db8::/32"), GE: 48},
	}}
	denied := asked
	denied.Deny = []PrefixRule{{Prefix: pfx("10.10.2.0/24"), LE: 32}, {Prefix: pfx("172.16.0.0/12"), GE: 20}, {Prefix: pfx("::/0")}, {Prefix: pfx("fd10:0:0:2::/64")}}
	tests := []struct {
		prefix, nextHop string
		rule            ImportRule
		want            FilterReason
	}{
		{prefix: "10.10.2.0/24"},
		{prefix: "10.10.2.128/25"},
		{prefix: "10.20.0.0/16"},
		{prefix: "10.20.7.7/32"},
		{prefix: "fd10:0:0:2::/64"},
		{prefix: "10.10.2.0/23", want: FilterOutside}, // wider than what is known
		{prefix: "10.10.3.0/24", want: FilterOutside},
		{prefix: "fd10:0:0:3::/64", want: FilterOutside},

		{prefix: "10.10.1.0/24", want: FilterOwnPrefix},
		{prefix: "10.10.1.128/25", want: FilterOwnPrefix},
		{prefix: "10.10.1.5/32", want: FilterOwnPrefix},
		{prefix: "fd10:0:0:1:8000::/65", want: FilterOwnPrefix},
		{prefix: "10.10.1.0/24", rule: asked, want: FilterOwnPrefix},

		{prefix: "10.1.0.1/32", want: FilterNodeAddress},
		{prefix: "10.1.0.2/32", want: FilterNodeAddress},
		{prefix: "10.2.0.3/32", rule: asked, want: FilterNodeAddress},
		{prefix: "fd02::3/128", want: FilterNodeAddress},
		{prefix: "10.20.0.9/32", want: FilterNodeAddress}, // inside a Pod CIDR

		{prefix: "10.96.0.1/32", want: FilterService},
		{prefix: "10.96.0.1/32", rule: asked, want: FilterService}, // asked for or not
		{prefix: "2001:db8:1::9/128", rule: asked, want: FilterService},
		{prefix: "10.96.0.2/32", want: FilterOutside},
		{prefix: "10.96.0.0/31", rule: asked}, // wider: the node's own is used first

		{prefix: "10.1.0.0/24", rule: asked, want: FilterOnLink},
		{prefix: "10.1.0.128/25", rule: asked, want: FilterOnLink},
		{prefix: "10.1.0.77/32", rule: asked, want: FilterOnLink},
		{prefix: "fd01::/64", want: FilterOnLink},
		{prefix: "10.1.0.0/16", rule: asked}, // wider than on-link, asked for
		{prefix: "10.0.0.0/8", rule: asked},

		{prefix: "0.0.0.0/0", want: FilterDefault},
		{prefix: "::/0", want: FilterDefault},
		{prefix: "0.0.0.0/0", rule: asked},
		{prefix: "::/0", rule: asked},
		{prefix: "0.0.0.0/1", rule: asked, want: FilterInvalid}, // half a default route

		{prefix: "172.16.0.0/12", rule: asked, want: FilterOutside},
		{prefix: "172.17.0.0/16", rule: asked},
		{prefix: "172.17.5.0/24", rule: asked},
		{prefix: "172.17.5.0/25", rule: asked, want: FilterOutside},
		{prefix: "192.0.2.0/24", rule: asked},
		{prefix: "192.0.2.0/25", rule: asked, want: FilterOutside},
		{prefix: "2001:db8:1::/48", rule: asked},
		{prefix: "2001:db8::1/128", rule: asked},
		{prefix: "2001:db8::/32", rule: asked, want: FilterOutside},

		{prefix: "10.10.2.0/24", rule: denied, want: FilterDenied}, // a Pod CIDR too
		{prefix: "10.10.2.128/25", rule: denied, want: FilterDenied},
		{prefix: "10.20.0.0/16", rule: denied},
		{prefix: "fd10:0:0:2::/64", rule: denied, want: FilterDenied},
		{prefix: "fd10:0:0:2:8000::/65", rule: denied},
		{prefix: "172.17.0.0/16", rule: denied}, // shorter than what is denied
		{prefix: "172.17.5.0/24", rule: denied, want: FilterDenied},
		{prefix: "0.0.0.0/0", rule: denied},
		{prefix: "::/0", rule: denied, want: FilterDenied},

		{prefix: "224.0.0.0/4", rule: asked, want: FilterInvalid},
		{prefix: "127.0.0.0/8", want: FilterInvalid},
		{prefix: "169.254.0.0/16", want: FilterInvalid},
		{prefix: "fe80::/10", want: FilterInvalid},
		{prefix: "ff00::/8", want: FilterInvalid},
		{prefix: "10.10.2.1/24", want: FilterInvalid}, // host bits

		{prefix: "10.10.2.0/24", nextHop: "10.1.0.1", want: FilterNextHop},  // ourselves
		{prefix: "10.10.2.0/24", nextHop: "10.10.1.1", want: FilterNextHop}, // our gateway
		{prefix: "10.10.2.0/24", nextHop: "fd01::fe"},                       // RFC 8950
		{prefix: "fd10:0:0:2::/64", nextHop: "10.1.0.254", want: FilterNextHop},
		{prefix: "fd10:0:0:2::/64", nextHop: "fe80::1", want: FilterNextHop},
		{prefix: "fd10:0:0:2::/64", nextHop: "fd01::1", want: FilterNextHop},
		{prefix: "fd10:0:0:2::/64", nextHop: "::ffff:10.1.0.254", want: FilterNextHop},
		{prefix: "10.10.2.0/24", nextHop: "0.0.0.0", want: FilterNextHop},
		{prefix: "10.10.2.0/24", nextHop: "127.0.0.1", want: FilterNextHop},
		{prefix: "10.10.2.0/24", nextHop: "224.0.0.1", want: FilterNextHop},
	}
	f := NewImportFilter(testScope())
	for _, tc := range tests {
		t.Run(fmt.Sprintf("%s via %s, %d rules", tc.prefix, tc.nextHop, len(tc.rule.Prefixes)+len(tc.rule.Deny)), func(t *testing.T) {
			r := ReceivedRoute{Prefix: pfx(tc.prefix), External: true, PathLength: 1}
			switch {
			case tc.nextHop != "":
				r.NextHop = ip(tc.nextHop)
			case r.Prefix.Addr().Is4():
				r.NextHop = ip("10.1.0.254")
			default:
				r.NextHop = ip("fd01::fe")
			}
			ok, got := f.Accept(r, tc.rule)
			if got != tc.want || ok != (tc.want == "") {
				t.Errorf("Accept = %v, %q; want %q", ok, got, tc.want)
			}
		})
	}
}

func TestAcceptByPath(t *testing.T) {
	f := NewImportFilter(testScope())
	own := ReceivedRoute{Prefix: pfx("10.10.1.0/24"), NextHop: ip("10.1.0.1"), External: true, PathLength: 2, OwnAS: true}
	if _, why := f.Accept(own, ImportRule{}); why != FilterEcho {
		t.Errorf("our announcement sent back: %q", why)
	}
	part := own
	part.Prefix, part.NextHop = pfx("10.10.1.0/25"), ip("10.1.0.254")
	if _, why := f.Accept(part, ImportRule{}); why != FilterOwnPrefix {
		t.Errorf("a part of it: %q", why)
	}
	other := own
	other.Prefix, other.NextHop = pfx("10.10.2.0/24"), ip("10.1.0.254")
	if ok, why := f.Accept(other, ImportRule{}); !ok {
		t.Errorf("a node of the same AS: %q", why)
	}
	other.PathLength = 0
	if _, why := f.Accept(other, ImportRule{}); why != FilterInvalid {
		t.Errorf("from another AS without AS path: %q", why)
	}
}

func TestImport(t *testing.T) {
	route := func(prefix, hop string) ReceivedRoute {
		return ReceivedRoute{Prefix: pfx(prefix), NextHop: ip(hop), Peer: "tor"}
	}
	in := []ReceivedRoute{
		route("10.20.9.0/24", "10.1.0.254"), route("10.20.1.0/24", "10.1.0.254"), route("0.0.0.0/0", "10.1.0.254"),
		route("fd10:0:0:2::/64", "fd01::fe"), route("10.20.5.0/24", "10.1.0.254"), route("10.10.1.0/24", "10.1.0.254"),
		route("::/0", "fd01::fe"),
	}
	f := NewImportFilter(testScope())
	got, filtered := Import(in, f, ImportRule{MaxPrefixes: 2})
	want := []ReceivedRoute{route("10.20.1.0/24", "10.1.0.254"), route("10.20.5.0/24", "10.1.0.254"), route("fd10:0:0:2::/64", "fd01::fe")}
	if diff := cmp.Diff(want, got, compareValues); diff != "" {
		t.Errorf("used (-want +got):\n%s", diff)
	}
	wantFiltered := map[Family]map[FilterReason]int{
		IPv4: {FilterDefault: 1, FilterOwnPrefix: 1, FilterMaxPrefixes: 1},
		IPv6: {FilterDefault: 1},
	}
	if diff := cmp.Diff(wantFiltered, filtered); diff != "" {
		t.Errorf("filtered (-want +got):\n%s", diff)
	}
	// The order in which routes came makes no difference.
	for range len(in) {
		in = append(in[1:], in[0])
		if turned, _ := Import(in, f, ImportRule{MaxPrefixes: 2}); !cmp.Equal(got, turned, compareValues) {
			t.Errorf("another order gives %v", turned)
		}
	}
}

func TestImportLocalPref(t *testing.T) {
	in := []ReceivedRoute{
		{Prefix: pfx("10.10.2.0/24"), NextHop: ip("10.1.0.254"), Peer: "a", LocalPref: 100, PathLength: 1},
		{Prefix: pfx("fd10:0:0:2::/64"), NextHop: ip("fd01::fe"), Peer: "a", LocalPref: 300, PathLength: 1},
	}
	f := NewImportFilter(testScope())
	for rule, want := range map[uint32][]uint32{0: {100, 300}, 200: {200, 200}} {
		var got []uint32
		used, _ := Import(in, f, ImportRule{LocalPref: rule})
		for _, r := range used {
			got = append(got, r.LocalPref)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("local preference %d (-want +got):\n%s", rule, diff)
		}
	}
}

func TestRuleMax(t *testing.T) {
	if got := (ImportRule{}).Max(); got != DefaultMaxPrefixes {
		t.Errorf("default bound is %d", got)
	}
}

// FuzzAccept holds the promises of the filter against any route.
func FuzzAccept(f *testing.F) {
	for _, p := range []string{"10.10.1.0/24", "0.0.0.0/0", "10.1.0.2/32", "fd10:0:0:1::/64", "10.10.2.0/25"} {
		prefix := pfx(p)
		f.Add(prefix.Addr().AsSlice(), prefix.Bits(), []byte{10, 1, 0, 254})
	}
	filter := NewImportFilter(testScope())
	rule := ImportRule{Prefixes: []PrefixRule{{Prefix: pfx("0.0.0.0/0"), LE: 32}, {Prefix: pfx("::/0"), LE: 128}}}
	f.Fuzz(func(t *testing.T, addr []byte, bits int, hop []byte) {
		a, ok := netip.AddrFromSlice(addr)
		h, ok2 := netip.AddrFromSlice(hop)
		if !ok || !ok2 {
			t.Skip()
		}
		p := netip.PrefixFrom(a, bits)
		accepted, why := filter.Accept(ReceivedRoute{Prefix: p, NextHop: h}, rule)
		if accepted != (why == "") {
			t.Fatalf("accepted %v with reason %q", accepted, why)
		}
		if !accepted {
			return
		}
		if p.Bits() == 0 {
			t.Fatalf("default route %s", p)
		}
		for _, own := range n1.PodCIDRs {
			if own.Bits() <= p.Bits() && own.Contains(p.Addr()) {
				t.Fatalf("%s is in our Pod CIDR %s", p, own)
			}
		}
		for _, n := range testScope().NodeAddresses {
			if p.IsSingleIP() && p.Addr() == n {
				t.Fatalf("%s is a node", p)
			}
		}
	})
}

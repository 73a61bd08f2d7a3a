// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecidePaths(t *testing.T) {
	path := func(node string, f Family, cidr string, kind PathKind, nextHops ...string) Path {
		return Path{Node: node, Family: f, PodCIDR: pfx(cidr), Kind: kind, NextHops: addrList(nextHops...)}
	}
	ends := map[string]netip.Addr{"n2": ip("10.1.0.2"), "n3": ip("fd02::3")}
	tests := map[string]struct {
		in   Input
		want []Path
	}{
		"encap: tunnel to all, also on-link": {
			in: Input{Mode: ModeEncap, Links: uplinks, Remotes: []Node{n3, n2}, TunnelEndpoints: ends,
				Learned: []LearnedRoute{learnedRoute("10.10.3.0/24", "10.1.0.254")}},
			want: []Path{
				path("n2", IPv4, "10.10.2.0/24", PathTunnel, "10.1.0.2"),
				path("n2", IPv6, "fd10:0:0:2::/64", PathTunnel, "10.1.0.2"),
				path("n3", IPv4, "10.10.3.0/24", PathTunnel, "fd02::3"),
				path("n3", IPv6, "fd10:0:0:3::/64", PathTunnel, "fd02::3"),
			},
		},
		"encap: no endpoint, no path": {
			in: Input{Mode: ModeEncap, Links: uplinks, Remotes: []Node{n2}},
			want: []Path{
				path("n2", IPv4, "10.10.2.0/24", PathNone),
				path("n2", IPv6, "fd10:0:0:2::/64", PathNone),
			},
		},
		"noEncap: direct on-link, BGP else, each family by itself": {
			in: Input{Mode: ModeNoEncap, Links: uplinks, Remotes: []Node{n2, n3}, TunnelEndpoints: ends,
				Learned: []LearnedRoute{
					learnedRoute("10.10.2.0/24", "10.1.0.254"),
					learnedRoute("10.10.3.0/24", "10.1.0.253", "10.1.0.254"),
				}},
			want: []Path{
				path("n2", IPv4, "10.10.2.0/24", PathDirect, "10.1.0.2"),
				path("n2", IPv6, "fd10:0:0:2::/64", PathDirect, "fd01::2"),
				path("n3", IPv4, "10.10.3.0/24", PathBGP, "10.1.0.253", "10.1.0.254"),
				path("n3", IPv6, "fd10:0:0:3::/64", PathNone),
			},
		},
		"noEncap: the longest covering prefix counts, parts and the default route do not": {
			in: Input{Mode: ModeNoEncap, Links: uplinks, Remotes: []Node{n3},
				Learned: []LearnedRoute{
					learnedRoute("10.10.3.0/25", "10.1.0.250"),
					learnedRoute("10.10.0.0/16", "10.1.0.251"),
					learnedRoute("10.10.2.0/23", "10.1.0.252"),
					learnedRoute("10.8.0.0/13", "10.1.0.253"),
					learnedRoute("::/0", "fd01::fe"),
					learnedRoute("fd10:0:0:3:8000::/65", "fd01::fd"),
				}},
			want: []Path{
				path("n3", IPv4, "10.10.3.0/24", PathBGP, "10.1.0.252"),
				path("n3", IPv6, "fd10:0:0:3::/64", PathNone),
			},
		},
		"noEncap: the default route where it is trusted": {
			in: Input{Mode: ModeNoEncap, TrustDefaultRoute: true, Links: uplinks, Remotes: []Node{n3},
				Learned: []LearnedRoute{learnedRoute("10.10.3.0/24", "10.1.0.254")}},
			want: []Path{
				path("n3", IPv4, "10.10.3.0/24", PathBGP, "10.1.0.254"),
				path("n3", IPv6, "fd10:0:0:3::/64", PathDefault),
			},
		},
		"hybrid: direct on-link, tunnel else": {
			in: Input{Mode: ModeHybrid, Links: uplinks, Remotes: []Node{n2, n3}, TunnelEndpoints: ends,
				Learned: []LearnedRoute{learnedRoute("10.10.3.0/24", "10.1.0.254")}},
			want: []Path{
				path("n2", IPv4, "10.10.2.0/24", PathDirect, "10.1.0.2"),
				path("n2", IPv6, "fd10:0:0:2::/64", PathDirect, "fd01::2"),
				path("n3", IPv4, "10.10.3.0/24", PathTunnel, "fd02::3"),
				path("n3", IPv6, "fd10:0:0:3::/64", PathTunnel, "fd02::3"),
			},
		},
		"IPv4 Pods on nodes with IPv6 addresses only, not the other way round": {
			in: Input{Mode: ModeNoEncap, Links: uplinks, Remotes: []Node{
				{Name: "six", Addresses: addrList("fd01::6"), PodCIDRs: prefixes("10.10.6.0/24", "fd10:0:0:6::/64")},
				{Name: "four", Addresses: addrList("10.1.0.4"), PodCIDRs: prefixes("10.10.4.0/24", "fd10:0:0:4::/64")},
			}},
			want: []Path{
				path("four", IPv4, "10.10.4.0/24", PathDirect, "10.1.0.4"),
				path("four", IPv6, "fd10:0:0:4::/64", PathNone),
				path("six", IPv4, "10.10.6.0/24", PathDirect, "fd01::6"),
				path("six", IPv6, "fd10:0:0:6::/64", PathDirect, "fd01::6"),
			},
		},
		"a node without Pod CIDR has no path": {
			in: Input{Mode: ModeNoEncap, Links: uplinks, Remotes: []Node{{Name: "new", Addresses: addrList("10.1.0.9")}}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := DecidePaths(tc.in)
			for i := range got {
				if got[i].Reason == "" {
					t.Errorf("path %v has no reason", got[i])
				}
				got[i].Reason = ""
			}
			if diff := cmp.Diff(tc.want, got, compareValues); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLinkTo(t *testing.T) {
	links := []Link{
		{Name: "wide", Prefixes: prefixes("10.0.0.0/8", "fd00::/8")},
		{Name: "narrow", Prefixes: prefixes("10.1.0.7/24")},
	}
	for addr, want := range map[string]string{
		"10.1.0.1": "narrow", "10.2.0.1": "wide", "::ffff:10.1.0.1": "narrow", "fd01::1": "wide", "192.0.2.1": "", "2001:db8::1": "",
	} {
		if got, ok := LinkTo(links, ip(addr)); got != want || ok != (want != "") {
			t.Errorf("LinkTo(%s) = %q, %v", addr, got, ok)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSelectRoutes(t *testing.T) {
	// from returns the route of one of two routers, changed by mod.
	from := func(peer, hop string, mod func(*ReceivedRoute)) ReceivedRoute {
		r := ReceivedRoute{
			Prefix: pfx("10.10.3.0/24"), NextHop: ip(hop), Peer: peer, PeerID: ip(hop),
			External: true, LocalPref: 100, PathLength: 2, FirstAS: 65001,
		}
		if mod != nil {
			mod(&r)
		}
		return r
	}
	a := func(mod func(*ReceivedRoute)) ReceivedRoute { return from("a", "10.1.0.1", mod) }
	b := func(mod func(*ReceivedRoute)) ReceivedRoute { return from("b", "10.1.0.2", mod) }
	only := func(peer, hop string) []LearnedRoute {
		return []LearnedRoute{{Prefix: pfx("10.10.3.0/24"), NextHops: hops(hop), Peers: []string{peer}}}
	}
	both := []LearnedRoute{{Prefix: pfx("10.10.3.0/24"), NextHops: hops("10.1.0.1", "10.1.0.2"), Peers: []string{"a", "b"}}}
	tests := map[string]struct {
		in   []ReceivedRoute
		max  int
		want []LearnedRoute
	}{
		"nothing":                {max: 8},
		"one":                    {in: []ReceivedRoute{a(nil)}, max: 8, want: only("a", "10.1.0.1")},
		"equal":                  {in: []ReceivedRoute{a(nil), b(nil)}, max: 8, want: both},
		"equal, one path":        {in: []ReceivedRoute{a(nil), b(nil)}, max: 1, want: only("a", "10.1.0.1")},
		"equal, bound not set":   {in: []ReceivedRoute{a(nil), b(nil)}, want: only("a", "10.1.0.1")},
		"higher preference":      {in: []ReceivedRoute{a(nil), b(func(r *ReceivedRoute) { r.LocalPref = 200; r.PathLength = 9 })}, max: 8, want: only("b", "10.1.0.2")},
		"shorter path":           {in: []ReceivedRoute{a(nil), b(func(r *ReceivedRoute) { r.PathLength = 1; r.Origin = 2 })}, max: 8, want: only("b", "10.1.0.2")},
		"better origin":          {in: []ReceivedRoute{a(func(r *ReceivedRoute) { r.Origin = 2 }), b(nil)}, max: 8, want: only("b", "10.1.0.2")},
		"external over internal": {in: []ReceivedRoute{a(func(r *ReceivedRoute) { r.External = false }), b(nil)}, max: 8, want: only("b", "10.1.0.2")},
		"lower MED of one AS":    {in: []ReceivedRoute{a(func(r *ReceivedRoute) { r.MED = 5 }), b(func(r *ReceivedRoute) { r.MED = 4 })}, max: 8, want: only("b", "10.1.0.2")},
		"MED of different ASes": {in: []ReceivedRoute{a(func(r *ReceivedRoute) { r.MED = 5 }), b(func(r *ReceivedRoute) { r.FirstAS = 65002 })},
			max: 8, want: both},
		"same next hop of two peers": {in: []ReceivedRoute{a(nil), b(func(r *ReceivedRoute) { r.NextHop = ip("10.1.0.1") })}, max: 1,
			want: []LearnedRoute{{Prefix: pfx("10.10.3.0/24"), NextHops: hops("10.1.0.1"), Peers: []string{"a", "b"}}}},
		"sorted by prefix": {in: []ReceivedRoute{
			a(func(r *ReceivedRoute) { r.Prefix, r.NextHop = pfx("fd10::/64"), ip("fd01::1") }),
			a(nil), a(func(r *ReceivedRoute) { r.Prefix = pfx("10.10.1.0/24") }),
		}, max: 8, want: []LearnedRoute{
			{Prefix: pfx("10.10.1.0/24"), NextHops: hops("10.1.0.1"), Peers: []string{"a"}},
			{Prefix: pfx("10.10.3.0/24"), NextHops: hops("10.1.0.1"), Peers: []string{"a"}},
			{Prefix: pfx("fd10::/64"), NextHops: hops("fd01::1"), Peers: []string{"a"}},
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, SelectRoutes(tc.in, tc.max), compareValues); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			turned := slices.Clone(tc.in)
			slices.Reverse(turned)
			if diff := cmp.Diff(tc.want, SelectRoutes(turned, tc.max), compareValues); diff != "" {
				t.Errorf("in another order (-want +got):\n%s", diff)
			}
		})
	}
}

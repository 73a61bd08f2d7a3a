// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckAggregates(t *testing.T) {
	nodes := []Node{
		{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		{Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("2001:db8:2::2")}},
	}
	links := []Link{{Name: "eth0", Prefixes: prefixes("192.0.2.1/24")}}
	good, wrong := CheckAggregates(prefixes("10.244.0.0/20", "192.0.0.0/16", "2001:db8::/32", "fd10::/48"), nodes, links)
	if diff := cmp.Diff(prefixes("10.244.0.0/20", "fd10::/48"), good, compareValues); diff != "" {
		t.Errorf("good (-want +got):\n%s", diff)
	}
	want := []Problem{
		{"n1", IPv4, ProblemAggregate, "aggregate 192.0.0.0/16 is not announced: it contains network 192.0.2.0/24 of interface eth0"},
		{"n1", IPv6, ProblemAggregate, "aggregate 2001:db8::/32 is not announced: it contains address 2001:db8:2::2 of node n2"},
	}
	if diff := cmp.Diff(want, wrong); diff != "" {
		t.Errorf("wrong (-want +got):\n%s", diff)
	}
}

func TestSummarize(t *testing.T) {
	own, other := netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd10:0:0:1::/64")
	all := Advertisement{Prefix: netip.MustParsePrefix("10.244.0.0/20"), Aggregate: true, Peers: []string{"a", "b", "c"}}
	only := all
	only.SummaryOnly, only.Peers = true, []string{"b", "c"}
	tests := map[string]struct{ in, want []Advertisement }{
		"besides": {
			[]Advertisement{{Prefix: own, Peers: []string{"a"}}, all},
			[]Advertisement{{Prefix: own, Peers: []string{"a"}}, all},
		},
		"instead": {
			[]Advertisement{{Prefix: own, Peers: []string{"a", "b"}}, {Prefix: own, Peers: []string{"c"}}, {Prefix: other, Peers: []string{"b"}}, only},
			[]Advertisement{{Prefix: own, Peers: []string{"a"}}, {Prefix: other, Peers: []string{"b"}}, only},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Summarize(tc.in), compareValues); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoLoopByAggregate: packets for other nodes' Pods, which come because this
// node announces an aggregate, go to the node itself, along a more specific
// route, or nowhere; never back along what the same announcement made.
func TestNoLoopByAggregate(t *testing.T) {
	router := NextHop{Addr: netip.MustParseAddr("192.0.2.254")}
	learned := func(texts ...string) []LearnedRoute {
		var out []LearnedRoute
		for _, p := range prefixes(texts...) {
			out = append(out, LearnedRoute{Prefix: p, NextHops: []NextHop{router}})
		}
		return out
	}
	links := []Link{{Name: "eth0", Prefixes: prefixes("192.0.2.1/24")}}
	near := Node{Name: "near", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, PodCIDRs: prefixes("10.244.2.0/24")}
	far := Node{Name: "far", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}, PodCIDRs: prefixes("10.244.3.0/24")}
	guard := func(p string) string { return p + " unreachable 4096" }
	rack := []string{guard("10.244.0.0/20"), "10.244.2.0/24 192.0.2.2 100", guard("10.244.2.0/24")}
	tests := map[string]struct {
		learned    []LearnedRoute
		trust      bool
		aggregates []netip.Prefix
		kind       PathKind
		want       []string
	}{
		"nothing learned": {aggregates: prefixes("10.244.0.0/20"), kind: PathNone, want: append(rack[:3:3], guard("10.244.3.0/24"))},
		"the default route is not trusted": {aggregates: prefixes("10.244.0.0/20"), trust: true, kind: PathNone,
			want: append(rack[:3:3], guard("10.244.3.0/24"))},
		"trusted outside": {aggregates: prefixes("10.244.0.0/23"), trust: true, kind: PathDefault,
			want: []string{guard("10.244.0.0/23"), "10.244.2.0/24 192.0.2.2 100", guard("10.244.2.0/24")}},
		"the same aggregate of another": {learned: learned("10.244.0.0/20"), aggregates: prefixes("10.244.0.0/20"), kind: PathNone,
			want: append(rack[:3:3], guard("10.244.3.0/24"))},
		"that of the whole fabric": {learned: learned("10.244.0.0/16"), aggregates: prefixes("10.244.0.0/20"), kind: PathNone,
			want: append([]string{"10.244.0.0/16 192.0.2.254 200"}, append(rack[:3:3], guard("10.244.3.0/24"))...)},
		"more specific": {learned: learned("10.244.0.0/20", "10.244.3.0/24"), aggregates: prefixes("10.244.0.0/20"), kind: PathBGP,
			want: append(rack[:3:3], "10.244.3.0/24 192.0.2.254 200", guard("10.244.3.0/24"))},
		"the smallest of two counts": {learned: learned("10.244.0.0/21"), aggregates: prefixes("10.244.0.0/20", "10.244.0.0/22"), kind: PathNone,
			want: []string{guard("10.244.0.0/20"), "10.244.0.0/21 192.0.2.254 200", guard("10.244.0.0/22"), rack[1], rack[2], guard("10.244.3.0/24")}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			paths := DecidePaths(Input{
				Mode: ModeNoEncap, TrustDefaultRoute: tc.trust, Links: links, Remotes: []Node{near, far},
				Learned: tc.learned, Aggregates: tc.aggregates,
			})
			if paths[0].Node != "far" || paths[0].Kind != tc.kind {
				t.Errorf("path %+v, want %s", paths[0], tc.kind)
			}
			state := KernelRoutes(KernelInput{Links: links, Paths: paths, Learned: tc.learned, Aggregates: tc.aggregates})
			var got []string
			for _, r := range state.Routes {
				text := r.Prefix.String()
				for _, h := range r.NextHops {
					text += " " + h.Addr.String()
				}
				if r.Type == Unreachable {
					text += " unreachable"
				}
				got = append(got, text+" "+map[int]string{MetricDirect: "100", MetricBGP: "200", MetricGuard: "4096"}[r.Metric])
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("kernel (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAcceptAggregates(t *testing.T) {
	f := NewImportFilter(ImportScope{Aggregates: prefixes("10.244.0.0/20", "10.245.0.0/20"), OwnAggregates: prefixes("10.244.0.0/20")})
	for prefix, want := range map[string]FilterReason{
		"10.245.0.0/20": "", "10.244.0.0/20": FilterEcho, "10.245.0.0/21": FilterOutside, "10.244.0.0/19": FilterOutside,
	} {
		r := ReceivedRoute{Prefix: netip.MustParsePrefix(prefix), NextHop: netip.MustParseAddr("192.0.2.254")}
		if _, why := f.Accept(r, ImportRule{}); why != want {
			t.Errorf("%s: %q, want %q", prefix, why, want)
		}
	}
}

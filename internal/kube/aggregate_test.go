// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

func TestAggregates(t *testing.T) {
	list := func(cidrs ...string) []v1alpha1.Aggregate {
		var out []v1alpha1.Aggregate
		for _, c := range cidrs {
			out = append(out, v1alpha1.Aggregate{CIDR: c})
		}
		return out
	}
	tests := map[string]struct {
		specs []v1alpha1.BGPAdvertisementSpec
		want  []string
		wrong []string
	}{
		"of both racks": {
			specs: []v1alpha1.BGPAdvertisementSpec{{Aggregates: list("10.10.0.0/20", "10.10.16.0/20", "fd10::/48")}},
			want: []string{
				"10.10.1.0/24 [tor-a tor-b] 0", "fd10:0:0:1::/64 [tor-a tor-b] 0",
				"10.10.0.0/20 [tor-a tor-b] 0 aggregate", "fd10::/48 [tor-a tor-b] 0 aggregate",
			},
		},
		"to one router instead": {
			specs: []v1alpha1.BGPAdvertisementSpec{
				{},
				{Peers: []string{"tor-b"}, Aggregates: []v1alpha1.Aggregate{{CIDR: "10.10.0.0/20", SummaryOnly: true}}, LocalPreference: new(int64(200))},
				{Aggregates: list("10.10.0.0/20")},
			},
			want: []string{
				"10.10.1.0/24 [tor-a] 0", "fd10:0:0:1::/64 [tor-a] 0", "10.10.1.0/24 [tor-b] 200", "fd10:0:0:1::/64 [tor-b] 200",
				"10.10.0.0/20 [tor-a] 0 aggregate", "10.10.0.0/20 [tor-b] 200 aggregate only",
			},
		},
		"of nobody": {
			specs: []v1alpha1.BGPAdvertisementSpec{{Aggregates: list("10.20.0.0/16", "10.10.0.0/20")}},
			want:  []string{"10.10.1.0/24 [tor-a tor-b] 0", "fd10:0:0:1::/64 [tor-a tor-b] 0", "10.10.0.0/20 [tor-a tor-b] 0 aggregate"},
			wrong: []string{"BGPAdvertisement x0: aggregate 10.20.0.0/16 covers no Pod CIDR of any node"},
		},
		"of others": {
			specs: []v1alpha1.BGPAdvertisementSpec{{Aggregates: list("10.10.16.0/20")}},
			want:  []string{"10.10.1.0/24 [tor-a tor-b] 0", "fd10:0:0:1::/64 [tor-a tor-b] 0"},
			wrong: []string{"BGPAdvertisement x0: no aggregate covers Pod CIDR 10.10.1.0/24 of this node"},
		},
		"the Pod CIDR itself": {
			specs: []v1alpha1.BGPAdvertisementSpec{{Aggregates: []v1alpha1.Aggregate{{CIDR: "10.10.1.0/24", SummaryOnly: true}}}},
			want:  []string{"10.10.1.0/24 [tor-a tor-b] 0", "fd10:0:0:1::/64 [tor-a tor-b] 0"},
		},
		"malformed": {
			specs: []v1alpha1.BGPAdvertisementSpec{{Aggregates: list("10.10.0.1/20", "0.0.0.0/0")}},
			want:  []string{"10.10.1.0/24 [tor-a tor-b] 0", "fd10:0:0:1::/64 [tor-a tor-b] 0"},
			wrong: []string{
				"BGPAdvertisement x0: aggregates: 10.10.0.1/20: must be a CIDR without host bits, and not a default route",
				"BGPAdvertisement x0: aggregates: 0.0.0.0/0: must be a CIDR without host bits, and not a default route",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			here, there := node("n1", nil, "10.10.1.0/24", "fd10:0:0:1::/64"), node("n2", nil, "10.10.17.0/24")
			s := &Snapshot{Nodes: []Node{*here, *there}}
			for i, spec := range test.specs {
				s.advertisements = append(s.advertisements, v1alpha1.BGPAdvertisement{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("x%d", i)}, Spec: spec,
				})
			}
			ads := s.Advertisements(here, []routing.Peer{{Name: "tor-a"}, {Name: "tor-b"}}, nil)
			var got []string
			for _, a := range ads.PodCIDRs {
				text := fmt.Sprintf("%s %v %d", a.Prefix, a.Peers, a.LocalPref)
				if a.Aggregate {
					text += " aggregate"
				}
				if a.SummaryOnly {
					text += " only"
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("advertisements (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wrong, ads.Wrong); diff != "" {
				t.Errorf("wrong (-want +got):\n%s", diff)
			}
		})
	}
	s := &Snapshot{advertisements: []v1alpha1.BGPAdvertisement{
		{Spec: v1alpha1.BGPAdvertisementSpec{Aggregates: list("fd10::/48", "10.10.0.0/20", "bad")}},
		{Spec: v1alpha1.BGPAdvertisementSpec{Aggregates: list("10.10.0.0/20")}},
	}}
	want := []netip.Prefix{netip.MustParsePrefix("10.10.0.0/20"), netip.MustParsePrefix("fd10::/48")}
	if diff := cmp.Diff(want, s.Aggregates(), compareNet); diff != "" {
		t.Errorf("aggregates of all (-want +got):\n%s", diff)
	}
}

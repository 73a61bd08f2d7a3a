// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

func TestAtGateways(t *testing.T) {
	gateway := func(name string, families ...v1alpha1.Family) v1alpha1.BGPPeer {
		return bgpPeer(name, v1alpha1.BGPPeerSpec{DefaultGateway: true, ASN: 64512, Families: families})
	}
	route := func(prefix, via string) routing.Route {
		return routing.Route{Prefix: netip.MustParsePrefix(prefix), NextHops: []routing.NextHop{{Addr: netip.MustParseAddr(via)}}}
	}
	both := []routing.Route{route("0.0.0.0/0", "192.0.2.254"), route("::/0", "2001:db8::fe")}
	tests := map[string]struct {
		objects  []v1alpha1.BGPPeer
		underlay []routing.Route
		want     map[string]string
		problems []string
	}{
		"a session for each family": {objects: []v1alpha1.BGPPeer{gateway("a", "ipv4"), gateway("b", "ipv6")}, underlay: both,
			want: map[string]string{"a": "192.0.2.254", "b": "2001:db8::fe"}},
		"no route": {objects: []v1alpha1.BGPPeer{gateway("a")},
			problems: []string{"a NoDefaultGateway: the node has no default route with a gateway that was not learned over BGP"}},
		"twice": {objects: []v1alpha1.BGPPeer{gateway("a"), gateway("b")}, underlay: both, want: map[string]string{"a": "192.0.2.254"},
			problems: []string{"b DuplicateAddress: BGPPeer a already has the address of the default gateway 192.0.2.254 on this node"}},
		"the other family twice": {objects: []v1alpha1.BGPPeer{gateway("a"), gateway("b", "ipv6"), gateway("c", "ipv6")}, underlay: both,
			want:     map[string]string{"a": "192.0.2.254", "b": "2001:db8::fe"},
			problems: []string{"c DuplicateAddress: BGPPeer b already has the address of the default gateway 2001:db8::fe on this node"}},
		"by address too": {
			objects:  []v1alpha1.BGPPeer{gateway("a"), bgpPeer("b", v1alpha1.BGPPeerSpec{Address: "192.0.2.254", ASN: 64512})},
			underlay: both, want: map[string]string{"b": "192.0.2.254"},
			problems: []string{"a DuplicateAddress: BGPPeer b already has the address of the default gateway 192.0.2.254 on this node"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &Snapshot{PeerObjects: test.objects}
			peers, wrong := s.Peers(node("n1", nil), config.Default().BGP)
			if len(wrong) > 0 {
				t.Fatal(wrong)
			}
			peers, wrong = AtGateways(peers, test.underlay)
			var got map[string]string
			for _, p := range peers {
				if got == nil {
					got = map[string]string{}
				}
				got[p.Name] = p.Address.String()
			}
			var problems []string
			for _, p := range wrong {
				problems = append(problems, p.Peer+" "+p.Reason+": "+p.Message)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("peers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

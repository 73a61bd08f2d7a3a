// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

// fabricNodes are n1 to n4: n1 and n2 have the label reflector, n4 has no IPv4
// address, and all but n4 are in AS 64512.
func fabricNodes() []Node {
	var nodes []Node
	for i := 1; i <= 4; i++ {
		n := Node{Node: routing.Node{Name: fmt.Sprintf("n%d", i)}, Labels: map[string]string{"asn": "64512"}}
		if i < 3 {
			n.Labels["reflector"] = "yes"
		}
		if i < 4 {
			n.Addresses = append(n.Addresses, netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)))
		} else {
			n.Labels["asn"] = "64599"
		}
		n.Addresses = append(n.Addresses, netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i)))
		nodes = append(nodes, n)
	}
	return nodes
}

// peerLine says what matters of a node as a peer.
func peerLine(p routing.Peer) string {
	text := fmt.Sprintf("%s %s-%s:%d AS%d", p.Name, p.SourceAddress, p.Address, p.Port, p.ASN)
	for _, f := range []struct {
		set  bool
		name string
	}{{p.Passive, "passive"}, {p.Reflection.Client, "client"}, {p.Reflection.PassOn, "passOn"}} {
		if f.set {
			text += " " + f.name
		}
	}
	if id := p.Reflection.ClusterID; id.IsValid() {
		text += " cluster " + id.String()
	}
	return text
}

func TestNodePeers(t *testing.T) {
	reflectors := &v1alpha1.NodeSelector{MatchLabels: map[string]string{"reflector": "yes"}}
	others := &v1alpha1.NodeSelector{MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "reflector", Operator: "DoesNotExist"}}}
	reflected := v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{
		Selector: reflectors, RouteReflector: &v1alpha1.RouteReflector{ClusterID: "10.0.0.1"},
	}}
	within := func(spec v1alpha1.BGPPeerSpec) v1alpha1.BGPPeerSpec {
		spec.LocalASN = new(int64(64700))
		return spec
	}
	only := func(spec v1alpha1.BGPPeerSpec, s *v1alpha1.NodeSelector) v1alpha1.BGPPeerSpec {
		spec.NodeSelector = s
		return spec
	}
	labels := func(b *config.BGP) { b.ASNNodeLabel = "asn" }
	tests := map[string]struct {
		spec     v1alpha1.BGPPeerSpec
		conf     func(*config.BGP)
		on       string
		want     []string
		problems []string
	}{
		"mesh": {spec: v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{}}, on: "n2", want: []string{
			"p.n1 192.0.2.2-192.0.2.1:179 AS64512 passOn",
			"p.n3 192.0.2.2-192.0.2.3:179 AS64512 passive passOn",
			"p.n4 2001:db8::2-2001:db8::4:179 AS64512 passive passOn",
		}},
		"mesh of different ASes, another port": {spec: v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{}}, on: "n4",
			conf: func(b *config.BGP) { labels(b); b.ListenPort = 1179 }, want: []string{
				"p.n1 2001:db8::4-2001:db8::1:1179 AS64512 passOn",
				"p.n2 2001:db8::4-2001:db8::2:1179 AS64512 passOn",
				"p.n3 2001:db8::4-2001:db8::3:1179 AS64512 passOn",
			}},
		"a client": {spec: reflected, on: "n3", want: []string{
			"p.n1 192.0.2.3-192.0.2.1:179 AS64512 passOn",
			"p.n2 192.0.2.3-192.0.2.2:179 AS64512 passOn",
		}},
		"a reflector, with its fellow": {spec: reflected, on: "n1", want: []string{
			"p.n2 192.0.2.1-192.0.2.2:179 AS64512 passive",
			"p.n3 192.0.2.1-192.0.2.3:179 AS64512 passive client passOn cluster 10.0.0.1",
			"p.n4 2001:db8::1-2001:db8::4:179 AS64512 passive client passOn cluster 10.0.0.1",
		}},
		"a reflector, without": {spec: only(reflected, others), on: "n2", want: []string{
			"p.n3 192.0.2.2-192.0.2.3:179 AS64512 passive client passOn cluster 10.0.0.1",
			"p.n4 2001:db8::2-2001:db8::4:179 AS64512 passive client passOn cluster 10.0.0.1",
		}},
		"one AS by localASN": {spec: within(reflected), conf: labels, on: "n4", want: []string{
			"p.n1 2001:db8::4-2001:db8::1:179 AS64700 passOn",
			"p.n2 2001:db8::4-2001:db8::2:179 AS64700 passOn",
		}},
		"several ASes": {spec: reflected, conf: labels, on: "n4", problems: []string{
			"p.n1 ASNMismatch: node n1 is in AS 64512 and this node in AS 64599: route reflection is within one AS, give localASN",
			"p.n2 ASNMismatch: node n2 is in AS 64512 and this node in AS 64599: route reflection is within one AS, give localASN",
		}},
		"nobody listens": {spec: only(reflected, others), conf: func(b *config.BGP) { b.ListenPort = -1 }, on: "n3", problems: []string{
			"p.n1 NotListening: bgp.listenPort of the configuration is -1: nodes that do not listen cannot peer with each other",
			"p.n2 NotListening: bgp.listenPort of the configuration is -1: nodes that do not listen cannot peer with each other",
		}},
		"cluster ID": {spec: v1alpha1.BGPPeerSpec{NodeSelector: others, Nodes: &v1alpha1.PeerNodes{
			Selector: reflectors, RouteReflector: &v1alpha1.RouteReflector{ClusterID: "7"}}}, on: "n3", problems: []string{
			"p.n1 Invalid: nodes.routeReflector.clusterID: 7: must be in the form of an IPv4 address",
			"p.n2 Invalid: nodes.routeReflector.clusterID: 7: must be in the form of an IPv4 address",
		}},
		"selector": {spec: v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{Selector: &v1alpha1.NodeSelector{
			MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "a", Operator: "Equals"}}}}}, on: "n3", problems: []string{
			`p Invalid: nodes.selector: "Equals" is not a valid label selector operator`,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &Snapshot{Nodes: fabricNodes(), PeerObjects: []v1alpha1.BGPPeer{bgpPeer("p", test.spec)}}
			bgp := config.Default().BGP
			if test.conf != nil {
				test.conf(&bgp)
			}
			peers, wrong := s.Peers(s.Node(test.on), bgp)
			var got, problems []string
			for _, p := range peers {
				got = append(got, peerLine(p))
			}
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

// TestNodePeersAgree: the ends of a session come to the same pair of addresses,
// one of them connects, and each end names a session that no other has.
func TestNodePeersAgree(t *testing.T) {
	s := &Snapshot{Nodes: fabricNodes(), PeerObjects: []v1alpha1.BGPPeer{
		bgpPeer("a", v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{Selector: &v1alpha1.NodeSelector{MatchLabels: map[string]string{"reflector": "yes"}}}}),
	}}
	seen := map[string]routing.Peer{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		peers, wrong := s.Peers(n, config.Default().BGP)
		if len(wrong) > 0 {
			t.Fatal(wrong)
		}
		for _, p := range peers {
			seen[n.Name+"."+p.Node] = p
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d ends of sessions, want 10", len(seen))
	}
	for name, p := range seen {
		var local, remote string
		_, _ = fmt.Sscanf(name, "%2s.%2s", &local, &remote)
		q := seen[remote+"."+local]
		if q.Address != p.SourceAddress || q.SourceAddress != p.Address || q.Passive == p.Passive {
			t.Errorf("the ends of %s differ: %+v, %+v", name, p, q)
		}
	}
}

func TestNodePeersTaken(t *testing.T) {
	s := &Snapshot{Nodes: fabricNodes()[:2], PeerObjects: []v1alpha1.BGPPeer{
		bgpPeer("a", v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{}}),
		bgpPeer("b", v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{}}),
	}}
	_, wrong := s.Peers(s.Node("n1"), config.Default().BGP)
	if len(wrong) != 1 || wrong[0].Peer != "b.n2" || wrong[0].Message != "BGPPeer a already has address 192.0.2.2 on this node" {
		t.Errorf("problems %v", wrong)
	}
}

func TestNodePeersAdvertised(t *testing.T) {
	peers := []routing.Peer{{Name: "mesh.n2", Node: "n2"}, {Name: "tor"}}
	s := &Snapshot{advertisements: []v1alpha1.BGPAdvertisement{{
		ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: v1alpha1.BGPAdvertisementSpec{Peers: []string{"mesh"}},
	}}}
	ads := s.Advertisements(node("n1", nil, "10.10.1.0/24"), peers, nil).PodCIDRs
	if len(ads) != 1 || !cmp.Equal(ads[0].Peers, []string{"mesh.n2"}) {
		t.Errorf("advertisements %+v", ads)
	}
}

func TestNodeSession(t *testing.T) {
	r := Report{Node: node("n1.example", nil), Sessions: []routing.SessionStatus{{Peer: "mesh.n2.example", State: routing.SessionEstablished}}}
	got := r.sessions(nil, r.Sessions[0].Since)
	if len(got) != 1 || got[0].Name != "n1.example.mesh.n2.example" || got[0].Status.Peer != "mesh" || got[0].Status.PeerNode != "n2.example" {
		t.Errorf("sessions %+v", got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

// Reasons why nodes cannot be peers.
const (
	ReasonNotListening = "NotListening"
	ReasonNoAddress    = "NoCommonFamily"
	ReasonASN          = "ASNMismatch"
)

// NodePairs says which nodes have sessions with each other.
type NodePairs struct{ local, remote []bool }

// PairNodes returns the pairs of a BGPPeer with nodes.
func PairNodes(spec *v1alpha1.BGPPeerSpec, nodes []Node) (NodePairs, error) {
	p := NodePairs{local: make([]bool, len(nodes)), remote: make([]bool, len(nodes))}
	for i := range nodes {
		var err error
		if p.local[i], err = Selects(spec.NodeSelector, nodes[i].Labels); err != nil {
			return p, err
		}
		if p.remote[i], err = Selects(spec.Nodes.Selector, nodes[i].Labels); err != nil {
			return p, fmt.Errorf("nodes.selector: %w", errors.Unwrap(err))
		}
	}
	return p, nil
}

// Linked says whether the nodes of two indexes are a pair. Both ends of a
// session are configured by the same BGPPeer.
func (p NodePairs) Linked(a, b int) bool {
	return a != b && (p.local[a] && p.remote[b] || p.local[b] && p.remote[a])
}

// nodePeerName names a node as a peer; splitPeerName takes it apart again. The
// name of a BGPPeer has no dot.
func nodePeerName(object, node string) string { return object + "." + node }

// splitPeerName returns the BGPPeer and the node, which is empty for a router.
func splitPeerName(name string) (object, node string) {
	object, node, _ = strings.Cut(name, ".")
	return object, node
}

// nodePeers returns the nodes that are peers of a node by a BGPPeer, and the
// problems of those that cannot be.
func (s *Snapshot) nodePeers(object *v1alpha1.BGPPeer, node *Node, bgp config.BGP) ([]routing.Peer, []PeerProblem) {
	pairs, err := PairNodes(&object.Spec, s.Nodes)
	if err != nil {
		return nil, []PeerProblem{newPeerProblem(routing.Peer{Name: object.Name}, err)}
	}
	var peers []routing.Peer
	var wrong []PeerProblem
	self := -1
	for i := range s.Nodes {
		if s.Nodes[i].Name == node.Name {
			self = i
		}
	}
	for i := range s.Nodes {
		if self < 0 || !pairs.Linked(self, i) {
			continue
		}
		peer, err := s.nodePeer(object, node, &s.Nodes[i], bgp)
		if reflector := object.Spec.Nodes.RouteReflector; err == nil && reflector != nil {
			// Reflectors of the same clients have nothing to pass on to each other.
			peer.Reflection.PassOn = !pairs.remote[self] || !pairs.remote[i]
			peer.Reflection.Client = pairs.remote[self] && !pairs.remote[i]
			if !peer.Reflection.Client {
				peer.Reflection.ClusterID = netip.Addr{}
			}
		}
		if err != nil {
			wrong = append(wrong, newPeerProblem(peer, err))
			continue
		}
		peers = append(peers, peer)
	}
	return peers, wrong
}

// nodePeer makes a node the peer of another. Both ends come to the same
// addresses, and only the one with the higher address connects.
func (s *Snapshot) nodePeer(object *v1alpha1.BGPPeer, local, remote *Node, bgp config.BGP) (routing.Peer, error) {
	peer, err := ParsePeer(object, bgp)
	peer.Name, peer.Node = nodePeerName(object.Name, remote.Name), remote.Name
	if err != nil {
		return peer, err
	}
	for _, f := range routing.Families() {
		if a, b := local.Address(f), remote.Address(f); a.IsValid() && b.IsValid() && !peer.Address.IsValid() {
			peer.SourceAddress, peer.Address = a, b
		}
	}
	peer.ASN = peer.LocalASN
	ours := peer.LocalASN
	if ours == 0 {
		// That of this node was found good before.
		if ours, err = bgp.NodeASN(local.Labels); err != nil {
			return peer, err
		}
		if peer.ASN, err = bgp.NodeASN(remote.Labels); err != nil {
			return peer, fmt.Errorf("node %s: %w", remote.Name, err)
		}
	}
	switch {
	case !peer.Address.IsValid():
		return peer, &unusable{ReasonNoAddress, fmt.Sprintf("node %s has no InternalIP of a family of which this node has one", remote.Name)}
	case bgp.ListenPort < 0:
		return peer, &unusable{ReasonNotListening, "bgp.listenPort of the configuration is -1: nodes that do not listen cannot peer with each other"}
	case object.Spec.Nodes.RouteReflector != nil && peer.ASN != ours:
		return peer, &unusable{ReasonASN, fmt.Sprintf("node %s is in AS %d and this node in AS %d: route reflection is within one AS, give localASN", remote.Name, peer.ASN, ours)}
	}
	peer.Port = bgp.ListenPort
	peer.Passive = peer.SourceAddress.Less(peer.Address)
	peer.Reflection.PassOn = true
	if object.Spec.Import == nil {
		// A reflector passes on what all nodes announce.
		peer.Import.MaxPrefixes = max(routing.DefaultMaxPrefixes, 2*len(s.Nodes))
	}
	if ref := object.Spec.PasswordSecretRef; ref != nil {
		peer.Password, err = s.password(ref)
	}
	return peer, err
}

// clusterID returns what a BGPPeer says of the cluster of its reflectors.
func (p *problems) clusterID(n *v1alpha1.PeerNodes) netip.Addr {
	if n == nil || n.RouteReflector == nil || n.RouteReflector.ClusterID == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(n.RouteReflector.ClusterID)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		p.add("nodes.routeReflector.clusterID", n.RouteReflector.ClusterID, "in the form of an IPv4 address")
		return netip.Addr{}
	}
	return a
}

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

// Reasons why a BGPPeer cannot be used on a node.
const (
	ReasonInvalid       = "Invalid"
	ReasonUnsupported   = "Unsupported"
	ReasonSecretMissing = "SecretMissing"
	ReasonOwnAddress    = "OwnAddress"
	ReasonDuplicate     = "DuplicateAddress"
)

// PeerProblem says why a BGPPeer that selects a node is not configured there.
type PeerProblem struct {
	// Peer is the name of the routing.Peer that there would be.
	Peer    string
	Address netip.Addr
	ASN     uint32
	// Reason is one of the Reason constants, Message says it in words.
	Reason, Message string
}

// Peers returns the BGP peers of a node, by name, and the problems of those
// that select the node and cannot be used. bgp supplies what a peer leaves to
// the configuration. Peers that are a default gateway are without address; see
// AtGateways.
func (s *Snapshot) Peers(node *Node, bgp config.BGP) ([]routing.Peer, []PeerProblem) {
	var peers []routing.Peer
	var problems []PeerProblem
	byAddress := map[netip.Addr]string{}
	for i := range s.PeerObjects {
		found, wrong := s.peersOf(&s.PeerObjects[i], node, bgp)
		for _, peer := range found {
			if other, taken := byAddress[peer.Address]; taken && !peer.DefaultGateway {
				other, _ = splitPeerName(other)
				wrong = append(wrong, newPeerProblem(peer,
					&unusable{ReasonDuplicate, fmt.Sprintf("BGPPeer %s already has address %s on this node", other, peer.Address)}))
				continue
			}
			byAddress[peer.Address] = peer.Name
			peers = append(peers, peer)
		}
		problems = append(problems, wrong...)
	}
	return peers, problems
}

// peersOf returns the peers of a node by one BGPPeer.
func (s *Snapshot) peersOf(object *v1alpha1.BGPPeer, node *Node, bgp config.BGP) ([]routing.Peer, []PeerProblem) {
	if object.Spec.Nodes != nil {
		return s.nodePeers(object, node, bgp)
	}
	selected, err := Selects(object.Spec.NodeSelector, node.Labels)
	if err == nil && !selected {
		return nil, nil
	}
	peer := routing.Peer{Name: object.Name}
	if err == nil {
		peer, err = s.peer(object, node, bgp)
	}
	if err != nil {
		return nil, []PeerProblem{newPeerProblem(peer, err)}
	}
	return []routing.Peer{peer}, nil
}

func newPeerProblem(peer routing.Peer, err error) PeerProblem {
	problem := PeerProblem{Peer: peer.Name, Address: peer.Address, ASN: peer.ASN, Reason: ReasonInvalid, Message: err.Error()}
	var u *unusable
	if errors.As(err, &u) {
		problem.Reason, problem.Message = u.reason, u.message
	}
	return problem
}

// unusable is an error with a reason for a PeerProblem.
type unusable struct{ reason, message string }

func (u *unusable) Error() string { return u.message }

// peer turns a BGPPeer into the peer of a node. On error the result holds what
// is known for a report.
func (s *Snapshot) peer(object *v1alpha1.BGPPeer, node *Node, bgp config.BGP) (routing.Peer, error) {
	peer, err := ParsePeer(object, bgp)
	if err != nil {
		return peer, err
	}
	if slices.Contains(node.Addresses, peer.Address) {
		return peer, &unusable{ReasonOwnAddress, fmt.Sprintf("address %s is this node's own", peer.Address)}
	}
	if ref := object.Spec.PasswordSecretRef; ref != nil {
		peer.Password, err = s.password(ref)
	}
	return peer, err
}

// password reads a session's password. The error never contains it.
func (s *Snapshot) password(ref *v1alpha1.SecretKeyRef) (string, error) {
	name := config.Namespace + "/" + ref.Name
	found, known := s.secrets[ref.Name]
	switch {
	case !known:
		return "", &unusable{ReasonSecretMissing, fmt.Sprintf("Secret %s was not read yet", name)}
	case found.err != nil:
		return "", &unusable{ReasonSecretMissing, fmt.Sprintf("Secret %s cannot be read: %v", name, found.err)}
	case !found.found:
		return "", &unusable{ReasonSecretMissing, fmt.Sprintf("Secret %s does not exist", name)}
	}
	key := ref.Key
	if key == "" {
		key = "password"
	}
	value, ok := found.data[key]
	switch {
	case !ok:
		return "", &unusable{ReasonSecretMissing, fmt.Sprintf("Secret %s has no key %s", name, key)}
	case len(value) == 0 || len(value) > maxPassword:
		return "", &unusable{ReasonInvalid, fmt.Sprintf("key %s of Secret %s must hold 1 to %d bytes, it holds %d", key, name, maxPassword, len(value))}
	}
	return string(value), nil
}

// maxPassword is TCP_MD5SIG_MAXKEYLEN of Linux.
const maxPassword = 80

// ParsePeer turns a BGPPeer into a routing.Peer without its password, and
// without what depends on the node where the peers are nodes or a gateway. Most of
// what can be wrong was refused at admission already; it is checked again
// because the stored object may be older than the rules.
func ParsePeer(object *v1alpha1.BGPPeer, bgp config.BGP) (routing.Peer, error) {
	spec := &object.Spec
	peer := routing.Peer{Name: object.Name, Port: int(spec.Port)}
	var p problems
	if peer.Port == 0 {
		peer.Port = 179
	}
	if spec.Nodes == nil {
		peer.ASN = p.asn("asn", spec.ASN)
	}
	if spec.LocalASN != nil {
		peer.LocalASN = p.asn("localASN", *spec.LocalASN)
	}
	if spec.Interface != "" {
		return peer, errors.Join(p.err(), &unusable{ReasonUnsupported,
			fmt.Sprintf("interface %s: unnumbered peering is not supported by this version, give address instead", spec.Interface)})
	}
	peer.DefaultGateway = spec.DefaultGateway
	if spec.Nodes == nil && !spec.DefaultGateway {
		peer.Address = p.address("address", spec.Address)
	}
	peer.Reflection.ClusterID = p.clusterID(spec.Nodes)
	if spec.SourceAddress != "" {
		peer.SourceAddress = p.address("sourceAddress", spec.SourceAddress)
	}
	if spec.EBGPMultihop != nil {
		peer.MultihopTTL = uint8(p.within("ebgpMultihop", *spec.EBGPMultihop, 1, 255))
	}
	if spec.GTSM != nil {
		peer.GTSMHops = uint8(p.within("gtsm.maxHops", max(spec.GTSM.MaxHops, 1), 1, 254))
	}
	if t := spec.Timers; t != nil {
		peer.Timers = routing.Timers{
			Hold:         p.duration("timers.holdTime", t.HoldTime),
			Keepalive:    p.duration("timers.keepaliveTime", t.KeepaliveTime),
			ConnectRetry: p.duration("timers.connectRetryTime", t.ConnectRetryTime),
		}
	}
	if g := spec.GracefulRestart; g != nil {
		peer.GracefulRestart = p.gracefulRestart(g, bgp.GracefulRestart)
	}
	if spec.BFD != nil {
		peer.BFD = p.bfd(spec.BFD, peer.Timers.Hold)
	}
	peer.Families = p.families(spec.Families)
	if spec.Import != nil {
		peer.Import = p.importRule(spec.Import)
	}
	if spec.Export != nil {
		peer.Export = p.exportRule(spec.Export)
	}
	return peer, p.err()
}

// Selects reports whether a selector selects a node with the labels. A nil
// selector selects every node.
func Selects(selector *v1alpha1.NodeSelector, nodeLabels map[string]string) (bool, error) {
	if selector == nil {
		return true, nil
	}
	parsed, err := parseSelector(selector.MatchLabels, selector.MatchExpressions)
	if err != nil {
		return false, fmt.Errorf("nodeSelector: %w", err)
	}
	return parsed.Matches(labels.Set(nodeLabels)), nil
}

func parseSelector(matchLabels map[string]string, expressions []v1alpha1.NodeSelectorRequirement) (labels.Selector, error) {
	s := &metav1.LabelSelector{MatchLabels: matchLabels}
	for _, e := range expressions {
		s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values,
		})
	}
	return metav1.LabelSelectorAsSelector(s)
}

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

// Node is a node of the cluster, parsed.
type Node struct {
	routing.Node
	UID    string
	Labels map[string]string
	// Ready is the kubelet's own condition.
	Ready bool
	// Leaving says that the node is about to go: its object is being deleted, or
	// the cluster autoscaler is about to remove the machine, or it was declared out of
	// service.
	Leaving bool
	// Cordoned says that no new Pods are to come, ShuttingDown that the kubelet has
	// begun to shut the machine down.
	Cordoned, ShuttingDown bool
	// Problems say in words what of the Node object could not be understood.
	Problems []string
	// Rollout is what the node's agent says of a rollout. Agents do not look at each
	// other's.
	Rollout NodeRollout
}

// Zone is the zone that the node is in; empty if it has no such label.
func (n *Node) Zone() string { return n.Labels[corev1.LabelTopologyZone] }

// Document is the configuration document as it stands in its ConfigMap.
type Document struct {
	// Found is false when the ConfigMap or its key does not exist.
	Found bool
	Text  []byte
	// UID and Version are those of the ConfigMap.
	UID, Version string
}

// Snapshot is the state of the cluster as last seen. It is immutable.
type Snapshot struct {
	// Nodes by name.
	Nodes    []Node
	Document Document
	// Sessions are filled for the controller only, by name.
	Sessions []v1alpha1.BGPSession
	// PeerObjects are the BGPPeers as they are stored, by name; see Peers.
	PeerObjects []v1alpha1.BGPPeer
	// RolloutObjects are the NetworkRollouts as they are stored, by number; see Rollout.
	RolloutObjects []v1alpha1.NetworkRollout

	advertisements []v1alpha1.BGPAdvertisement
	secrets        map[string]secret
}

// secret is what is known of a Secret that a peer names.
type secret struct {
	// err is why it cannot be read, nil when it was read or does not exist.
	err   error
	found bool
	data  map[string][]byte
}

// Node returns the node of the name, or nil.
func (s *Snapshot) Node(name string) *Node {
	i, found := slices.BinarySearchFunc(s.Nodes, name, func(n Node, name string) int { return cmp.Compare(n.Name, name) })
	if !found {
		return nil
	}
	return &s.Nodes[i]
}

// Families returns the IP families in which any node has a Pod CIDR.
func (s *Snapshot) Families() []routing.Family {
	var families []routing.Family
	for _, f := range routing.Families() {
		if slices.ContainsFunc(s.Nodes, func(n Node) bool { return n.PodCIDR(f).IsValid() }) {
			families = append(families, f)
		}
	}
	return families
}

// taintToBeDeleted is the taint, of any effect, that the cluster autoscaler gives
// a node before it removes it. KEP-3458 has load balancers heed it.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// How the kubelet says, in the condition Ready, that it has begun to shut the
// machine down (KEP-2000). Other things that are wrong may be in the same message.
const (
	reasonKubeletNotReady = "KubeletNotReady"
	messageShutdown       = "node is shutting down"
)

// WhyLeaving says in words why the node is about to go, empty: it stays. onCordon
// says whether one that is cordoned is.
func (n *Node) WhyLeaving(onCordon bool) string {
	switch {
	case n.ShuttingDown:
		return "the node is shutting down"
	case n.Leaving:
		return "the node is about to be removed"
	case n.Cordoned && onCordon:
		return "the node is cordoned"
	}
	return ""
}

// parseNode takes what routing needs from a Node object. Addresses are the
// first InternalIP of each family; Pod CIDRs are taken as they are, also those
// that routing.Validate will refuse.
func parseNode(object *corev1.Node) Node {
	n := Node{
		Node:   routing.Node{Name: object.Name, Created: object.CreationTimestamp.Time},
		UID:    string(object.UID),
		Labels: object.Labels,
		Leaving: !object.DeletionTimestamp.IsZero() ||
			slices.ContainsFunc(object.Spec.Taints, func(t corev1.Taint) bool {
				return t.Key == taintToBeDeleted || t.Key == corev1.TaintNodeOutOfService
			}),
	}
	for _, a := range object.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		address, err := netip.ParseAddr(a.Address)
		if err != nil {
			n.Problems = append(n.Problems, "InternalIP "+a.Address+" is not an IP address")
			continue
		}
		address = address.Unmap()
		if !n.Address(routing.FamilyOf(address)).IsValid() {
			n.Addresses = append(n.Addresses, address)
		}
	}
	if len(n.Addresses) == 0 {
		n.Problems = append(n.Problems, "the node has no InternalIP")
	}
	n.Cordoned = object.Spec.Unschedulable
	cidrs := object.Spec.PodCIDRs
	if len(cidrs) == 0 && object.Spec.PodCIDR != "" {
		cidrs = []string{object.Spec.PodCIDR}
	}
	for _, c := range cidrs {
		prefix, err := netip.ParsePrefix(c)
		if err != nil {
			n.Problems = append(n.Problems, "Pod CIDR "+c+" is not a CIDR")
			continue
		}
		n.PodCIDRs = append(n.PodCIDRs, prefix)
	}
	for _, c := range object.Status.Conditions {
		if c.Type == corev1.NodeReady {
			n.Ready = c.Status == corev1.ConditionTrue
			n.ShuttingDown = !n.Ready && c.Reason == reasonKubeletNotReady && strings.Contains(c.Message, messageShutdown)
		}
	}
	n.Rollout = parseNodeRollout(object.Annotations[AnnotationRollout])
	return n
}

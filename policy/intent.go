// SPDX-License-Identifier: Apache-2.0

package policy

import "net/netip"

// NamespaceNameLabel is a label that every namespace has, with its name.
const NamespaceNameLabel = "kubernetes.io/metadata.name"

// NamedPort is the name of a port of a Pod.
type NamedPort struct {
	Name     string
	Protocol Protocol
	Number   uint16
}

// PodIntent is a Pod as its object says. Labels are those of the object, not
// copied: nobody may change them.
type PodIntent struct {
	Key PodKey
	UID string
	// Node is empty while the Pod is not scheduled.
	Node   string
	Labels map[string]string
	// Addresses are of either family, without doubles.
	Addresses []netip.Addr
	// Ports have no two with one name and protocol.
	Ports []NamedPort
	// HostNetwork and Finished Pods are nobody's subject and nobody's peer.
	HostNetwork bool
	// Finished says that no container runs again: the phase is Succeeded or
	// Failed.
	Finished bool
}

// Judged reports whether policies are about the Pod at all.
func (p *PodIntent) Judged() bool { return !p.HostNetwork && !p.Finished }

// NamespaceIntent is a namespace. Labels are not copied.
type NamespaceIntent struct {
	Name   string
	Labels map[string]string
}

// NodeIntent is a node. Labels are not copied.
type NodeIntent struct {
	Name   string
	Labels map[string]string
	// Addresses are all from which the node speaks to Pods.
	Addresses []netip.Addr
}

// PodSet selects Pods that are judged, see [PodIntent.Judged].
type PodSet struct {
	// Namespace is the one that the Pods are in. Where it is empty Namespaces
	// counts.
	Namespace string
	// Namespaces selects namespaces by label.
	Namespaces Selector
	// Pods selects Pods by label.
	Pods Selector
}

// PortIntent is a range of destination ports, or a name.
type PortIntent struct {
	PortRange
	// Name, where it is not empty, stands for the numbers that the name has on
	// the Pods that are the destination; First and Last do not count, and
	// Protocol 0 is any.
	Name string
}

// RuleIntent is one rule as the user wrote it. What of it was not understood
// was already made so that less is allowed.
type RuleIntent struct {
	Direction Direction
	Action    Action
	// Index is the place of the rule in the user's list, from 0.
	Index int
	Name  string
	// AnyPeer says that Pods, Nodes and Blocks, which are empty then, do not
	// matter. Without it and them the rule matches nothing.
	AnyPeer bool
	Pods    []PodSet
	Nodes   []Selector
	Blocks  []Block
	// AnyPort says that Ports, which is empty then, does not matter. Without it
	// and them the rule matches nothing.
	AnyPort bool
	Ports   []PortIntent
}

// PolicyIntent is a NetworkPolicy or ClusterNetworkPolicy, parsed.
type PolicyIntent struct {
	Key  Key
	UID  string
	Tier Tier
	// Priority is as in [Policy].
	Priority int32
	Subject  PodSet
	Isolates [Directions]bool
	// Rules are in order, those of Ingress first.
	Rules []RuleIntent
}

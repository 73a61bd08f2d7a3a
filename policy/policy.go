// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/hex"
	"fmt"
	"net/netip"
)

// Direction is that of a connection as its policy's Pods see it.
type Direction uint8

// The directions.
const (
	Ingress Direction = iota
	Egress
	Directions // how many there are
)

func (d Direction) String() string {
	return nameOf("Direction", d, "Ingress", "Egress")
}

// Action is what a rule does with a connection that it matches.
type Action uint8

// The actions. Pass leaves the rest of the tier out.
const (
	Accept Action = iota
	Deny
	Pass
)

func (a Action) String() string {
	return nameOf("Action", a, "Accept", "Deny", "Pass")
}

// Tier is the place of a policy in the evaluation: Admin first, then the
// NetworkPolicies of the namespace, whose word is final for the Pods that they
// isolate, then Baseline (KEP-2091, ClusterNetworkPolicy v1alpha2).
type Tier uint8

// The tiers in the order of evaluation.
const (
	TierAdmin Tier = iota
	TierNamespace
	TierBaseline
)

func (t Tier) String() string {
	return nameOf("Tier", t, "Admin", "NetworkPolicy", "Baseline")
}

// Kind is the kind of object that a policy was made from.
type Kind uint8

// The kinds.
const (
	NetworkPolicy Kind = iota
	ClusterNetworkPolicy
)

func (k Kind) String() string {
	return nameOf("Kind", k, "NetworkPolicy", "ClusterNetworkPolicy")
}

// nameOf is the name of a value of an enumeration, whose names are in the order
// of its values.
func nameOf[T ~uint8](kind string, value T, names ...string) string {
	if int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprintf("%s(%d)", kind, uint8(value))
}

// Key names a policy. Namespace is empty for a ClusterNetworkPolicy.
type Key struct {
	Kind            Kind
	Namespace, Name string
}

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind.String() + " " + k.Name
	}
	return k.Kind.String() + " " + k.Namespace + "/" + k.Name
}

// ID is the content hash that names a group, a subject or an identity.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Protocol is an IP protocol number: 6, 17 or 132.
type Protocol uint8

// The protocols that policies can name.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// PortRange is a range of destination ports, both ends included. From 0 to
// 65535 is every port of the protocol.
type PortRange struct {
	Protocol    Protocol
	First, Last uint16
}

// Block is an ipBlock: the addresses of CIDR that are in none of Except.
// Prefixes are masked.
type Block struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// Rule is one rule as a node enforces it. A rule of the user that names ports
// by name becomes several, one for each number that the name has on the Pods
// concerned.
type Rule struct {
	Direction Direction
	Action    Action
	// Index is the place of the user's rule in its list, from 0.
	Index int
	// Name is the name that the user gave the rule; may be empty.
	Name string
	// Subject are the Pods that the rule is about.
	Subject ID
	// AnyPeer says that the other end does not matter; Peers and Blocks are
	// empty then. Without it a rule with neither matches nothing.
	AnyPeer bool
	// Peers are groups of addresses of Pods or nodes.
	Peers  []ID
	Blocks []Block
	// Ports restrict the rule to destination ports; none is every port of
	// every protocol.
	Ports []PortRange
}

// Policy is a NetworkPolicy or ClusterNetworkPolicy as a node enforces it.
type Policy struct {
	Key Key
	// UID is that of the object.
	UID  string
	Tier Tier
	// Priority orders the policies of the tiers Admin and Baseline: 0 (first)
	// to 1000. It is 0 in the tier of NetworkPolicies.
	Priority int32
	// Subject are all Pods that the policy selects.
	Subject ID
	// Isolates says in which directions a NetworkPolicy isolates its Pods: what
	// no rule of any NetworkPolicy accepts is denied. Both are false for a
	// ClusterNetworkPolicy.
	Isolates [Directions]bool
	// Rules are in order, those of Ingress first.
	Rules []Rule
}

// Identity stands for Pods that no policy can tell apart.
type Identity struct {
	ID ID
	// Subjects are those that the Pods belong to, sorted and without doubles.
	Subjects []ID
}

// PodKey names a Pod.
type PodKey struct{ Namespace, Name string }

func (k PodKey) String() string { return k.Namespace + "/" + k.Name }

// Pod is a Pod of the node that policies can select. That there is one says
// that the policies of its Pod have been computed.
type Pod struct {
	Key PodKey
	UID string
	// Identity is the ID of an Identity.
	Identity ID
}

// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodePaths is what a node's agent reports of the ways by which it reaches the
// Pods of the other nodes. It has the name of the Node, belongs to it and is
// written by that agent alone.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=nodepaths,singular=nodepaths,scope=Cluster,categories=waymark
// +kubebuilder:selectablefield:JSONPath=`.status.node`
// +kubebuilder:selectablefield:JSONPath=`.status.mode`
// +kubebuilder:selectablefield:JSONPath=`.status.tunnel`
// +kubebuilder:selectablefield:JSONPath=`.status.none`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.status.mode`
// +kubebuilder:printcolumn:name="Direct",type=integer,JSONPath=`.status.direct`
// +kubebuilder:printcolumn:name="BGP",type=integer,JSONPath=`.status.bgp`
// +kubebuilder:printcolumn:name="Default",type=integer,JSONPath=`.status.default`,priority=1
// +kubebuilder:printcolumn:name="Tunnel",type=integer,JSONPath=`.status.tunnel`
// +kubebuilder:printcolumn:name="None",type=integer,JSONPath=`.status.none`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == self.status.node",message="must have the name of the node that it is about"
type NodePaths struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// There is no spec and so no status subresource: the object is a report.
	Status NodePathsStatus `json:"status"`
}

// NodePathsList is a list of NodePaths.
//
// +kubebuilder:object:root=true
type NodePathsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NodePaths `json:"items"`
}

// PathKind says how packets for the Pods of a node leave another one.
//
// +kubebuilder:validation:Enum=none;direct;bgp;default;tunnel
type PathKind string

// The kinds of path.
const (
	// PathNone: packets are refused.
	PathNone PathKind = "none"
	// PathDirect is a route to the address of the other node, which is on-link.
	PathDirect PathKind = "direct"
	// PathBGP is a route learned over BGP.
	PathBGP PathKind = "bgp"
	// PathDefault is the default route, which trustDefaultRoute says is one to Pods.
	PathDefault PathKind = "default"
	// PathTunnel leads to the address of the other node, encapsulated.
	PathTunnel PathKind = "tunnel"
)

// MaxPaths is how many paths a NodePaths names, MaxNextHops how many next hops of
// each.
const (
	MaxPaths    = 256
	MaxNextHops = 16
)

// NodePathsStatus is how a node reaches the Pods of others.
type NodePathsStatus struct {
	// node that reports.
	Node string `json:"node"`

	// mode that chooses the paths. In the course of a NetworkRollout it is the one
	// that the rollout leads to, also of paths that are still chosen by the one before.
	Mode string `json:"mode"`

	// direct is how many Pod CIDRs are reached by routes to their nodes, which are
	// on-link.
	Direct int32 `json:"direct"`

	// bgp is how many are reached by routes learned over BGP.
	BGP int32 `json:"bgp"`

	// default is how many are left to the default route.
	Default int32 `json:"default"`

	// tunnel is how many are reached through a tunnel.
	Tunnel int32 `json:"tunnel"`

	// none is how many are not reached at all.
	None int32 `json:"none"`

	// paths to the Pods of each other node, one a family. First come those that are
	// not as the mode would have them, none before tunnel, then all others, both by
	// node and family. They are cut off after 256.
	//
	// +optional
	// +listType=map
	// +listMapKey=node
	// +listMapKey=family
	// +kubebuilder:validation:MaxItems=256
	Paths []NodePath `json:"paths,omitempty"`

	// omitted is how many paths were cut off. They are in the numbers above.
	//
	// +optional
	Omitted int32 `json:"omitted,omitempty"`
}

// NodePath is the path to the Pods of a node in an IP family.
type NodePath struct {
	// node whose Pods are reached.
	//
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`

	// family of the Pods' addresses.
	Family Family `json:"family"`

	// podCIDR has the addresses of the Pods.
	PodCIDR string `json:"podCIDR"`

	// path by which they are reached.
	Path PathKind `json:"path"`

	// nextHops are the routers or the node itself, of a tunnel its far end; no more
	// than 16.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NextHops []string `json:"nextHops,omitempty"`

	// since when they are reached by a path of this kind, as far as the node's agents
	// have told.
	Since metav1.Time `json:"since"`

	// reason for this path in words. Where a tunnel stands in for a route it says
	// what probes of the route found; times in it are those when the object was last
	// written, which they alone do not cause.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
}

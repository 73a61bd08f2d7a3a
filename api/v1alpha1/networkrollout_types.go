// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NetworkRollout is one change of how traffic travels between nodes. The
// controller makes one whenever mode, tunnel, MTU, trustDefaultRoute or
// bgp.enabled change in the configuration, and leads all nodes through it: a node
// sends by the new path to another one only when that accepts it, and the old path
// is removed only when nobody sends by it. The one with the highest number is in
// force.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=waymark
// +kubebuilder:printcolumn:name="From",type=string,JSONPath=`.spec.from.mode`
// +kubebuilder:printcolumn:name="To",type=string,JSONPath=`.spec.to.mode`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.ready`,description="Nodes that have done what the phase asks for, of all"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NetworkRollout struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NetworkRolloutSpec `json:"spec"`
	// +optional
	Status NetworkRolloutStatus `json:"status,omitzero"`
}

// NetworkRolloutList is a list of NetworkRollouts.
//
// +kubebuilder:object:root=true
type NetworkRolloutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NetworkRollout `json:"items"`
}

// NetworkRolloutSpec says what changes. It is the controller's, but for force.
//
// +kubebuilder:validation:XValidation:rule="self.number == oldSelf.number && self.from == oldSelf.from && self.to == oldSelf.to && has(self.reverses) == has(oldSelf.reverses) && (!has(self.reverses) || self.reverses == oldSelf.reverses)",message="only force can be changed; change the configuration to change where the rollout leads"
type NetworkRolloutSpec struct {
	// number of the rollout, one more than that of the one before.
	//
	// +kubebuilder:validation:Minimum=1
	Number int64 `json:"number"`

	// from is how traffic travelled before.
	From TrafficSettings `json:"from"`

	// to is how traffic is to travel.
	To TrafficSettings `json:"to"`

	// reverses says that the rollout before led the other way and was turned round
	// while nodes moved to its path. Every node accepts the path of to already.
	//
	// +optional
	Reverses bool `json:"reverses,omitempty"`

	// force lets nodes move although some say that they would lose others, for
	// want of a route.
	//
	// +optional
	Force bool `json:"force,omitempty"`
}

// TrafficSettings are the parts of the configuration that a rollout changes.
type TrafficSettings struct {
	// mode is encap, noEncap, hybrid or auto.
	//
	// +kubebuilder:validation:MaxLength=16
	Mode string `json:"mode"`

	// tunnelType is geneve or vxlan.
	//
	// +kubebuilder:validation:MaxLength=16
	TunnelType string `json:"tunnelType"`

	// tunnelPort is the UDP port of the tunnel, 0 the type's own.
	//
	// +optional
	TunnelPort int32 `json:"tunnelPort,omitempty"`

	// tunnelUnderlay is auto, ipv4 or ipv6.
	//
	// +kubebuilder:validation:MaxLength=16
	TunnelUnderlay string `json:"tunnelUnderlay"`

	// mtu of Pod interfaces in bytes, 0: found from the uplink.
	//
	// +optional
	MTU int32 `json:"mtu,omitempty"`

	// trustDefaultRoute lets the default route carry Pod traffic in noEncap.
	//
	// +optional
	TrustDefaultRoute bool `json:"trustDefaultRoute,omitempty"`

	// bgp says whether nodes speak BGP.
	//
	// +optional
	BGP bool `json:"bgp,omitempty"`
}

// RolloutPhase is how far a rollout is.
//
// +kubebuilder:validation:Enum="";Prepare;Flip;Finish;Complete;Superseded
type RolloutPhase string

// The phases of a rollout, in their order. Superseded ends one that was overtaken by
// another.
const (
	// RolloutPrepare: nodes accept both paths and send what fits the narrower one.
	RolloutPrepare RolloutPhase = "Prepare"
	// RolloutFlip: nodes send by the new path, to those that accept it.
	RolloutFlip RolloutPhase = "Flip"
	// RolloutFinish: the old path is removed.
	RolloutFinish RolloutPhase = "Finish"
	// RolloutComplete: nodes send what fits the new path.
	RolloutComplete   RolloutPhase = "Complete"
	RolloutSuperseded RolloutPhase = "Superseded"
)

// NetworkRolloutStatus is how far the rollout is.
type NetworkRolloutStatus struct {
	// phase that all nodes are asked to carry out.
	//
	// +optional
	Phase RolloutPhase `json:"phase,omitempty"`

	// since when it is in this phase.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// ready is how many nodes have carried the phase out, of all.
	//
	// +optional
	Ready string `json:"ready,omitempty"`

	// message says in words what is waited for, or what was done.
	//
	// +optional
	Message string `json:"message,omitempty"`

	// nodes are what each node has carried out.
	//
	// +optional
	// +listType=map
	// +listMapKey=node
	Nodes []NodeRollout `json:"nodes,omitempty"`
}

// NodeRollout is how far a node is.
type NodeRollout struct {
	// node is its name.
	//
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`

	// phase that the node has carried out last; empty if none.
	//
	// +optional
	Phase RolloutPhase `json:"phase,omitempty"`

	// problem is why the node does not go on, in words.
	//
	// +optional
	Problem string `json:"problem,omitempty"`
}

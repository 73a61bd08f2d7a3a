// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BGPAdvertisement says what the selected nodes advertise to which peers. As
// long as there is none at all, every node advertises its Pod CIDRs to all of
// its peers.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=waymark
// +kubebuilder:printcolumn:name="PodCIDRs",type=boolean,JSONPath=`.spec.podCIDRs`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Communities",type=string,JSONPath=`.spec.communities`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPAdvertisement struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec BGPAdvertisementSpec `json:"spec"`
}

// BGPAdvertisementList is a list of BGPAdvertisements.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPAdvertisement `json:"items"`
}

// BGPAdvertisementSpec says what is advertised, by whom and to whom.
type BGPAdvertisementSpec struct {
	// nodeSelector selects the nodes that advertise. Without it, every node.
	//
	// +optional
	NodeSelector *NodeSelector `json:"nodeSelector,omitempty"`

	// peers are the names of the BGPPeers to advertise to. Without it, all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Peers []string `json:"peers,omitempty"`

	// podCIDRs advertises the node's own Pod CIDRs.
	//
	// +optional
	// +kubebuilder:default=true
	PodCIDRs *bool `json:"podCIDRs,omitempty"`

	// communities that the routes carry: standard as 64512:100 (RFC 1997),
	// large as 64512:1:2 (RFC 8092), or a well-known name.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Communities []Community `json:"communities,omitempty"`

	// localPreference of the routes towards routers of the same AS; higher is
	// preferred. Without it, 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalPreference *int64 `json:"localPreference,omitempty"`
}

// Community is a BGP community in text.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self in ['no-export', 'no-advertise', 'no-export-subconfed', 'blackhole'] || self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$')",message="must be ASN:VALUE (two numbers up to 65535), a large community A:B:C (three numbers up to 4294967295), or one of no-export, no-advertise, no-export-subconfed, blackhole"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.split(':').all(n, int(n) <= 65535)",message="the numbers of a standard community must be at most 65535; for a 4-byte ASN use a large community A:B:C"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') || self.split(':').all(n, int(n) <= 4294967295)",message="the numbers of a large community must be at most 4294967295"
type Community string

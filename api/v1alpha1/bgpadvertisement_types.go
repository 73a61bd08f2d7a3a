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
// +kubebuilder:printcolumn:name="Services",type=string,JSONPath=`.spec.services`
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
//
// +kubebuilder:validation:XValidation:rule="!has(self.serviceSelector) || has(self.services) && size(self.services) > 0",message="serviceSelector chooses among Services whose addresses are advertised: services must name kinds of addresses"
// +kubebuilder:validation:XValidation:rule="!has(self.aggregates) || !has(self.podCIDRs) || self.podCIDRs",message="aggregates are of Pod CIDRs: podCIDRs must not be false; see summaryOnly"
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

	// services are the kinds of addresses of Services that are advertised, as
	// prefixes of one address: ClusterIP, ExternalIP (of spec.externalIPs) and
	// LoadBalancerIP (of status.loadBalancer). A node advertises an address only
	// where it can serve it: with externalTrafficPolicy Local, and at ClusterIPs with
	// internalTrafficPolicy Local, where it has endpoints itself, otherwise while
	// there are any. It takes services.mode All in the configuration.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=3
	Services []ServiceAddress `json:"services,omitempty"`

	// serviceSelector selects by their labels the Services whose addresses are
	// advertised. Without it, or empty, every Service.
	//
	// +optional
	ServiceSelector *ServiceSelector `json:"serviceSelector,omitempty"`

	// aggregates are networks that are advertised besides the Pod CIDRs inside
	// them, by the nodes that have one of these. Such a node drops packets to
	// addresses inside that it has no more specific route to: it never sends
	// them back to a router.
	//
	// +optional
	// +listType=map
	// +listMapKey=cidr
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Aggregates []Aggregate `json:"aggregates,omitempty"`

	// communities that the routes carry: standard as 64512:100 (RFC 1997),
	// large as 64512:1:2 (RFC 8092), or a well-known name. A router is told
	// those of all BGPAdvertisements that are for it, and those of
	// export.communities of its BGPPeer.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Communities []Community `json:"communities,omitempty"`

	// localPreference of the routes towards routers of the same AS; higher is
	// preferred. Without it, 100. Of several BGPAdvertisements for a router the
	// highest counts, and export.localPreference of its BGPPeer before all.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalPreference *int64 `json:"localPreference,omitempty"`

	// med is the multi-exit discriminator of the routes; among those from one
	// AS the lower is preferred. Without it, none is sent. Of several
	// BGPAdvertisements for a router the lowest counts, and export.med of its
	// BGPPeer before all.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`

	// asPathPrepend is how often the AS number of the node is added to the AS
	// path, besides the once that it always is. Towards routers of the same AS
	// nothing is added. Of several BGPAdvertisements for a router the least
	// counts, and export.asPathPrepend of its BGPPeer before all.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	ASPathPrepend *int32 `json:"asPathPrepend,omitempty"`
}

// ServiceAddress is a kind of address that Services have.
//
// +kubebuilder:validation:Enum=ClusterIP;ExternalIP;LoadBalancerIP
type ServiceAddress string

// The kinds of addresses of Services.
const (
	ServiceClusterIP      ServiceAddress = "ClusterIP"
	ServiceExternalIP     ServiceAddress = "ExternalIP"
	ServiceLoadBalancerIP ServiceAddress = "LoadBalancerIP"
)

// ServiceSelector selects Services by their labels, all terms together. Like
// NodeSelector it is the LabelSelector of Kubernetes with its rules stated in the
// schema.
type ServiceSelector struct {
	// matchLabels are labels that a Service must have.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	MatchLabels map[string]string `json:"matchLabels,omitempty"`

	// matchExpressions are conditions on labels that a Service must meet.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MatchExpressions []NodeSelectorRequirement `json:"matchExpressions,omitempty"`
}

// Aggregate is a network of many Pod CIDRs.
type Aggregate struct {
	// cidr of the network.
	//
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a CIDR, such as 10.244.0.0/20 or 2001:db8::/48"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="must be a network without host bits"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).prefixLength() > 0",message="must not be a default route"
	CIDR string `json:"cidr"`

	// summaryOnly keeps the Pod CIDRs inside from the peers that are told of the
	// aggregate, whatever other BGPAdvertisements say.
	//
	// +optional
	SummaryOnly bool `json:"summaryOnly,omitempty"`
}

// Community is a BGP community in text: two numbers up to 65535, three up to
// 4294967295, or the name of a well-known one: graceful-shutdown (RFC 8326),
// accept-own (RFC 7611), no-llgr (RFC 9494), blackhole (RFC 7999), no-export,
// no-advertise, no-export-subconfed (RFC 1997) or no-peer (RFC 3765).
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self in ['graceful-shutdown', 'accept-own', 'no-llgr', 'blackhole', 'no-export', 'no-advertise', 'no-export-subconfed', 'no-peer'] || self.matches('^[0-9]{1,10}:[0-9]{1,10}$') || self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') || self == 'llgr-stale'",message="must be ASN:VALUE (two numbers up to 65535), a large community A:B:C (three numbers up to 4294967295), or one of graceful-shutdown, accept-own, no-llgr, blackhole, no-export, no-advertise, no-export-subconfed, no-peer"
// +kubebuilder:validation:XValidation:rule="self != 'llgr-stale' && !self.matches('^0*65535:0*6$')",message="llgr-stale (65535:6) is not possible: nodes do not offer long-lived graceful restart, without which a route that carries it must not be announced (RFC 9494)"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,10}:[0-9]{1,10}$') || self.split(':').all(n, int(n) <= 65535)",message="the numbers of a standard community must be at most 65535; for a 4-byte ASN use a large community A:B:C"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') || self.split(':').all(n, int(n) <= 4294967295)",message="the numbers of a large community must be at most 4294967295"
type Community string

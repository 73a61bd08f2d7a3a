// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BGPPeer makes the selected nodes speak BGP with a router, or with each other.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=waymark
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.asn`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.ready`,description="Nodes with an established session, of those selected"
// +kubebuilder:printcolumn:name="Interface",type=string,priority=1,JSONPath=`.spec.interface`
// +kubebuilder:printcolumn:name="Status",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be at most 63 lower-case letters, digits and '-', because sessions are named NODE.PEER"
type BGPPeer struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec BGPPeerSpec `json:"spec"`
	// +optional
	Status BGPPeerStatus `json:"status,omitzero"`
}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPPeer `json:"items"`
}

// BGPPeerSpec says which nodes peer with which router, and how.
//
// +kubebuilder:validation:XValidation:rule="(has(self.address) ? 1 : 0) + (has(self.interface) ? 1 : 0) + (has(self.nodes) ? 1 : 0) + (has(self.defaultGateway) && self.defaultGateway ? 1 : 0) == 1",message="exactly one of address, interface, defaultGateway and nodes must be given"
// +kubebuilder:validation:XValidation:rule="has(self.asn) != has(self.nodes)",message="asn must be given, except with nodes, which are in the AS that they are in"
// +kubebuilder:validation:XValidation:rule="!has(self.nodes) || !has(self.sourceAddress) && (!has(self.port) || self.port == 179)",message="port and sourceAddress cannot be used with nodes: nodes connect from InternalIP to InternalIP, at bgp.listenPort of the configuration"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultihop) || !has(self.gtsm)",message="ebgpMultihop and gtsm exclude each other: the one lets far senders in, the other keeps them out"
// +kubebuilder:validation:XValidation:rule="!has(self.address) || !has(self.sourceAddress) || !isIP(self.address) || !isIP(self.sourceAddress) || ip(self.address).family() == ip(self.sourceAddress).family()",message="address and sourceAddress must be of the same IP family"
// +kubebuilder:validation:XValidation:rule="!has(self.defaultGateway) || !self.defaultGateway || !has(self.ebgpMultihop)",message="ebgpMultihop cannot be used with defaultGateway: such a peer is always on the link"
// +kubebuilder:validation:XValidation:rule="!has(self.interface) || !has(self.ebgpMultihop)",message="ebgpMultihop cannot be used with interface: such a peer is always on the link"
// +kubebuilder:validation:XValidation:rule="!has(self.bfd) || (duration(self.bfd.transmitInterval).getMilliseconds() * self.bfd.detectMultiplier < (has(self.timers) && has(self.timers.holdTime) ? duration(self.timers.holdTime).getSeconds() : 90) * 1000 && duration(self.bfd.receiveInterval).getMilliseconds() * self.bfd.detectMultiplier < (has(self.timers) && has(self.timers.holdTime) ? duration(self.timers.holdTime).getSeconds() : 90) * 1000)",message="bfd must notice a loss sooner than timers.holdTime does (90s when not given): detectMultiplier times the longer interval must be less"
type BGPPeerSpec struct {
	// nodeSelector selects the nodes that peer with this router, or with nodes.
	// Without it, every node does.
	//
	// +optional
	NodeSelector *NodeSelector `json:"nodeSelector,omitempty"`

	// address of the router, IPv4 or IPv6.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address, such as 192.0.2.1 or 2001:db8::1"
	// +kubebuilder:validation:XValidation:rule="!isIP(self) || ip(self).isGlobalUnicast() || (ip(self).family() == 4 && ip(self).isLinkLocalUnicast())",message="must be the unicast address of a router; for an IPv6 link-local peer give interface instead"
	Address string `json:"address,omitempty"`

	// interface of the nodes on whose link the router is found by its router
	// advertisements (unnumbered peering).
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^/:\s]+$`
	Interface string `json:"interface,omitempty"`

	// defaultGateway makes the default gateway of each node its peer: that of
	// the IPv4 default route, if it has none that of the IPv6 one, or that of the
	// first of families that has one. The peer follows changes of the route.
	//
	// +optional
	DefaultGateway bool `json:"defaultGateway,omitempty"`

	// nodes makes nodes of the cluster the peers instead of a router: each that
	// it selects has a session with each that nodeSelector selects, between
	// their InternalIPs. Empty, with no nodeSelector, it is a full mesh.
	//
	// +optional
	Nodes *PeerNodes `json:"nodes,omitempty"`

	// port is the router's TCP port.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// asn is the router's AS number.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +kubebuilder:validation:XValidation:rule="!(self in [23456, 65535])",message="23456 and 65535 are reserved (RFC 6793, RFC 7300)"
	ASN int64 `json:"asn,omitempty"`

	// localASN is the AS number that the nodes use towards this router, and
	// with nodes both ends. Without it they use their own (bgp.asn of the
	// configuration, or the node label that bgp.asnNodeLabel names).
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967294
	// +kubebuilder:validation:XValidation:rule="!(self in [23456, 65535])",message="23456 and 65535 are reserved (RFC 6793, RFC 7300)"
	LocalASN *int64 `json:"localASN,omitempty"`

	// sourceAddress is the nodes' own address of the session. It only makes
	// sense where the selected node is one or the address is anycast.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address, such as 192.0.2.1 or 2001:db8::1"
	SourceAddress string `json:"sourceAddress,omitempty"`

	// passwordSecretRef names the Secret in namespace kube-system that holds
	// the session's password (TCP MD5, RFC 2385).
	//
	// +optional
	PasswordSecretRef *SecretKeyRef `json:"passwordSecretRef,omitempty"`

	// ebgpMultihop is the TTL of packets to a router of another AS that is not
	// on the link. Without it the TTL is 1.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	EBGPMultihop *int32 `json:"ebgpMultihop,omitempty"`

	// gtsm refuses packets from routers further away (RFC 5082). The router
	// must be configured for it too.
	//
	// +optional
	GTSM *GTSM `json:"gtsm,omitempty"`

	// timers of the session.
	//
	// +optional
	Timers *BGPTimers `json:"timers,omitempty"`

	// gracefulRestart of this session; without it the configuration's.
	//
	// +optional
	GracefulRestart *BGPGracefulRestart `json:"gracefulRestart,omitempty"`

	// bfd watches the path to the router (RFC 5880), such that its loss is noticed
	// within detectMultiplier times the interval and not only after holdTime. The
	// router must be configured for it too: while it has never answered, the
	// session does without.
	//
	// +optional
	BFD *BFD `json:"bfd,omitempty"`

	// families that are exchanged in this session. Without it both are,
	// whatever family the session itself runs over (RFC 8950).
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Families []Family `json:"families,omitempty"`

	// import says which of the router's routes are accepted.
	//
	// +optional
	Import *BGPImport `json:"import,omitempty"`

	// export says what this router gets of what the BGPAdvertisements for it
	// announce, and with which attributes. Without it, what they say.
	//
	// +optional
	Export *BGPExport `json:"export,omitempty"`
}

// PeerNodes are nodes as peers.
type PeerNodes struct {
	// selector selects the nodes. Without it, every node is one.
	//
	// +optional
	Selector *NodeSelector `json:"selector,omitempty"`

	// routeReflector makes the nodes that selector selects pass on to each other
	// node what they learn from the others (RFC 4456). All must be in one AS;
	// see localASN.
	//
	// +optional
	RouteReflector *RouteReflector `json:"routeReflector,omitempty"`
}

// RouteReflector is what route reflectors have in common.
type RouteReflector struct {
	// clusterID, in the form of an IPv4 address, of the reflectors and their
	// clients. Without it each reflector uses its BGP identifier, which is its
	// IPv4 address.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",message="must be in the form of an IPv4 address, such as 192.0.2.1"
	ClusterID string `json:"clusterID,omitempty"`
}

// SecretKeyRef names a key of a Secret in namespace kube-system.
type SecretKeyRef struct {
	// name of the Secret.
	//
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`

	// key within the Secret.
	//
	// +optional
	// +kubebuilder:default=password
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// GTSM is the generalized TTL security mechanism (RFC 5082).
type GTSM struct {
	// maxHops is how many hops away the router may be.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	MaxHops int32 `json:"maxHops,omitempty"`
}

// BGPTimers are the timers of a session (RFC 4271, section 10).
//
// +kubebuilder:validation:XValidation:rule="!has(self.holdTime) || (duration(self.holdTime) >= duration('3s') && duration(self.holdTime) <= duration('65535s'))",message="holdTime must be 3s to 65535s (RFC 4271)"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || duration(self.keepaliveTime).getSeconds() * 3 <= (has(self.holdTime) ? duration(self.holdTime).getSeconds() : 90)",message="keepaliveTime must be at most a third of holdTime (which is 90s when not given)"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || duration(self.keepaliveTime) >= duration('1s')",message="keepaliveTime must be at least 1s"
// +kubebuilder:validation:XValidation:rule="!has(self.connectRetryTime) || (duration(self.connectRetryTime) >= duration('1s') && duration(self.connectRetryTime) <= duration('65535s'))",message="connectRetryTime must be 1s to 65535s"
type BGPTimers struct {
	// holdTime is after how much silence the session is given up.
	// Without it, 90s. The lower of both sides' counts.
	//
	// +optional
	HoldTime Duration `json:"holdTime,omitempty"`

	// keepaliveTime is how often a sign of life is sent. Without it, a third
	// of holdTime.
	//
	// +optional
	KeepaliveTime Duration `json:"keepaliveTime,omitempty"`

	// connectRetryTime is how long to wait between attempts to connect.
	// Without it, 10s.
	//
	// +optional
	ConnectRetryTime Duration `json:"connectRetryTime,omitempty"`
}

// BFD is bidirectional forwarding detection in asynchronous mode: single hop (RFC
// 5881), or multihop (RFC 5883) with ebgpMultihop, with gtsm, and with a router of
// the same AS that is not on the link.
type BFD struct {
	// transmitInterval is how often the nodes send. The longer of it and of what the
	// router accepts counts.
	//
	// +optional
	// +kubebuilder:default="300ms"
	TransmitInterval Interval `json:"transmitInterval,omitempty"`

	// receiveInterval is how often the nodes accept packets. The longer of it and of
	// the router's own interval counts.
	//
	// +optional
	// +kubebuilder:default="300ms"
	ReceiveInterval Interval `json:"receiveInterval,omitempty"`

	// detectMultiplier is how many packets of a node the router may miss before it
	// takes the path for lost. How many the node may miss is what the router says.
	//
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier int32 `json:"detectMultiplier,omitempty"`
}

// BGPGracefulRestart is RFC 4724 for one session.
//
// +kubebuilder:validation:XValidation:rule="!has(self.restartTime) || (duration(self.restartTime) >= duration('1s') && duration(self.restartTime) <= duration('4095s'))",message="restartTime must be 1s to 4095s (RFC 4724)"
type BGPGracefulRestart struct {
	// enabled offers graceful restart to the router. Without it the
	// configuration decides.
	//
	// +optional
	Enabled *bool `json:"enabled,omitempty"`

	// restartTime is how long the router keeps a restarting node's routes.
	// Without it the configuration decides.
	//
	// +optional
	RestartTime Duration `json:"restartTime,omitempty"`
}

// BGPImport says which routes of a router are accepted. The Pod CIDRs of the
// cluster's other nodes, and prefixes inside them, are unless deny has them.
type BGPImport struct {
	// allowDefaultRoute accepts 0.0.0.0/0 and ::/0.
	//
	// +optional
	AllowDefaultRoute bool `json:"allowDefaultRoute,omitempty"`

	// prefixes that are accepted as well.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Prefixes []PrefixMatch `json:"prefixes,omitempty"`

	// deny are prefixes that are refused, whatever accepts them: the Pod CIDRs
	// of other nodes, prefixes, or allowDefaultRoute. A node without another
	// path to Pods whose CIDR is refused does not reach them.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Deny []PrefixMatch `json:"deny,omitempty"`

	// localPreference of the accepted routes on the node: of routes of several
	// routers to the same prefix those with the highest are used. Without it,
	// what a router of the same AS sends, and 100 for other routers.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalPreference *int64 `json:"localPreference,omitempty"`

	// maxPrefixes is how many routes are accepted in each family; what comes
	// after is counted and left out, and the session stays.
	//
	// +optional
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxPrefixes int32 `json:"maxPrefixes,omitempty"`
}

// BGPExport says what a router gets of what BGPAdvertisements announce to it.
// Where both say something of an attribute, communities are added to theirs,
// and the other attributes here win.
type BGPExport struct {
	// prefixes that are announced, of those that BGPAdvertisements announce.
	// Without it, all. With it nothing else is: an IP family without an entry
	// is not announced at all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Prefixes []PrefixMatch `json:"prefixes,omitempty"`

	// communities that are added to those of the BGPAdvertisements.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Communities []Community `json:"communities,omitempty"`

	// localPreference of the routes instead of what the BGPAdvertisements say.
	// It is sent only if the router is of the same AS.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalPreference *int64 `json:"localPreference,omitempty"`

	// med, the multi-exit discriminator of the routes, instead of what the
	// BGPAdvertisements say.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`

	// asPathPrepend is how often the AS number of the node (localASN, if it is
	// given) is added to the AS path, besides the once that it always is,
	// instead of what the BGPAdvertisements say; 0 is not at all. Nothing is
	// added if the router is of the same AS.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	ASPathPrepend *int32 `json:"asPathPrepend,omitempty"`
}

// PrefixMatch matches prefixes inside a CIDR. Without ge and le it matches the
// CIDR itself only.
//
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || !has(self.ge) || (self.ge >= cidr(self.cidr).prefixLength() && self.ge <= (cidr(self.cidr).ip().family() == 4 ? 32 : 128))",message="ge must be at least the CIDR's own length and at most 32 (IPv4) or 128 (IPv6)"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || !has(self.le) || (self.le >= cidr(self.cidr).prefixLength() && self.le <= (cidr(self.cidr).ip().family() == 4 ? 32 : 128))",message="le must be at least the CIDR's own length and at most 32 (IPv4) or 128 (IPv6)"
// +kubebuilder:validation:XValidation:rule="!has(self.ge) || !has(self.le) || self.ge <= self.le",message="ge must not be above le"
type PrefixMatch struct {
	// cidr that contains the prefix.
	//
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a CIDR, such as 192.0.2.0/24 or 2001:db8::/32"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="must be a network without host bits"
	CIDR string `json:"cidr"`

	// ge is the least length of the prefix; without le it has no upper bound.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	GE *int32 `json:"ge,omitempty"`

	// le is the greatest length of the prefix; without ge it has the CIDR's
	// length as its lower bound.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	LE *int32 `json:"le,omitempty"`
}

// BGPPeerStatus sums up the sessions of all nodes with the router.
type BGPPeerStatus struct {
	// ready is how many of the selected nodes have an established session,
	// such as 2/3.
	//
	// +optional
	Ready string `json:"ready,omitempty"`

	// conditions: Ready says whether every selected node has an established
	// session, and if not, what each problem is and on which nodes.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

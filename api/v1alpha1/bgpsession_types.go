// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BGPSession is what a node's agent reports of its session with a BGPPeer. It
// is named NODE.PEER, or NODE.PEER.OTHER where the peer is the node OTHER, belongs to the Node and is written by that agent alone.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=waymark
// +kubebuilder:selectablefield:JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Peer",type=string,JSONPath=`.status.peer`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.address`
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.status.asn`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.since`
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.status.bfd.state`
// +kubebuilder:printcolumn:name="Received",type=integer,JSONPath=`.status.received`
// +kubebuilder:printcolumn:name="Advertised",type=integer,JSONPath=`.status.advertised`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.lastError`
type BGPSession struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// There is no spec and so no status subresource: the object is a report.
	Status BGPSessionStatus `json:"status"`
}

// BGPSessionList is a list of BGPSessions.
//
// +kubebuilder:object:root=true
type BGPSessionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPSession `json:"items"`
}

// SessionState is the state of a session: those of RFC 4271, section 8.2.2, or
// Invalid where the agent could not configure the session at all.
//
// +kubebuilder:validation:Enum=Invalid;Idle;Connect;Active;OpenSent;OpenConfirm;Established
type SessionState string

// The states of a session.
const (
	SessionInvalid     SessionState = "Invalid"
	SessionIdle        SessionState = "Idle"
	SessionConnect     SessionState = "Connect"
	SessionActive      SessionState = "Active"
	SessionOpenSent    SessionState = "OpenSent"
	SessionOpenConfirm SessionState = "OpenConfirm"
	SessionEstablished SessionState = "Established"
)

// BGPSessionStatus is the state of a session as its node sees it.
type BGPSessionStatus struct {
	// node that reports.
	Node string `json:"node"`

	// peer is the name of the BGPPeer.
	Peer string `json:"peer"`

	// peerNode is the node that the session is with; empty: a router.
	//
	// +optional
	PeerNode string `json:"peerNode,omitempty"`

	// address of the router.
	//
	// +optional
	Address string `json:"address,omitempty"`

	// asn of the router.
	//
	// +optional
	ASN int64 `json:"asn,omitempty"`

	// localASN that the node uses towards the router.
	//
	// +optional
	LocalASN int64 `json:"localASN,omitempty"`

	// state of the session.
	State SessionState `json:"state"`

	// since when it is in this state.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// received is how many prefixes the router announced.
	Received int64 `json:"received"`

	// accepted is how many of them the import filter let through.
	Accepted int64 `json:"accepted"`

	// advertised is how many prefixes the node announced to the router.
	Advertised int64 `json:"advertised"`

	// lastError in words; empty while the session is well.
	//
	// +optional
	LastError string `json:"lastError,omitempty"`

	// bfd of the path to the router, if the BGPPeer asks for it. It begins when the
	// BGP session comes up for the first time.
	//
	// +optional
	BFD *BFDStatus `json:"bfd,omitempty"`

	// conditions: Ready, and Filtered when routes of the router were refused
	// or cut off at maxPrefixes.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BFDState is the state of a BFD session (RFC 5880, section 4.1).
//
// +kubebuilder:validation:Enum=AdminDown;Down;Init;Up
type BFDState string

// BFDStatus is what BFD says of the path to a router.
type BFDStatus struct {
	// state of the session. While it was never Up, BGP does without it.
	State BFDState `json:"state"`

	// since when it is in this state.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// remoteState is what the router said last. AdminDown says that BFD was
	// switched off there on purpose, which is no loss of the path.
	//
	// +optional
	RemoteState BFDState `json:"remoteState,omitempty"`

	// diagnostic says in words why the path was last lost.
	//
	// +optional
	Diagnostic string `json:"diagnostic,omitempty"`

	// transmitInterval is the negotiated interval of the node's packets.
	//
	// +optional
	TransmitInterval string `json:"transmitInterval,omitempty"`

	// detectionTime is how long the router may be silent.
	//
	// +optional
	DetectionTime string `json:"detectionTime,omitempty"`

	// routesSuspended is true while the router's routes are not used, because the
	// path to it was lost and has not come back, whatever BGP says.
	//
	// +optional
	RoutesSuspended bool `json:"routesSuspended,omitempty"`

	// error says in words why packets cannot be sent or received.
	//
	// +optional
	Error string `json:"error,omitempty"`
}

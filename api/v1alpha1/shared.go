// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Family is an IP family.
//
// +kubebuilder:validation:Enum=ipv4;ipv6
type Family string

// The IP families.
const (
	FamilyIPv4 Family = "ipv4"
	FamilyIPv6 Family = "ipv6"
)

// Duration is a time in whole seconds, in the form of 90s, 5m or 1h30m.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=12
// +kubebuilder:validation:Pattern=`^([0-9]+h)?([0-9]+m)?([0-9]+s)?$`
type Duration string

// Interval is a time between packets, in the form of 50ms, 1s or 1s500ms.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=10
// +kubebuilder:validation:Pattern=`^([0-9]+s)?([0-9]+ms)?$`
// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('50ms') && duration(self) <= duration('10s')",message="must be 50ms to 10s"
type Interval string

// NodeSelector selects nodes by their labels, all terms together. It is the
// LabelSelector of Kubernetes with its rules stated in the schema. An empty
// selector selects every node.
type NodeSelector struct {
	// matchLabels are labels that a node must have.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	MatchLabels map[string]string `json:"matchLabels,omitempty"`

	// matchExpressions are conditions on labels that a node must meet.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MatchExpressions []NodeSelectorRequirement `json:"matchExpressions,omitempty"`
}

// NodeSelectorRequirement is a condition on one label.
//
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",message="values must be given with In and NotIn, and only there"
type NodeSelectorRequirement struct {
	// key of the label.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	Key string `json:"key"`

	// operator relates the label to the values.
	Operator NodeSelectorOperator `json:"operator"`

	// values of the label that In and NotIn speak of.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=63
	Values []string `json:"values,omitempty"`
}

// NodeSelectorOperator relates a label to values.
//
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type NodeSelectorOperator string

// ConditionReady of a BGPPeer: every selected node has an established session.
// Of a BGPSession: the session is established.
const ConditionReady = "Ready"

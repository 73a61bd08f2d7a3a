// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 owns the custom resources of group waymark.io: BGPPeer and
// BGPAdvertisement, which people write, BGPSession and NodePaths, which each
// node's agent writes about its own sessions and its paths to the others, and
// NetworkRollout, by which the controller leads all nodes through a change of how
// traffic travels. All are cluster-scoped.
//
// The markers are the contract with `kubectl apply`: whatever can be known to
// be wrong from one object alone is refused at admission, by schema and CEL,
// with a message that says what is allowed. What needs more than the object (a
// missing Secret, a node's own AS number) becomes a condition in its status.
//
// The deep copies and the CustomResourceDefinitions under manifests/base/crds
// are generated from this package by tools/generate.sh. Only internal/kube
// reads and writes these types; it hands on values of package routing.
//
// +kubebuilder:object:generate=true
// +groupName=waymark.io
package v1alpha1

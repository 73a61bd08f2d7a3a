// SPDX-License-Identifier: Apache-2.0

// Package policy holds what network policy means in Waymark's own terms: what
// the controller computes, what it sends to a node, and what the node enforces.
//
// The computation (package policy/compute) turns Kubernetes' objects, already
// parsed, into the values of this package; package policy/stream carries them
// to the nodes; package policy/flows turns them into flows. A node's share is a
// State, and every change of it an Update that leads from one consistent State
// to the next.
//
// Four kinds of value refer to each other by name. A Policy has rules; a rule
// names the subjects that it protects and the groups of peers that it speaks
// of. A Group is a set of addresses. An Identity stands for all Pods with the
// same namespace, labels and named ports, and says which subjects it belongs
// to. A Pod of the node has an identity. Names of groups, subjects and
// identities are content hashes, so that every replica of the controller gives
// the same ones.
//
// Values are immutable once they were handed on. Nothing here has side effects.
package policy

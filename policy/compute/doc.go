// SPDX-License-Identifier: Apache-2.0

// Package compute turns Pods, Namespaces, Nodes and policies into what each
// node enforces, and computes again only what a change concerns.
//
// It owns the [Index]. The controller's one goroutine gives it every object
// that came, changed or went, as an intent of package policy, and calls
// [Index.Flush]: the [Changes] say for each node how its policy.State changes.
// [Index.View] is the State of a node that had none. Nothing here starts a
// goroutine, waits, or has a side effect.
//
// The work is done for identities, not for Pods: Pods of one namespace with the
// same labels and named ports share one. A selection is a set of namespaces
// and a selector of Pods in them; policies that say the same share it. It knows
// the identities that it selects and an identity knows the selections that it
// is in, so that a Pod that comes or goes touches exactly those. A new identity
// finds its selections, and a new selection its identities, through tables
// from labels.
//
// A selection has two roles. As a subject it says which Pods a policy is about;
// as a group it is a set of addresses. The nodes that need an object are
// counted: an identity counts its Pods on each node, a subject its identities,
// a group the subjects of the policies that name it. So it is known at every
// time which nodes need what, without a table of policies by nodes.
package compute

// SPDX-License-Identifier: Apache-2.0

// Package enforce brings together what the controller wants of the node (a
// policy.State, by Updates) and the interfaces that are attached to its switch,
// and keeps the flows of package policy/flows in the switch.
//
// Nothing is enforced before the first Update: until then the flows of an
// earlier run stay in the switch as they are, and the agent lets nothing be
// deleted there (Known). From then on every attached interface is under the
// policies of its Pod, or held: an interface whose Pod the State does not have
// is cut off from everybody but its node, because nobody knows what it may do.
//
// A new Pod waits in Await until its policies are known. While no controller can
// be reached, a Pod whose namespace, labels and named ports the State knows
// from another Pod may start as one of those (config.NetworkPolicy).
//
// What becomes of denied packets beside that they are dropped follows the
// settings (Configure); Report says what is enforced and what was counted.
//
// The agent wires it. All methods may be called from any goroutine; Run handles
// denied packets: it logs them and ends TCP connections that a policy has come
// to deny at both ends.
package enforce

// SPDX-License-Identifier: Apache-2.0

// Package flows turns what a node enforces (package policy) into flows of the
// tables that package pipeline keeps for policies. It has no side effects.
//
// An [Engine] holds the state, what it was told of the interfaces of the node's
// Pods, and indexes over both. Each [Change] gives a [Patch]: the flows to set
// and to remove, as little as leads from one to the other. The flows depend on
// the state and the interfaces alone, not on how they came to be, so after a
// restart the switch has them already.
//
// # How a rule becomes flows
//
// A rule is a conjunctive match (ovs-fields(7)) with up to three clauses: the
// Pod that is judged, the class of its peer, the port. Rules with the same
// content are one conjunction, whatever policies they come from. A peer's class
// is the set of groups that its address is in, and a second one is the set of
// lists of address blocks that hold it. So a Pod's new address is one flow that
// gives it a class, and a class is one clause of each conjunction, however many
// addresses have it.
//
// Numbers of conjunctions and classes are hashes of their content. Of two with
// the same hash the one whose content sorts first keeps it.
//
// # Owners
//
// The flows of an interface have an owner of their own, so do the addresses, the
// blocks, and each table of rules. A flow that the switch refuses holds up the
// changes of its owner.
//
// An Engine is used by one goroutine at a time.
package flows

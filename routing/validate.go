// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// ProblemReason is the machine-readable kind of a Problem, fit for the reason
// of a node condition or event.
type ProblemReason string

// The kinds of problem.
const (
	ProblemNoPodCIDR       ProblemReason = "NoPodCIDR"
	ProblemFamilyMissing   ProblemReason = "PodCIDRFamilyMissing"
	ProblemInvalidPodCIDR  ProblemReason = "PodCIDRInvalid"
	ProblemDuplicateFamily ProblemReason = "PodCIDRDuplicateFamily"
	ProblemOverlapsNode    ProblemReason = "PodCIDROverlapsNode"
	ProblemOverlapsNetwork ProblemReason = "PodCIDROverlapsNetwork"
	ProblemAggregate       ProblemReason = "AggregateOverlapsNetwork"
)

// Problem is something wrong with a node's Pod CIDRs.
type Problem struct {
	Node    string
	Family  Family // 0: all
	Reason  ProblemReason
	Message string
}

// Validation is what Validate found: the nodes without what is wrong.
type Validation struct {
	Local    Node
	Remotes  []Node
	Problems []Problem
}

// Validate checks the Pod CIDRs of all nodes against each other, against all
// node addresses and against the networks of links, the local uplinks. A bad
// Pod CIDR is left out of the result, the node's other family stays. Of two
// nodes that claim the same addresses the older (then the one with the smaller
// name) keeps them, so that a new node cannot break one that runs.
func Validate(local Node, remotes []Node, links []Link) Validation {
	nodes := append([]Node{local}, remotes...)
	v := &validator{links: links, addresses: nodeAddresses(nodes)}
	for i := range nodes {
		nodes[i].PodCIDRs = v.wellFormed(nodes[i])
	}
	v.families(nodes)
	order := slices.Clone(nodes)
	slices.SortFunc(order, func(a, b Node) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
	kept := map[string][]netip.Prefix{}
	for _, n := range order {
		kept[n.Name] = v.free(n)
	}
	for i := range nodes {
		nodes[i].PodCIDRs = kept[nodes[i].Name]
	}
	slices.SortFunc(v.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Family, b.Family), cmp.Compare(a.Reason, b.Reason))
	})
	return Validation{Local: nodes[0], Remotes: nodes[1:], Problems: v.problems}
}

type claim struct {
	node   string
	prefix netip.Prefix
}

// validator compares each network only with its neighbours in order: the plan
// is made again at every change in a cluster of thousands of nodes.
type validator struct {
	links []Link
	// addresses of all nodes as host prefixes, in order.
	addresses []claim
	// claims are the networks that are taken, in order. No two overlap.
	claims   []claim
	problems []Problem
}

func compareClaims(a, b claim) int { return ComparePrefix(a.prefix, b.prefix) }

func nodeAddresses(nodes []Node) []claim {
	var out []claim
	for _, n := range nodes {
		for _, a := range n.Addresses {
			a = a.Unmap()
			out = append(out, claim{n.Name, netip.PrefixFrom(a, a.BitLen())})
		}
	}
	slices.SortFunc(out, compareClaims)
	return out
}

func (v *validator) report(node string, f Family, r ProblemReason, format string, args ...any) {
	v.problems = append(v.problems, Problem{Node: node, Family: f, Reason: r, Message: fmt.Sprintf(format, args...)})
}

// leastHostBits leave room for network, gateway, Service address, broadcast and Pods.
const leastHostBits = 3

// wellFormed drops networks that cannot hold Pods and all but the first of a family.
func (v *validator) wellFormed(n Node) []netip.Prefix {
	var out []netip.Prefix
	have := map[Family]netip.Prefix{}
	for _, p := range n.PodCIDRs {
		p = p.Masked()
		f := FamilyOf(p.Addr())
		switch {
		case !validPrefix(p) || p.Bits() == 0 || p.Addr().BitLen()-p.Bits() < leastHostBits:
			v.report(n.Name, f, ProblemInvalidPodCIDR, "Pod CIDR %s of node %s is not a unicast network of at least 8 addresses", p, n.Name)
		case have[f].IsValid():
			v.report(n.Name, f, ProblemDuplicateFamily, "node %s has more than one %s Pod CIDR: %s is used, %s is not", n.Name, f, have[f], p)
		default:
			have[f] = p
			out = append(out, p)
		}
	}
	return out
}

// families reports nodes that lack a family which other nodes have.
func (v *validator) families(nodes []Node) {
	used := map[Family]bool{}
	for _, n := range nodes {
		for _, p := range n.PodCIDRs {
			used[FamilyOf(p.Addr())] = true
		}
	}
	for _, n := range nodes {
		if len(n.PodCIDRs) == 0 {
			if !slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Node == n.Name }) {
				v.report(n.Name, 0, ProblemNoPodCIDR, "node %s has no Pod CIDR: is the controller manager run with --allocate-node-cidrs?", n.Name)
			}
			continue
		}
		for _, f := range Families() {
			if used[f] && !n.PodCIDR(f).IsValid() {
				v.report(n.Name, f, ProblemFamilyMissing, "node %s has no %s Pod CIDR although other nodes have one", n.Name, f)
			}
		}
	}
}

// free returns the node's Pod CIDRs that collide with nothing, and claims them.
func (v *validator) free(n Node) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range n.PodCIDRs {
		if v.collides(n, p) {
			continue
		}
		c := claim{n.Name, p}
		at, _ := slices.BinarySearchFunc(v.claims, c, compareClaims)
		v.claims = slices.Insert(v.claims, at, c)
		out = append(out, p)
	}
	return out
}

func (v *validator) collides(n Node, p netip.Prefix) bool {
	f := FamilyOf(p.Addr())
	for _, l := range v.links {
		for _, q := range l.Prefixes {
			if p.Overlaps(q) {
				v.report(n.Name, f, ProblemOverlapsNetwork, "Pod CIDR %s of node %s overlaps network %s of interface %s", p, n.Name, q.Masked(), l.Name)
				return true
			}
		}
	}
	at, _ := slices.BinarySearchFunc(v.addresses, claim{prefix: p}, compareClaims)
	if at < len(v.addresses) && p.Overlaps(v.addresses[at].prefix) {
		a := v.addresses[at]
		v.report(n.Name, f, ProblemOverlapsNetwork, "Pod CIDR %s of node %s contains the address %s of node %s", p, n.Name, a.prefix.Addr(), a.node)
		return true
	}
	at, _ = slices.BinarySearchFunc(v.claims, claim{prefix: p}, compareClaims)
	for _, c := range v.claims[max(at-1, 0):min(at+1, len(v.claims))] {
		if p.Overlaps(c.prefix) {
			v.report(n.Name, f, ProblemOverlapsNode, "Pod CIDR %s of node %s overlaps Pod CIDR %s of node %s", p, n.Name, c.prefix, c.node)
			return true
		}
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// CheckAggregates returns those of a node's aggregates that hold no address of a
// node and no network that the node, the first of nodes, is attached to, and what
// is wrong with the others. The node drops what goes to addresses inside an
// aggregate that nobody has: that must never be the way to the nodes themselves.
func CheckAggregates(aggregates []netip.Prefix, nodes []Node, links []Link) (good []netip.Prefix, wrong []Problem) {
	for _, p := range aggregates {
		if why := holds(p, nodes, links); why != "" {
			wrong = append(wrong, Problem{
				Node: nodes[0].Name, Family: FamilyOf(p.Addr()), Reason: ProblemAggregate,
				Message: fmt.Sprintf("aggregate %s is not announced: it contains %s", p, why),
			})
			continue
		}
		good = append(good, p)
	}
	return good, wrong
}

// holds names what else than Pods is in an aggregate; empty: nothing.
func holds(p netip.Prefix, nodes []Node, links []Link) string {
	for _, l := range links {
		for _, q := range l.Prefixes {
			if p.Overlaps(q) {
				return fmt.Sprintf("network %s of interface %s", q.Masked(), l.Name)
			}
		}
	}
	for _, n := range nodes {
		for _, a := range n.Addresses {
			if p.Contains(a.Unmap()) {
				return fmt.Sprintf("address %s of node %s", a, n.Name)
			}
		}
	}
	return ""
}

// Summarize takes out what peers are not told because of an aggregate.
func Summarize(ads []Advertisement) []Advertisement {
	var out []Advertisement
	for _, a := range ads {
		if !a.Aggregate && len(a.Peers) > 0 {
			a.Peers = slices.DeleteFunc(slices.Clone(a.Peers), func(peer string) bool { return summarized(ads, a.Prefix, peer) })
			if len(a.Peers) == 0 { // which would be all
				continue
			}
		}
		out = append(out, a)
	}
	return out
}

func summarized(ads []Advertisement, p netip.Prefix, peer string) bool {
	return slices.ContainsFunc(ads, func(a Advertisement) bool {
		return a.SummaryOnly && a.Prefix.Bits() < p.Bits() && a.Prefix.Contains(p.Addr()) && slices.Contains(a.Peers, peer)
	})
}

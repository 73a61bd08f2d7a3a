// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

// Aggregates returns the aggregates that nodes announce, of all BGPAdvertisements.
func (s *Snapshot) Aggregates() []netip.Prefix {
	var out []netip.Prefix
	for i := range s.advertisements {
		for _, a := range s.advertisements[i].Spec.Aggregates {
			if p, err := aggregate(a); err == nil && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, routing.ComparePrefix)
	return out
}

func aggregate(a v1alpha1.Aggregate) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(a.CIDR)
	if err != nil || p != p.Masked() || p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("aggregates: %s: must be a CIDR without host bits, and not a default route", a.CIDR)
	}
	return p, nil
}

// contains says whether an aggregate holds all of a Pod CIDR and more.
func contains(aggregate, podCIDR netip.Prefix) bool {
	return aggregate.Bits() < podCIDR.Bits() && aggregate.Contains(podCIDR.Addr())
}

// aggregation gathers what peers are told of aggregates.
type aggregation struct {
	snapshot *Snapshot
	local    routing.Node
	told     map[netip.Prefix]map[string]summary
}

// summary is what a peer is told of an aggregate.
type summary struct {
	attributes routing.Attributes
	only       bool
}

func newAggregation(s *Snapshot, local routing.Node) *aggregation {
	return &aggregation{s, local, map[netip.Prefix]map[string]summary{}}
}

// add takes what a BGPAdvertisement says to those of the peers that it is for, and
// returns in words what of it cannot be.
func (g *aggregation) add(a advertisement, peers []routing.Peer) []string {
	var wrong []string
	say := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("BGPAdvertisement %s: ", a.name)+fmt.Sprintf(format, args...))
	}
	listed, covered := map[routing.Family]bool{}, map[routing.Family]bool{}
	for _, entry := range a.aggregates {
		prefix, err := aggregate(entry)
		if err != nil {
			say("%v", err)
			continue
		}
		family := routing.FamilyOf(prefix.Addr())
		listed[family] = true
		own := g.local.PodCIDR(family)
		switch {
		case prefix == own:
			covered[family] = true // announced anyway
		case own.IsValid() && contains(prefix, own):
			covered[family] = true
			g.tell(prefix, entry.SummaryOnly, peers, a)
		case !g.usedBy(prefix):
			say("aggregate %s covers no Pod CIDR of any node", prefix)
		}
	}
	for _, family := range routing.Families() {
		if own := g.local.PodCIDR(family); listed[family] && !covered[family] && own.IsValid() {
			say("no aggregate covers Pod CIDR %s of this node", own)
		}
	}
	return wrong
}

func (g *aggregation) tell(prefix netip.Prefix, only bool, peers []routing.Peer, a advertisement) {
	if g.told[prefix] == nil {
		g.told[prefix] = map[string]summary{}
	}
	for _, peer := range peers {
		if a.isFor(peer) {
			before := g.told[prefix][peer.Name]
			g.told[prefix][peer.Name] = summary{merge(before.attributes, a.Attributes), before.only || only}
		}
	}
}

// usedBy says whether a Pod CIDR of any node is covered.
func (g *aggregation) usedBy(prefix netip.Prefix) bool {
	return slices.ContainsFunc(g.snapshot.Nodes, func(n Node) bool {
		return slices.ContainsFunc(n.PodCIDRs, func(c netip.Prefix) bool { return prefix == c || contains(prefix, c) })
	})
}

// advertisements are those of the aggregates.
func (g *aggregation) advertisements() []routing.Advertisement {
	var out []routing.Advertisement
	for _, prefix := range slices.SortedFunc(maps.Keys(g.told), routing.ComparePrefix) {
		for _, group := range groups(g.told[prefix]) {
			said := g.told[prefix][group[0]]
			out = append(out, routing.Advertisement{
				Prefix: prefix, Aggregate: true, SummaryOnly: said.only, NextHops: slices.Clone(g.local.Addresses),
				Peers: group, Attributes: said.attributes,
			})
		}
	}
	return out
}

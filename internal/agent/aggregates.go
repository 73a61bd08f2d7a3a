// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/routing"
)

// aggregates are the networks that the node is to announce although only a part
// of each is its own, without those that cannot be.
func (w World) aggregates(valid routing.Validation) []netip.Prefix {
	good, _ := w.checkAggregates(valid)
	return good
}

// badAggregates says what is wrong with the others.
func (w World) badAggregates(valid routing.Validation) []routing.Problem {
	_, wrong := w.checkAggregates(valid)
	return wrong
}

func (w World) checkAggregates(valid routing.Validation) (good []netip.Prefix, wrong []routing.Problem) {
	var all []netip.Prefix
	for _, a := range w.Advertisements {
		own := valid.Local.PodCIDR(routing.FamilyOf(a.Prefix.Addr()))
		if a.Aggregate && own.IsValid() && !slices.Contains(all, a.Prefix) {
			all = append(all, a.Prefix)
		}
	}
	nodes := append([]routing.Node{valid.Local}, valid.Remotes...)
	return routing.CheckAggregates(all, nodes, w.Links)
}

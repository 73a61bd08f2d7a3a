// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/netip"
	"slices"
)

// endpoints are where connections to a Port can go, of one family: from anywhere
// in the cluster, and those of the node. Each is there once, in order.
type endpoints struct{ cluster, local []netip.AddrPort }

// choose sorts the endpoints of a family out for a node. Those that are ready
// serve; while there are none, those that are leaving but still serve do
// (KEP-1669), wherever they are: hints are about ready ones.
func (p Port) choose(n Node, is4, publishNotReady bool) endpoints {
	var ready, leaving, localReady, localLeaving []netip.AddrPort
	h := p.hintsFor(n, is4, publishNotReady)
	for _, e := range p.Endpoints {
		local := n.Name != "" && e.Node == n.Name
		switch {
		case e.Addr().Is4() != is4:
		case e.Ready || publishNotReady:
			if h.meant(e, n) {
				ready = append(ready, e.AddrPort)
			}
			if local {
				localReady = append(localReady, e.AddrPort)
			}
		case e.Serving && e.Terminating:
			leaving = append(leaving, e.AddrPort)
			if local {
				localLeaving = append(localLeaving, e.AddrPort)
			}
		}
	}
	return endpoints{cluster: firstOf(ready, leaving), local: firstOf(localReady, localLeaving)}
}

// firstOf returns the first list that is not empty, in order and each once.
func firstOf(lists ...[]netip.AddrPort) []netip.AddrPort {
	for _, l := range lists {
		if len(l) > 0 {
			slices.SortFunc(l, netip.AddrPort.Compare)
			return slices.Clone(slices.Compact(l)) // without room for more: it is kept
		}
	}
	return nil
}

// hints says which hints of endpoints count.
type hints uint8

const (
	noHints hints = iota
	zoneHints
	nodeHints
)

// hintsFor says which hints count at a node: those for nodes before those for
// zones, and only if every ready endpoint has some and at least one is for the
// node. Else all endpoints serve (KEP-2433, KEP-3015).
func (p Port) hintsFor(n Node, is4, publishNotReady bool) hints {
	allNode, allZone, any, forNode, forZone := true, true, false, false, false
	for _, e := range p.Endpoints {
		if e.Addr().Is4() != is4 || !e.Ready && !publishNotReady {
			continue
		}
		any = true
		allNode = allNode && len(e.ForNodes) > 0
		allZone = allZone && len(e.ForZones) > 0
		forNode = forNode || n.Name != "" && slices.Contains(e.ForNodes, n.Name)
		forZone = forZone || n.Zone != "" && slices.Contains(e.ForZones, n.Zone)
	}
	switch {
	case any && allNode && forNode:
		return nodeHints
	case any && allZone && forZone:
		return zoneHints
	}
	return noHints
}

// meant reports whether an endpoint is meant for a node.
func (h hints) meant(e Endpoint, n Node) bool {
	switch h {
	case nodeHints:
		return slices.Contains(e.ForNodes, n.Name)
	case zoneHints:
		return slices.Contains(e.ForZones, n.Zone)
	}
	return true
}

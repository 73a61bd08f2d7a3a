// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// ReceivedRoute is one route as one peer announced it.
type ReceivedRoute struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	// Peer is the name of the peer, PeerID its BGP identifier.
	Peer   string
	PeerID netip.Addr
	// External is true when the peer is in another AS.
	External  bool
	LocalPref uint32
	// PathLength is the length of the AS path, a set counting one (RFC 4271, 9.1.2.2).
	PathLength int
	// FirstAS is the neighbouring AS, whose routes alone compare by MED.
	FirstAS uint32
	// OwnAS is true when our own AS is in the path.
	OwnAS  bool
	Origin uint8
	MED    uint32
}

// Import filters what one peer announced, gives it the rule's local preference
// if there is one, and applies the peer's bound to each family: of more
// accepted prefixes than that, the first in prefix order are kept, whatever the
// order in which they came. It returns what is used, sorted, and counts the
// rest by reason and family.
func Import(routes []ReceivedRoute, f *ImportFilter, rule ImportRule) ([]ReceivedRoute, map[Family]map[FilterReason]int) {
	filtered := map[Family]map[FilterReason]int{}
	count := func(fam Family, why FilterReason) {
		if filtered[fam] == nil {
			filtered[fam] = map[FilterReason]int{}
		}
		filtered[fam][why]++
	}
	used := map[Family][]ReceivedRoute{}
	for _, r := range routes {
		fam := FamilyOf(r.Prefix.Addr())
		if ok, why := f.Accept(r, rule); !ok {
			count(fam, why)
			continue
		}
		if rule.LocalPref != 0 {
			r.LocalPref = rule.LocalPref
		}
		used[fam] = append(used[fam], r)
	}
	var out []ReceivedRoute
	for _, fam := range Families() {
		kept := used[fam]
		slices.SortFunc(kept, func(a, b ReceivedRoute) int {
			return cmp.Or(ComparePrefix(a.Prefix, b.Prefix), compareIdentity(a, b))
		})
		for len(kept) > rule.Max() {
			count(fam, FilterMaxPrefixes)
			kept = kept[:len(kept)-1]
		}
		out = append(out, kept...)
	}
	return out, filtered
}

// SelectRoutes picks for every prefix the best route and those that are as
// good (RFC 4271, 9.1.2.2, up to the comparison of identifiers), at most
// maximumPaths next hops, and returns them sorted by prefix.
func SelectRoutes(routes []ReceivedRoute, maximumPaths int) []LearnedRoute {
	sorted := slices.Clone(routes)
	slices.SortFunc(sorted, func(a, b ReceivedRoute) int {
		return cmp.Or(ComparePrefix(a.Prefix, b.Prefix), comparePreference(a, b), compareIdentity(a, b))
	})
	var out []LearnedRoute
	for start := 0; start < len(sorted); {
		end := start + 1
		for end < len(sorted) && sorted[end].Prefix == sorted[start].Prefix {
			end++
		}
		out = append(out, merge(compareMED(sorted[start:end]), max(maximumPaths, 1)))
		start = end
	}
	return out
}

// comparePreference orders by everything but MED, better first.
func comparePreference(a, b ReceivedRoute) int {
	external := func(r ReceivedRoute) int {
		if r.External {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(b.LocalPref, a.LocalPref),
		cmp.Compare(a.PathLength, b.PathLength),
		cmp.Compare(a.Origin, b.Origin),
		cmp.Compare(external(a), external(b)),
	)
}

func compareIdentity(a, b ReceivedRoute) int {
	return cmp.Or(a.PeerID.Compare(b.PeerID), cmp.Compare(a.Peer, b.Peer), a.NextHop.Compare(b.NextHop))
}

// compareMED returns the routes as good as the first, without those that
// another one from the same neighbouring AS beats by MED.
func compareMED(routes []ReceivedRoute) []ReceivedRoute {
	lowest := map[uint32]uint32{}
	var equal []ReceivedRoute
	for _, r := range routes {
		if comparePreference(routes[0], r) != 0 {
			break
		}
		if m, ok := lowest[r.FirstAS]; !ok || r.MED < m {
			lowest[r.FirstAS] = r.MED
		}
		equal = append(equal, r)
	}
	return slices.DeleteFunc(equal, func(r ReceivedRoute) bool { return r.MED > lowest[r.FirstAS] })
}

func merge(routes []ReceivedRoute, maximumPaths int) LearnedRoute {
	out := LearnedRoute{Prefix: routes[0].Prefix}
	for _, r := range routes {
		hop := NextHop{Addr: r.NextHop}
		if !slices.Contains(out.NextHops, hop) {
			if len(out.NextHops) == maximumPaths {
				continue
			}
			out.NextHops = append(out.NextHops, hop)
		}
		if !slices.Contains(out.Peers, r.Peer) {
			out.Peers = append(out.Peers, r.Peer)
		}
	}
	slices.SortFunc(out.NextHops, func(a, b NextHop) int { return a.Addr.Compare(b.Addr) })
	slices.Sort(out.Peers)
	return out
}

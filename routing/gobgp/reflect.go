// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v4/api"

	"github.com/waymark-net/waymark/routing"
)

const (
	// reflectName starts the names of what reflection needs in the policies.
	reflectName = "waymark-reflect"
	// reflectorDeferral is deferralTime of a route reflector: a client takes its
	// End-of-RIB for the end of all routes that are not there yet, so that all
	// clients must have had the time to come back.
	reflectorDeferral = 30
)

// reflects says whether the node is a route reflector.
func reflects(peers []routing.Peer) bool {
	return slices.ContainsFunc(peers, func(p routing.Peer) bool { return p.Reflection.Client })
}

// passesOn says whether routes of the peer are passed on, and to it.
func passesOn(p routing.Peer, reflector bool) bool { return reflector && p.Reflection.PassOn }

// reflection returns what a route reflector adds to the policies: of the peers
// whose routes are passed on, those inside the Pod CIDRs of other nodes come
// into the Loc-RIB, and go out as they are. Whom they go to beyond that is
// RFC 4456, which GoBGP follows. All is nothing for other nodes.
func reflection(scope routing.ImportScope, peers []routing.Peer) (sets []*api.DefinedSet, in, out []*api.Statement) {
	if !reflects(peers) {
		return nil, nil, nil
	}
	// GoBGP walks through the set at each route: it names the few peers that
	// are left out, not the many that are in.
	conditions := api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_INTERNAL}
	var others []string
	for _, p := range peers {
		if !passesOn(p, true) {
			others = append(others, netip.PrefixFrom(p.Address, p.Address.BitLen()).String())
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		sets = append(sets, &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: reflectName, List: others})
		conditions.NeighborSet = &api.MatchSet{Type: api.MatchSet_TYPE_INVERT, Name: reflectName}
	}
	accept := func(name, prefixes string) *api.Statement {
		s := &api.Statement{
			Name:       name,
			Conditions: &api.Conditions{RouteType: conditions.RouteType, NeighborSet: conditions.NeighborSet},
			Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
		}
		if prefixes != "" {
			s.Conditions.PrefixSet = &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: prefixes}
		}
		return s
	}
	for _, f := range routing.Families() {
		name := reflectName + "-" + f.String()
		set := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_PREFIX, Name: name}
		for _, p := range passable(scope, f) {
			set.Prefixes = append(set.Prefixes, &api.Prefix{
				IpPrefix: p.String(), MaskLengthMin: uint32(p.Bits()), MaskLengthMax: uint32(p.Addr().BitLen()),
			})
		}
		if len(set.Prefixes) == 0 {
			continue // an empty set would match everything
		}
		sets = append(sets, set)
		in = append(in, accept(name, name))
	}
	return sets, in, []*api.Statement{accept(reflectName, "")}
}

// passable are the Pod CIDRs of a family that other nodes have, in order.
func passable(scope routing.ImportScope, f routing.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range scope.ClusterCIDRs {
		own := slices.ContainsFunc(scope.Local.PodCIDRs, func(o netip.Prefix) bool { return o.Masked() == p.Masked() })
		if routing.FamilyOf(p.Addr()) == f && !own {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, routing.ComparePrefix)
	return slices.Compact(out)
}

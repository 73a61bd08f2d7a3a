// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// reflection is what a route reflector passes on; the zero value: nothing. Paths
// of other nodes have no tag in the Loc-RIB. They are told apart from our own by
// where they come from, whatever communities they have.
type reflection struct {
	// to says of each peer whether it is among those that routes are passed on
	// from and to.
	to map[netip.Addr]bool
	// prefixes are passed on, with what is inside them; in order.
	prefixes []netip.Prefix
}

// newReflection has the routes inside the Pod CIDRs of other nodes passed on, if
// the node is a route reflector.
func newReflection(scope routing.ImportScope, peers []routing.Peer) reflection {
	if !slices.ContainsFunc(peers, func(p routing.Peer) bool { return p.Reflection.Client }) {
		return reflection{}
	}
	r := reflection{to: make(map[netip.Addr]bool, len(peers)), prefixes: passable(scope)}
	for _, p := range peers {
		r.to[p.Address] = p.Reflection.PassOn
	}
	return r
}

func (r reflection) equal(o reflection) bool {
	return maps.Equal(r.to, o.to) && slices.Equal(r.prefixes, o.prefixes)
}

// refresh makes a change of what is passed on, which before was, count for
// established peers: it looks again at the routes of those of whom other routes
// are passed on, and sends everything again to those that are told of others or
// not any more. Of a thousand clients all would be sent thousands of routes else,
// with every node that joins. What is told of our own needs none, see ownPath.
func (i *instance) refresh(ctx context.Context, addrs []netip.Addr, before reflection) error {
	now := i.ann.reflection
	reset := func(a netip.Addr, d api.ResetPeerRequest_Direction) error {
		err := i.bgp.ResetPeer(ctx, &api.ResetPeerRequest{Address: a.String(), Soft: true, Direction: d})
		if err != nil {
			return fmt.Errorf("using the new policies with %s: %w", a, err)
		}
		return nil
	}
	var errs []error
	for _, a := range addrs {
		was, is := before.to[a], now.to[a]
		if was != is || is && !slices.Equal(before.prefixes, now.prefixes) {
			errs = append(errs, reset(a, api.ResetPeerRequest_DIRECTION_IN))
		}
		if was != is {
			errs = append(errs, reset(a, api.ResetPeerRequest_DIRECTION_OUT))
		}
	}
	return errors.Join(errs...)
}

// policy returns what a route reflector adds to the policies: of the peers
// whose routes are passed on, those inside the prefixes come into the Loc-RIB,
// and go out as they are. Whom they go to beyond that is RFC 4456, which GoBGP
// follows. All is nothing for other nodes.
func (r reflection) policy() (sets []*api.DefinedSet, in, out []*api.Statement) {
	if len(r.to) == 0 {
		return nil, nil, nil
	}
	// GoBGP walks through the set at each route: it names the few peers that
	// are left out, not the many that are in.
	conditions := api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_INTERNAL}
	var others []string
	for a, passOn := range r.to {
		if !passOn {
			others = append(others, netip.PrefixFrom(a, a.BitLen()).String())
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
		for _, p := range r.prefixes {
			if routing.FamilyOf(p.Addr()) != f {
				continue
			}
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

// passable are the Pod CIDRs that other nodes have, in order.
func passable(scope routing.ImportScope) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range scope.ClusterCIDRs {
		own := slices.ContainsFunc(scope.Local.PodCIDRs, func(o netip.Prefix) bool { return o.Masked() == p.Masked() })
		if !own {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, routing.ComparePrefix)
	return slices.Compact(out)
}

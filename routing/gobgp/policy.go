// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/osrg/gobgp/v4/api"

	"github.com/waymark-net/waymark/routing"
)

const (
	globalTable  = "global"
	importPolicy = "waymark-import"
	exportPolicy = "waymark-export"
)

// announcements is what the advertisements come down to: the paths of the
// Loc-RIB by prefix with their next hop, and the policies which say to whom
// and with which attributes they go.
type announcements struct {
	paths    map[netip.Prefix]netip.Addr
	policies *api.SetPoliciesRequest
	// to is what each peer is told.
	to map[netip.Addr]outgoing
	// passed are the prefixes that are passed on, with what is inside them.
	passed []netip.Prefix
}

// outgoing is what one peer is told.
type outgoing struct {
	own map[netip.Prefix]told
	// others says that it is told what other nodes announce.
	others bool
}

// announce renders advertisements for the given peers. Import is refused but
// for our own paths, export is refused but for what is advertised; a route
// reflector lets more through, see reflection.
func announce(config routing.BGPConfig, peers []routing.Peer) (announcements, error) {
	c := config.Speaker
	out := announcements{
		paths: map[netip.Prefix]netip.Addr{}, policies: &api.SetPoliciesRequest{}, to: map[netip.Addr]outgoing{},
	}
	sets, in, passOn := reflection(config.Scope, peers)
	reflector := reflects(peers)
	for _, p := range peers {
		out.to[p.Address] = outgoing{own: map[netip.Prefix]told{}, others: passesOn(p, reflector)}
	}
	if reflector {
		out.passed = append(passable(config.Scope, routing.IPv4), passable(config.Scope, routing.IPv6)...)
	}
	out.policies.DefinedSets = sets
	export := &api.Policy{Name: exportPolicy, Statements: passOn}
	var errs []error
	for _, a := range config.Advertisements {
		a.Prefix = a.Prefix.Masked()
		if err := checkAdvertisement(a); err != nil {
			errs = append(errs, fmt.Errorf("advertisement of %s: %w", a.Prefix, err))
			continue
		}
		usual := nextHop(a, false)
		for _, g := range receivers(c, a, peers) {
			out.paths[a.Prefix] = usual
			for _, p := range g.peers {
				if own := out.to[p.Address].own; own[a.Prefix].hop == (netip.Addr{}) { // the first counts
					own[a.Prefix] = g.told
				}
			}
			name := fmt.Sprintf("waymark-%d", len(export.Statements))
			out.policies.DefinedSets = append(out.policies.DefinedSets, definedSets(name, a.Prefix, g.peers)...)
			export.Statements = append(export.Statements, statement(name, g.told, usual))
		}
	}
	local := &api.Statement{
		Name:       "waymark-local",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}
	out.policies.Policies = []*api.Policy{
		{Name: importPolicy, Statements: append([]*api.Statement{local}, in...)},
		export,
	}
	return out, errors.Join(errs...)
}

func checkAdvertisement(a routing.Advertisement) error {
	if !a.Prefix.IsValid() {
		return errors.New("not a prefix")
	}
	if !nextHop(a, false).IsValid() {
		return fmt.Errorf("the node has no address that can be the next hop (it has %v)", a.NextHops)
	}
	return nil
}

// told is what a peer is told of a prefix.
type told struct {
	hop netip.Addr
	routing.Attributes
	// asn is what is prepended, 0: nothing.
	asn uint32
}

// group are peers that are told the same.
type group struct {
	told  told
	peers []routing.Peer
}

// receivers are the peers that an advertisement is for, in groups of those
// that are told the same.
func receivers(c routing.SpeakerConfig, a routing.Advertisement, peers []routing.Peer) []group {
	var out []group
	for _, p := range peers {
		if len(a.Peers) > 0 && !slices.Contains(a.Peers, p.Name) || !p.Export.Announces(a.Prefix) {
			continue
		}
		t := told{hop: nextHop(a, p.ExtendedNextHop), Attributes: p.Export.Apply(a.Attributes)}
		if local := localASN(c, p); t.Prepend > 0 && p.ASN != local {
			t.asn = local
		}
		i := slices.IndexFunc(out, func(g group) bool { return reflect.DeepEqual(g.told, t) })
		if i < 0 {
			i = len(out)
			out = append(out, group{told: t})
		}
		out[i].peers = append(out[i].peers, p)
	}
	return out
}

// definedSets are the sets a statement refers to by its own name. The
// neighbour set is never empty: an empty one would match everybody.
func definedSets(name string, prefix netip.Prefix, to []routing.Peer) []*api.DefinedSet {
	neighbours := make([]string, 0, len(to))
	for _, p := range to {
		neighbours = append(neighbours, netip.PrefixFrom(p.Address, p.Address.BitLen()).String())
	}
	slices.Sort(neighbours)
	return []*api.DefinedSet{
		{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: name, List: neighbours},
		{DefinedType: api.DefinedType_DEFINED_TYPE_PREFIX, Name: name, Prefixes: []*api.Prefix{{
			IpPrefix:      prefix.String(),
			MaskLengthMin: uint32(prefix.Bits()),
			MaskLengthMax: uint32(prefix.Bits()),
		}}},
	}
}

// statement tells the members of the sets of that name. usual is the next hop
// of the path in the Loc-RIB.
func statement(name string, t told, usual netip.Addr) *api.Statement {
	s := &api.Statement{
		Name: name,
		Conditions: &api.Conditions{
			PrefixSet:   &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name},
			NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name},
			RouteType:   api.Conditions_ROUTE_TYPE_LOCAL,
		},
		Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}
	if t.hop != usual {
		s.Actions.Nexthop = &api.NexthopAction{Address: t.hop.String()}
	}
	s.Actions.Community = communityAction(t.Communities, false)
	s.Actions.LargeCommunity = communityAction(t.Communities, true)
	if t.LocalPref != 0 {
		s.Actions.LocalPref = &api.LocalPrefAction{Value: t.LocalPref}
	}
	if t.MED != nil {
		s.Actions.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: int64(*t.MED)}
	}
	if t.asn != 0 {
		s.Actions.AsPrepend = &api.AsPrependAction{Asn: t.asn, Repeat: uint32(t.Prepend)}
	}
	return s
}

// communityAction adds either the large ones of the communities or the others.
func communityAction(communities []routing.Community, large bool) *api.CommunityAction {
	var texts []string
	for _, c := range communities {
		if c.Large == large {
			texts = append(texts, c.String())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return &api.CommunityAction{Type: api.CommunityAction_TYPE_ADD, Communities: texts}
}

// assignments bind the policies to the one table.
func assignments() []*api.PolicyAssignment {
	bind := func(d api.PolicyDirection, policy string) *api.PolicyAssignment {
		return &api.PolicyAssignment{
			Name:          globalTable,
			Direction:     d,
			Policies:      []*api.Policy{{Name: policy}},
			DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
		}
	}
	return []*api.PolicyAssignment{
		bind(api.PolicyDirection_POLICY_DIRECTION_IMPORT, importPolicy),
		bind(api.PolicyDirection_POLICY_DIRECTION_EXPORT, exportPolicy),
	}
}

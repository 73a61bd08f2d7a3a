// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

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
}

// announce renders advertisements for the given peers. Import is refused but
// for our own paths, export is refused but for what is advertised.
func announce(ads []routing.Advertisement, peers []routing.Peer) (announcements, error) {
	out := announcements{paths: map[netip.Prefix]netip.Addr{}, policies: &api.SetPoliciesRequest{}}
	export := &api.Policy{Name: exportPolicy}
	var errs []error
	for _, a := range ads {
		a.Prefix = a.Prefix.Masked()
		if err := checkAdvertisement(a); err != nil {
			errs = append(errs, fmt.Errorf("advertisement of %s: %w", a.Prefix, err))
			continue
		}
		usual := nextHop(a, false)
		for _, extended := range []bool{false, true} {
			hop := nextHop(a, extended)
			to := slices.DeleteFunc(receivers(a, peers), func(p routing.Peer) bool { return p.ExtendedNextHop != extended })
			if len(to) == 0 {
				continue
			}
			out.paths[a.Prefix] = usual
			name := fmt.Sprintf("waymark-%d", len(export.Statements))
			out.policies.DefinedSets = append(out.policies.DefinedSets, definedSets(name, a.Prefix, to)...)
			export.Statements = append(export.Statements, statement(name, a, hop, hop != usual))
		}
	}
	local := &api.Statement{
		Name:       "waymark-local",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}
	out.policies.Policies = []*api.Policy{
		{Name: importPolicy, Statements: []*api.Statement{local}},
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
	_, _, err := communities(a)
	return err
}

// wellKnown are the communities with names (RFC 1997, RFC 7999).
var wellKnown = map[string]string{
	"no-export":           "65535:65281",
	"no-advertise":        "65535:65282",
	"no-export-subconfed": "65535:65283",
	"blackhole":           "65535:666",
}

// communities parts the standard communities from the large ones.
func communities(a routing.Advertisement) (standard, large []string, err error) {
	var errs []error
	for _, c := range a.Communities {
		if named, ok := wellKnown[c]; ok {
			c = named
		}
		parts := strings.Split(c, ":")
		switch {
		case len(parts) == 2 && numbers(parts, 16):
			standard = append(standard, c)
		case len(parts) == 3 && numbers(parts, 32):
			large = append(large, c)
		default:
			errs = append(errs, fmt.Errorf("community %q is neither two numbers of 16 bits, three of 32 bits, nor a well-known name", c))
		}
	}
	return standard, large, errors.Join(errs...)
}

func numbers(parts []string, bits int) bool {
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, bits); err != nil {
			return false
		}
	}
	return true
}

func receivers(a routing.Advertisement, peers []routing.Peer) []routing.Peer {
	var out []routing.Peer
	for _, p := range peers {
		if len(a.Peers) == 0 || slices.Contains(a.Peers, p.Name) {
			out = append(out, p)
		}
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

func statement(name string, a routing.Advertisement, hop netip.Addr, setHop bool) *api.Statement {
	s := &api.Statement{
		Name: name,
		Conditions: &api.Conditions{
			PrefixSet:   &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name},
			NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name},
			RouteType:   api.Conditions_ROUTE_TYPE_LOCAL,
		},
		Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}
	if setHop {
		s.Actions.Nexthop = &api.NexthopAction{Address: hop.String()}
	}
	standard, large, _ := communities(a) // checked before
	if len(standard) > 0 {
		s.Actions.Community = &api.CommunityAction{Type: api.CommunityAction_TYPE_ADD, Communities: standard}
	}
	if len(large) > 0 {
		s.Actions.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_TYPE_ADD, Communities: large}
	}
	if a.LocalPref != 0 {
		s.Actions.LocalPref = &api.LocalPrefAction{Value: a.LocalPref}
	}
	return s
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

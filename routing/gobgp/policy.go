// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
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
// Loc-RIB by prefix, and the policies which say to whom and with which
// attributes they go.
type announcements struct {
	paths map[netip.Prefix]ownPath
	sets  []*api.DefinedSet
	// statements of the export policy, each with sets of its own name.
	statements []*api.Statement
	// reflection is of paths that are not our own, which have no tag.
	reflection reflection
}

// ownPath is a path of the Loc-RIB. Its only community there is a tag, which
// stands for what each peer is told, and which no peer sees. So the policy has
// statements for each tag and not for each prefix: thousands of prefixes cost no
// more than their paths, and are told anew by nothing but a change of the path.
type ownPath struct {
	hop netip.Addr
	tag uint32
	// shutdown has the local preference 0, which a policy cannot set.
	shutdown bool
}

// announce renders advertisements for the given peers: export is refused but for
// what is advertised, and what a route reflector passes on.
func announce(config routing.BGPConfig, peers []routing.Peer, tags *tags) (announcements, error) {
	out := announcements{
		paths:      make(map[netip.Prefix]ownPath, len(config.Advertisements)),
		reflection: newReflection(config.Scope, peers),
	}
	byPrefix := make(map[netip.Prefix][]routing.Advertisement, len(config.Advertisements))
	var errs []error
	for _, a := range config.Advertisements {
		a.Prefix = a.Prefix.Masked()
		if err := checkAdvertisement(a); err != nil {
			errs = append(errs, fmt.Errorf("advertisement of %s: %w", a.Prefix, err))
			continue
		}
		byPrefix[a.Prefix] = append(byPrefix[a.Prefix], a)
	}
	r := &renderer{config: config.Speaker, peers: peers, tags: tags, kinds: map[string]*ownPath{}}
	for _, prefix := range slices.SortedFunc(maps.Keys(byPrefix), netip.Prefix.Compare) {
		if path := r.path(prefix, byPrefix[prefix]); path != nil {
			out.paths[prefix] = *path
		}
	}
	out.sets, out.statements = r.sets, r.statements
	tags.keep(out.paths)
	return out, errors.Join(errs...)
}

// policies have import refused but for our own paths and those that are passed
// on, and export of these but to whom they are passed on.
func (a announcements) policies() *api.SetPoliciesRequest {
	local := &api.Statement{
		Name:       "waymark-local",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}
	sets, in, out := a.reflection.policy()
	return &api.SetPoliciesRequest{
		DefinedSets: slices.Concat(a.sets, sets),
		Policies: []*api.Policy{
			{Name: importPolicy, Statements: append([]*api.Statement{local}, in...)},
			{Name: exportPolicy, Statements: slices.Concat(out, a.statements)},
		},
	}
}

// samePolicies says whether both tell peers the same of the same tags, and pass
// the same on.
func (a announcements) samePolicies(b announcements) bool {
	return a.reflection.equal(b.reflection) &&
		slices.EqualFunc(a.statements, b.statements, func(s, o *api.Statement) bool { return s.Name == o.Name })
}

// withPoliciesOf also has the statements of another for tags of its own.
func (a announcements) withPoliciesOf(b announcements) announcements {
	has := map[string]bool{}
	for _, s := range a.statements {
		has[s.Name] = true
	}
	a.sets, a.statements = slices.Clone(a.sets), slices.Clone(a.statements)
	for _, s := range b.statements {
		if !has[s.Name] {
			a.statements = append(a.statements, s)
		}
	}
	for _, s := range b.sets {
		if !has[s.Name] {
			a.sets = append(a.sets, s)
		}
	}
	return a
}

// tags numbers what peers are told. A number means the same for as long as the
// server runs.
type tags struct {
	of   map[string]uint32
	last uint32
}

// firstTag keeps away from communities that GoBGP knows.
const firstTag = 1 << 16

func newTags() *tags { return &tags{of: map[string]uint32{}, last: firstTag} }

// tag returns the number of what is told, in one text.
func (t *tags) tag(told string) uint32 {
	n, known := t.of[told]
	if !known {
		t.last++
		n = t.last
		t.of[told] = n
	}
	return n
}

// keep forgets the numbers of what nobody is told.
func (t *tags) keep(paths map[netip.Prefix]ownPath) {
	used := map[uint32]bool{}
	for _, p := range paths {
		used[p.tag] = true
	}
	maps.DeleteFunc(t.of, func(_ string, n uint32) bool { return !used[n] })
}

// renderer makes paths, and the statements of their tags.
type renderer struct {
	config routing.SpeakerConfig
	peers  []routing.Peer
	tags   *tags
	// said are the different things that advertisements say beside the prefix, and
	// kinds the paths by family, what is said, and who hears it: most are like
	// another.
	said  []routing.Advertisement
	kinds map[string]*ownPath

	sets       []*api.DefinedSet
	statements []*api.Statement
}

// path returns the path of a prefix, nil if nobody is told of it.
func (r *renderer) path(prefix netip.Prefix, ads []routing.Advertisement) *ownPath {
	key := []byte{byte(routing.FamilyOf(prefix.Addr()))}
	for _, p := range r.peers {
		heard := byte(0)
		if p.Export.Announces(prefix) {
			heard = 1
		}
		key = append(key, heard)
	}
	for _, a := range ads {
		a.Prefix = netip.Prefix{}
		i := slices.IndexFunc(r.said, func(o routing.Advertisement) bool { return reflect.DeepEqual(o, a) })
		if i < 0 {
			i = len(r.said)
			r.said = append(r.said, a)
		}
		key = binary.AppendUvarint(key, uint64(i))
	}
	path, known := r.kinds[string(key)]
	if !known {
		path = r.kind(ads)
		r.kinds[string(key)] = path
	}
	return path
}

// kind makes the path of advertisements of one prefix and the statements of its
// tag, unless there are some.
func (r *renderer) kind(ads []routing.Advertisement) *ownPath {
	left := r.peers
	var groups []group
	for _, a := range ads {
		for _, g := range receivers(r.config, a, left) {
			groups = append(groups, g)
			left = slices.DeleteFunc(slices.Clone(left), func(p routing.Peer) bool {
				return slices.ContainsFunc(g.peers, func(o routing.Peer) bool { return o.Address == p.Address })
			})
		}
	}
	if len(groups) == 0 {
		return nil
	}
	path := &ownPath{
		hop:      nextHop(ads[0], false),
		shutdown: slices.ContainsFunc(groups, func(g group) bool { return g.told.GracefulShutdown }),
	}
	told := fmt.Sprint(path.hop, path.shutdown)
	for _, g := range groups {
		told += "\n" + g.String()
	}
	path.tag = r.tags.tag(told)
	for i, g := range groups {
		name := fmt.Sprintf("waymark-%d-%d", path.tag, i)
		if slices.ContainsFunc(r.statements, func(s *api.Statement) bool { return s.Name == name }) {
			break
		}
		r.sets = append(r.sets, definedSets(name, path.tag, g.peers)...)
		r.statements = append(r.statements, statement(name, g.told, *path))
	}
	return path
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

// String is the same for groups that are told the same, and no other.
func (g group) String() string {
	med := "none"
	if g.told.MED != nil {
		med = fmt.Sprint(*g.told.MED)
	}
	return fmt.Sprint(addressesOf(g.peers), g.told.hop, g.told.asn, g.told.Communities, g.told.LocalPref, med, g.told.Prepend, g.told.GracefulShutdown)
}

// addressesOf are in order.
func addressesOf(peers []routing.Peer) []string {
	out := make([]string, 0, len(peers))
	for _, p := range peers {
		out = append(out, netip.PrefixFrom(p.Address, p.Address.BitLen()).String())
	}
	slices.Sort(out)
	return out
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
func definedSets(name string, tag uint32, to []routing.Peer) []*api.DefinedSet {
	return []*api.DefinedSet{
		{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: name, List: addressesOf(to)},
		{DefinedType: api.DefinedType_DEFINED_TYPE_COMMUNITY, Name: name, List: []string{communityText(tag)}},
	}
}

func communityText(c uint32) string { return fmt.Sprintf("%d:%d", c>>16, c&0xffff) }

// statement tells the members of the neighbour set of that name of paths like one.
func statement(name string, t told, path ownPath) *api.Statement {
	s := &api.Statement{
		Name: name,
		Conditions: &api.Conditions{
			CommunitySet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name},
			NeighborSet:  &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name},
			RouteType:    api.Conditions_ROUTE_TYPE_LOCAL,
		},
		Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}
	if t.hop != path.hop {
		s.Actions.Nexthop = &api.NexthopAction{Address: t.hop.String()}
	}
	if t.LocalPref == 0 && path.shutdown && !t.GracefulShutdown {
		t.LocalPref = defaultLocalPref
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

// communityAction puts either the large ones of the communities or the others in
// place of what the path has: the tag, or nothing.
func communityAction(communities []routing.Community, large bool) *api.CommunityAction {
	var texts []string
	for _, c := range communities {
		if c.Large == large {
			texts = append(texts, c.String())
		}
	}
	if large && len(texts) == 0 {
		return nil
	}
	return &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE, Communities: texts}
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

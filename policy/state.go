// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"net/netip"
	"slices"
)

// GroupUpdate is a change of a group's addresses.
type GroupUpdate struct {
	ID ID
	// Whole says that Added is all that the group has; the group may be new.
	// Otherwise the group exists, Added were not in it and Removed were.
	Whole          bool
	Added, Removed []netip.Addr
}

// Update leads from one State to the next. What it names is new or replaces
// what had the name; what is not named stays. No name is in two of its lists.
type Update struct {
	Policies       []*Policy
	GonePolicies   []Key
	Groups         []GroupUpdate
	GoneGroups     []ID
	Identities     []*Identity
	GoneIdentities []ID
	Pods           []Pod
	GonePods       []PodKey
}

// Empty reports whether the update changes nothing.
func (u *Update) Empty() bool {
	return len(u.Policies) == 0 && len(u.GonePolicies) == 0 && len(u.Groups) == 0 && len(u.GoneGroups) == 0 &&
		len(u.Identities) == 0 && len(u.GoneIdentities) == 0 && len(u.Pods) == 0 && len(u.GonePods) == 0
}

// Addresses is a set of addresses.
type Addresses map[netip.Addr]struct{}

// State is all that a node enforces. Whatever a part of it names is in it.
type State struct {
	Policies   map[Key]*Policy
	Groups     map[ID]Addresses
	Identities map[ID]*Identity
	Pods       map[PodKey]Pod
}

// NewState returns a State without policies.
func NewState() *State {
	return &State{
		Policies: map[Key]*Policy{}, Groups: map[ID]Addresses{},
		Identities: map[ID]*Identity{}, Pods: map[PodKey]Pod{},
	}
}

// Apply changes the State in place.
func (s *State) Apply(u *Update) {
	for _, p := range u.Policies {
		s.Policies[p.Key] = p
	}
	for _, k := range u.GonePolicies {
		delete(s.Policies, k)
	}
	for _, g := range u.Groups {
		set := s.Groups[g.ID]
		if g.Whole || set == nil {
			set = make(Addresses, len(g.Added))
			s.Groups[g.ID] = set
		}
		for _, a := range g.Removed {
			delete(set, a)
		}
		for _, a := range g.Added {
			set[a] = struct{}{}
		}
	}
	for _, id := range u.GoneGroups {
		delete(s.Groups, id)
	}
	for _, i := range u.Identities {
		s.Identities[i.ID] = i
	}
	for _, id := range u.GoneIdentities {
		delete(s.Identities, id)
	}
	for _, p := range u.Pods {
		s.Pods[p.Key] = p
	}
	for _, k := range u.GonePods {
		delete(s.Pods, k)
	}
}

// Clone returns a State that changes on its own. Policies and identities are
// shared, as they never change.
func (s *State) Clone() *State {
	c := &State{
		Policies: maps.Clone(s.Policies), Groups: make(map[ID]Addresses, len(s.Groups)),
		Identities: maps.Clone(s.Identities), Pods: maps.Clone(s.Pods),
	}
	for id, set := range s.Groups {
		c.Groups[id] = maps.Clone(set)
	}
	return c
}

// Whole returns the Update that leads to the State from none.
func (s *State) Whole() *Update {
	u := &Update{
		Policies:   slices.Collect(maps.Values(s.Policies)),
		Identities: slices.Collect(maps.Values(s.Identities)),
		Pods:       slices.Collect(maps.Values(s.Pods)),
	}
	for id, set := range s.Groups {
		u.Groups = append(u.Groups, GroupUpdate{
			ID: id, Whole: true, Added: slices.AppendSeq(make([]netip.Addr, 0, len(set)), maps.Keys(set)),
		})
	}
	return u
}

// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// selection returns that of a set of Pods.
func (x *Index) selection(set *policy.PodSet) *selection {
	sc := x.scope(set)
	if s, ok := sc.selections.find(set.Pods.String()); ok {
		return s
	}
	s := &selection{scope: sc, pods: set.Pods}
	var room [256]byte
	s.id = selectionID(append(append(sc.appendText(room[:0]), " pods "...), set.Pods.String()...))
	sc.selections.add(s)
	join := func(i *identity) { x.join(i, s) }
	if sc.one != nil {
		sc.one.identities.match(s.pods, join)
	}
	for n := range sc.spaces {
		n.identities.match(s.pods, join)
	}
	x.let(s) // until somebody holds it
	return s
}

func selectionID(text []byte) policy.ID { return policy.HashID("selection", text) }

// has reports whether an identity is in the selection.
func (s *selection) has(i *identity) bool {
	return i != nil && slices.ContainsFunc(i.in, func(m membership) bool { return m.selection == s })
}

// join puts an identity into a selection.
func (x *Index) join(i *identity, s *selection) {
	if s.group != nil {
		x.joinGroup(s.group, i)
	}
	i.in = append(i.in, membership{s, int32(len(s.members))})
	s.members = append(s.members, member{i, int32(len(i.in) - 1)})
	if s.subject != nil {
		i.stale = true
		x.touchIdentity(i)
		i.nodes.each(func(n nodeID) { x.incSubject(s.subject, n) })
	}
	for _, u := range s.uses {
		x.joinUse(i, u)
	}
}

// leave takes an identity out of the selection that it is in at a place, and
// out of those that depend on that.
func (x *Index) leave(i *identity, at int) {
	m := i.in[at]
	s := m.selection
	last := len(i.in) - 1
	if at != last {
		i.in[at] = i.in[last]
		i.in[at].selection.members[i.in[at].at].at = int32(at)
	}
	i.in[last] = membership{}
	i.in = i.in[:last]
	last = len(s.members) - 1
	if int(m.at) != last {
		s.members[m.at] = s.members[last]
		s.members[m.at].identity.in[s.members[m.at].at].at = m.at
	}
	s.members[last] = member{}
	s.members = s.members[:last]

	if s.group != nil {
		x.leaveGroup(s.group, i)
	}
	if s.subject != nil {
		i.stale = true
		x.touchIdentity(i)
		i.nodes.each(func(n nodeID) { x.decSubject(s.subject, n) })
	}
	if s.use != nil && len(s.members) == 0 {
		x.touchUse(s.use) // a number fewer
		x.let(s)
	}
	for _, u := range s.uses {
		for _, n := range u.numbers {
			if at := slices.IndexFunc(i.in, func(m membership) bool { return m.selection == n.selection }); at >= 0 {
				x.leave(i, at)
			}
		}
	}
}

// use returns the use of a port's name among the Pods of a selection.
func (x *Index) use(s *selection, name string, protocol policy.Protocol) *portUse {
	for _, u := range s.uses {
		if u.name == name && u.protocol == protocol {
			return u
		}
	}
	u := &portUse{selection: s, name: name, protocol: protocol, policies: map[*policyRecord]struct{}{}}
	s.uses = append(s.uses, u)
	for at := range s.members {
		x.joinUse(s.members[at].identity, u)
	}
	return u
}

// joinUse puts an identity among those that have the port's number.
func (x *Index) joinUse(i *identity, u *portUse) {
	for _, p := range i.ports {
		if p.Name != u.name || u.protocol != 0 && p.Protocol != u.protocol {
			continue
		}
		at, found := slices.BinarySearchFunc(u.numbers, p, func(n *portNumber, p policy.NamedPort) int {
			return cmp.Or(cmp.Compare(n.protocol, p.Protocol), cmp.Compare(n.number, p.Number))
		})
		if !found {
			text := fmt.Appendf(nil, "%s with port %q of %d: %d %d", u.selection.id, u.name, u.protocol, p.Protocol, p.Number)
			s := &selection{id: selectionID(text), use: u}
			u.numbers = slices.Insert(u.numbers, at, &portNumber{p.Protocol, p.Number, s})
		}
		s := u.numbers[at].selection
		if s.has(i) {
			continue
		}
		if len(s.members) == 0 {
			x.touchUse(u) // a number more
		}
		x.join(i, s)
	}
}

// touchUse has the policies that use the name of a port looked at again.
func (x *Index) touchUse(u *portUse) {
	for p := range u.policies {
		x.touchPolicy(p)
	}
}

// let remembers that nobody may need the selection any more.
func (x *Index) let(s *selection) {
	if !s.idle {
		s.idle = true
		x.dirty.idle = append(x.dirty.idle, s)
	}
}

// sweepSelections takes roles from selections that no policy gives them, and
// forgets those without a role. What was known of their nodes stays in
// the subjects and groups for the Changes.
func (x *Index) sweepSelections() {
	for len(x.dirty.idle) > 0 {
		s := x.dirty.idle[0]
		x.dirty.idle = x.dirty.idle[1:]
		s.idle = false
		if s.subject != nil && s.subject.refs == 0 {
			s.subject = nil
			for _, m := range s.members {
				m.identity.stale = true
				x.touchIdentity(m.identity)
			}
		}
		if s.group != nil && s.group.refs == 0 {
			x.touchGroup(s.group)
			s.group = nil
		}
		s.uses = slices.DeleteFunc(s.uses, func(u *portUse) bool {
			if u.refs > 0 {
				return false
			}
			for _, n := range u.numbers {
				x.empty(n.selection)
			}
			return true
		})
		if s.subject != nil || s.group != nil || len(s.uses) > 0 {
			continue
		}
		if s.use != nil {
			if len(s.members) == 0 {
				s.use.numbers = slices.DeleteFunc(s.use.numbers, func(n *portNumber) bool { return n.selection == s })
			}
			continue
		}
		x.empty(s)
		s.scope.selections.remove(s)
		x.letScope(s.scope)
	}
	x.dirty.idle = nil
	for s, g := range x.nodeGroups {
		if g.refs == 0 {
			x.touchGroup(g)
			delete(x.nodeGroups, s)
		}
	}
}

// empty takes all identities out of a selection.
func (x *Index) empty(s *selection) {
	for len(s.members) > 0 {
		m := s.members[len(s.members)-1]
		x.leave(m.identity, int(m.at))
	}
}

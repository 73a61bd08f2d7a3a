// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/policy"
)

// asSubject returns the selection's role as a subject.
func (x *Index) asSubject(s *selection) *subject {
	if s.subject != nil {
		return s.subject
	}
	s.subject = &subject{}
	if len(s.members) == 1 {
		s.subject.nodes.begin(&s.members[0].identity.nodes)
	}
	for _, m := range s.members {
		m.identity.stale = true
		x.touchIdentity(m.identity)
		m.identity.nodes.each(func(n nodeID) { x.incSubject(s.subject, n) })
	}
	return s.subject
}

// incSubject says that one more identity of a subject is on a node.
func (x *Index) incSubject(s *subject, n nodeID) {
	if !s.nodes.inc(n) {
		return
	}
	x.touchSubject(s)
	for _, l := range s.links {
		x.incGroup(l.group, n)
	}
}

func (x *Index) decSubject(s *subject, n nodeID) {
	if !s.nodes.dec(n) {
		return
	}
	x.touchSubject(s)
	for _, l := range s.links {
		x.decGroup(l.group, n)
	}
}

func (x *Index) incGroup(g *group, n nodeID) {
	if g.nodes.inc(n) {
		x.touchGroup(g)
	}
}

func (x *Index) decGroup(g *group, n nodeID) {
	if g.nodes.dec(n) {
		x.touchGroup(g)
	}
}

// link says that one more policy with the subject names the group.
func (x *Index) link(s *subject, g *group) {
	if at := s.find(g); at >= 0 {
		s.links[at].refs++
		return
	}
	s.links = append(s.links, link{g, 1})
	if s.linkAt != nil {
		s.linkAt[g] = len(s.links) - 1
	} else if len(s.links) > fewEntries {
		s.linkAt = make(map[*group]int, 2*fewEntries)
		for at, l := range s.links {
			s.linkAt[l.group] = at
		}
	}
	g.nodes.begin(&s.nodes)
	s.nodes.each(func(n nodeID) { x.incGroup(g, n) })
}

func (x *Index) unlink(s *subject, g *group) {
	at := s.find(g)
	if s.links[at].refs--; s.links[at].refs > 0 {
		return
	}
	last := len(s.links) - 1
	s.links[at] = s.links[last]
	s.links[last] = link{}
	if s.linkAt != nil {
		s.linkAt[s.links[at].group] = at
		delete(s.linkAt, g)
	}
	s.links = s.links[:last]
	s.nodes.each(func(n nodeID) { x.decGroup(g, n) })
}

func (s *subject) find(g *group) int {
	if s.linkAt == nil {
		return slices.IndexFunc(s.links, func(l link) bool { return l.group == g })
	}
	if at, ok := s.linkAt[g]; ok {
		return at
	}
	return -1
}

// asGroup returns the selection's role as a group.
func (x *Index) asGroup(s *selection) *group {
	if s.group != nil {
		return s.group
	}
	s.group = &group{id: s.id, selection: s}
	x.eachAddress(s.group, func(a netip.Addr) { x.addAddress(s.group, a) })
	return s.group
}

// eachAddress calls f once with each address of a group.
func (x *Index) eachAddress(g *group, f func(netip.Addr)) {
	if g.selection == nil {
		for a := range g.hosts.counts {
			f(a)
		}
		return
	}
	for _, m := range g.selection.members {
		for p := m.identity.pods; p != nil; p = p.next {
			for _, a := range p.addresses {
				if x.speaksFor(p, a, g.selection.has) {
					f(a)
				}
			}
		}
	}
}

// speaksFor reports whether p is the first by name of the Pods with an address
// of which the identity counts, so that the address is taken once.
func (x *Index) speaksFor(p *pod, a netip.Addr, counts func(*identity) bool) bool {
	if len(x.shared) == 0 {
		return true
	}
	for _, o := range x.shared[a] {
		if o != p && counts(o.identity) && comparePods(o, p) < 0 {
			return false
		}
	}
	return true
}

func comparePods(a, b *pod) int {
	if c := strings.Compare(a.key.Namespace, b.key.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.key.Name, b.key.Name)
}

// joinGroup adds the addresses of an identity that is not in the group.
func (x *Index) joinGroup(g *group, i *identity) {
	x.eachOwn(g, i, func(a netip.Addr) { x.addAddress(g, a) })
}

// leaveGroup removes the addresses of an identity that is no longer in the group.
func (x *Index) leaveGroup(g *group, i *identity) {
	x.eachOwn(g, i, func(a netip.Addr) { x.removeAddress(g, a) })
}

// eachOwn calls f once with each address of an identity that no Pod of the
// group has, the identity not counted.
func (x *Index) eachOwn(g *group, i *identity, f func(netip.Addr)) {
	for p := i.pods; p != nil; p = p.next {
		for _, a := range p.addresses {
			others := slices.ContainsFunc(x.shared[a], func(o *pod) bool { return o.identity != i && g.selection.has(o.identity) })
			if !others && x.speaksFor(p, a, func(o *identity) bool { return o == i }) {
				f(a)
			}
		}
	}
}

func (x *Index) addAddress(g *group, a netip.Addr) {
	g.size++
	g.digest = g.digest.Add(policy.DigestOf(a))
	x.logAddress(g, op{address: a})
}

func (x *Index) removeAddress(g *group, a netip.Addr) {
	g.size--
	g.digest = g.digest.Sub(policy.DigestOf(a))
	x.logAddress(g, op{address: a, gone: true})
}

func (x *Index) logAddress(g *group, o op) {
	if g.nodes.live {
		g.ops = append(g.ops, o)
		x.touchGroup(g)
	}
}

func (x *Index) touchSubject(s *subject) {
	if !s.dirty {
		s.dirty = true
		x.dirty.subjects = append(x.dirty.subjects, s)
	}
}

func (x *Index) touchGroup(g *group) {
	if !g.dirty {
		g.dirty = true
		x.dirty.groups = append(x.dirty.groups, g)
	}
}

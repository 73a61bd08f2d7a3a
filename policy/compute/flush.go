// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// Flush computes what follows from everything that was taken in since the last
// Flush. The Changes are valid until the Index takes in something else.
func (x *Index) Flush() *Changes {
	x.sweepNodes()
	c := &Changes{index: x}
	for _, i := range x.dirty.identities {
		if i.pods == nil {
			x.drop(i)
		}
	}
	// A policy can be touched by one that comes before it.
	for at := 0; at < len(x.dirty.policies); at++ {
		x.settlePolicy(x.dirty.policies[at])
	}
	x.sweepSelections()
	x.sweepSpaces()

	x.flushPolicies(c)
	x.flushGroups(c)
	x.flushIdentities(c)
	x.flushPods(c)
	x.dirty = dirt{}
	return c
}

func (x *Index) flushPolicies(c *Changes) {
	reaches := make(map[*subject]reach, len(x.dirty.subjects))
	for _, s := range x.dirty.subjects {
		s.dirty = false
		reaches[s] = s.nodes.settle()
	}
	get := func(s *subject) reach {
		if s == nil {
			return reach{span: &span{}, fresh: true}
		}
		if r, ok := reaches[s]; ok {
			return r
		}
		return s.nodes.steady()
	}
	c.policies = make([]policyChange, 0, len(x.dirty.policies))
	for _, p := range x.dirty.policies {
		var now *subject
		if !p.gone {
			now = p.bound.subject.subject
		}
		if p.out != p.sent || now != p.was {
			c.policies = append(c.policies, policyChange{
				key: p.key, policy: p.out, changed: p.out != p.sent, before: get(p.was), now: get(now), same: p.was == now,
			})
		}
		if p.gone {
			delete(x.policies, p.key)
		}
	}
	for _, s := range x.dirty.subjects {
		for _, p := range s.policies {
			if !p.dirty || p.out == p.sent && p.was == s {
				r := reaches[s]
				c.policies = append(c.policies, policyChange{key: p.key, policy: p.out, before: r, now: r, same: true})
			}
		}
	}
	for _, p := range x.dirty.policies {
		p.dirty, p.sent, p.was = false, p.out, nil
		if !p.gone {
			p.was = p.bound.subject.subject
		}
	}
}

func (x *Index) flushGroups(c *Changes) {
	c.groups = make([]groupChange, 0, len(x.dirty.groups))
	for _, g := range x.dirty.groups {
		g.dirty = false
		change := groupChange{group: g, reach: g.nodes.settle()}
		change.added, change.removed = net(g.ops)
		g.ops = nil
		if change.reach.grows() {
			change.whole = x.addresses(g)
		}
		c.groups = append(c.groups, change)
	}
}

// addresses returns all addresses of a group.
func (x *Index) addresses(g *group) []netip.Addr {
	list := make([]netip.Addr, 0, g.size)
	x.eachAddress(g, func(a netip.Addr) { list = append(list, a) })
	return list
}

// net returns what a sequence of changes of a set comes to.
func net(ops []op) (added, removed []netip.Addr) {
	if len(ops) == 0 {
		return nil, nil
	}
	if len(ops) == 1 {
		if ops[0].gone {
			return nil, []netip.Addr{ops[0].address}
		}
		return []netip.Addr{ops[0].address}, nil
	}
	last := make(map[netip.Addr]int, len(ops)) // +1 came, -1 went, 0 both
	for _, o := range ops {
		if o.gone {
			last[o.address]--
		} else {
			last[o.address]++
		}
	}
	for a, by := range last {
		switch {
		case by > 0:
			added = append(added, a)
		case by < 0:
			removed = append(removed, a)
		}
	}
	return added, removed
}

func (x *Index) flushIdentities(c *Changes) {
	c.identities = make([]identityChange, 0, len(x.dirty.identities))
	for _, i := range x.dirty.identities {
		i.dirty = false
		change := identityChange{id: i.id, reach: i.nodes.settle()}
		if i.pods != nil {
			change.changed = i.render()
			change.identity = i.out
		}
		c.identities = append(c.identities, change)
	}
}

// render brings out up to date and reports whether it changed.
func (i *identity) render() bool {
	if !i.stale {
		return false
	}
	i.stale = false
	out := &policy.Identity{ID: i.id}
	for _, m := range i.in {
		if m.selection.subject != nil {
			if out.Subjects == nil {
				out.Subjects = make([]policy.ID, 0, len(i.in))
			}
			out.Subjects = append(out.Subjects, m.selection.id)
		}
	}
	slices.SortFunc(out.Subjects, func(a, b policy.ID) int { return bytes.Compare(a[:], b[:]) })
	if i.out != nil && slices.Equal(i.out.Subjects, out.Subjects) {
		return false
	}
	i.out = out
	return true
}

func (x *Index) flushPods(c *Changes) {
	c.pods = make([]podChange, 0, len(x.dirty.pods))
	for _, p := range x.dirty.pods {
		p.dirty = false
		change := podChange{pod: policy.Pod{Key: p.key, UID: p.uid}, before: p.sent, now: p.node}
		if p.identity == nil {
			delete(x.pods, p.key)
		} else {
			change.pod.Identity = p.identity.id
		}
		p.sent = p.node
		if change.before != 0 || change.now != 0 {
			c.pods = append(c.pods, change)
		}
	}
}

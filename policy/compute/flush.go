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
	x.last.forget()
	x.sets = nil
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

	c := &Changes{index: x}
	x.flushPolicies(c)
	x.flushGroups(c)
	x.flushIdentities(c)
	x.flushPods(c)
	x.dirty, x.last = dirt{}, c
	return c
}

func (x *Index) flushPolicies(c *Changes) {
	for _, s := range x.dirty.subjects {
		s.dirty = false
		s.nodes.settle()
	}
	c.policies, c.subjects = make([]policyChange, 0, len(x.dirty.policies)), x.dirty.subjects
	for _, p := range x.dirty.policies {
		if p.out != p.sent {
			c.policies = append(c.policies, policyChange{record: p, policy: p.out, before: p.was, now: p.subject()})
			p.changed = true
		}
		if p.gone {
			delete(x.policies, p.key)
		}
	}
	for _, s := range x.dirty.subjects {
		for _, p := range s.policies {
			if !p.changed {
				c.policies = append(c.policies, policyChange{record: p, policy: p.out, before: s, now: s, same: true})
			}
		}
	}
	for _, p := range x.dirty.policies {
		p.dirty, p.changed, p.sent, p.was = false, false, p.out, p.subject()
	}
}

func (x *Index) flushGroups(c *Changes) {
	c.groups = make([]groupChange, 0, len(x.dirty.groups))
	for _, g := range x.dirty.groups {
		g.dirty = false
		g.nodes.settle()
		change := groupChange{group: g}
		if len(g.ops) > 0 {
			change.delta = net(g.ops)
			g.ops = nil
		}
		if g.nodes.grows() {
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

// net returns what a sequence of changes of a set comes to, nil for nothing.
func net(ops []op) *delta {
	d := &delta{}
	if len(ops) == 1 {
		d.add(ops[0])
		return d
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
		if by != 0 {
			d.add(op{address: a, gone: by < 0})
		}
	}
	if len(d.added)+len(d.removed) == 0 {
		return nil
	}
	return d
}

func (d *delta) add(o op) {
	if o.gone {
		d.removed = append(d.removed, o.address)
	} else {
		d.added = append(d.added, o.address)
	}
}

func (x *Index) flushIdentities(c *Changes) {
	c.identities = x.dirty.identities
	for _, i := range c.identities {
		i.dirty = false
		i.nodes.settle()
		if i.pods == nil {
			i.out = nil
		} else {
			i.changed = i.render()
		}
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
	c.pods = x.dirty.pods
	for _, p := range c.pods {
		p.dirty = false
		if p.identity == nil {
			delete(x.pods, p.key)
		}
		p.before, p.sent = p.sent, p.node
	}
}

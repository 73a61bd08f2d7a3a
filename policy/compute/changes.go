// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"net/netip"

	"github.com/waymark-net/waymark/policy"
)

// Changes are what came of everything that the Index took in between two
// Flushes: the objects that changed or of which the nodes that need them did,
// each once, whatever the number of nodes.
type Changes struct {
	index      *Index
	policies   []policyChange
	groups     []groupChange
	identities []identityChange
	pods       []podChange
}

type policyChange struct {
	key         policy.Key
	policy      *policy.Policy // nil when it went
	changed     bool
	before, now reach
	same        bool // before and now are of one span
}

type groupChange struct {
	group          *group
	reach          reach
	added, removed []netip.Addr
	whole          []netip.Addr // set if a node needs the group that did not before
}

type identityChange struct {
	id       policy.ID
	identity *policy.Identity // nil when it has no Pods
	changed  bool
	reach    reach
}

type podChange struct {
	pod         policy.Pod
	before, now nodeID
}

// Empty reports whether no object changed.
func (c *Changes) Empty() bool {
	return len(c.policies) == 0 && len(c.groups) == 0 && len(c.identities) == 0 && len(c.pods) == 0
}

// Update returns how the State of a node changes; nil if it does not.
func (c *Changes) Update(name string) *policy.Update {
	n, known := c.index.nodeIDs[name]
	if !known {
		return nil
	}
	u := &policy.Update{}
	for i := range c.policies {
		p := &c.policies[i]
		p.put(u, p.before.before(n), p.now.now(n))
	}
	for i := range c.groups {
		g := &c.groups[i]
		g.put(u, g.reach.before(n), g.reach.now(n))
	}
	for i := range c.identities {
		d := &c.identities[i]
		d.put(u, d.reach.before(n), d.reach.now(n))
	}
	for i := range c.pods {
		p := &c.pods[i]
		p.put(u, p.before == n, p.now == n)
	}
	if u.Empty() {
		return nil
	}
	return u
}

// Updates returns how the States of nodes change, for those that are wanted and
// that change; nil wants all. Updates share their addresses, which nobody may
// change.
func (c *Changes) Updates(wanted func(node string) bool) map[string]*policy.Update {
	updates := map[nodeID]*policy.Update{}
	of := func(n nodeID) *policy.Update {
		u, known := updates[n]
		if !known {
			if wanted == nil || wanted(c.index.nodes[n].name) {
				u = &policy.Update{}
			}
			updates[n] = u
		}
		return u
	}
	for i := range c.policies {
		p := &c.policies[i]
		p.each(func(n nodeID, before, now bool) { p.put(of(n), before, now) })
	}
	for i := range c.groups {
		g := &c.groups[i]
		g.reach.each(func(n nodeID, before, now bool) { g.put(of(n), before, now) })
	}
	for i := range c.identities {
		d := &c.identities[i]
		d.reach.each(func(n nodeID, before, now bool) { d.put(of(n), before, now) })
	}
	for i := range c.pods {
		p := &c.pods[i]
		if p.before != 0 && p.before != p.now {
			p.put(of(p.before), true, false)
		}
		if p.now != 0 {
			p.put(of(p.now), p.before == p.now, true)
		}
	}
	named := make(map[string]*policy.Update, len(updates))
	for n, u := range updates {
		if u != nil && !u.Empty() {
			named[c.index.nodes[n].name] = u
		}
	}
	return named
}

// each calls f with every node that needs the policy now or did before.
func (p *policyChange) each(f func(n nodeID, before, now bool)) {
	if p.same {
		p.now.each(f)
		return
	}
	p.before.each(func(n nodeID, before, _ bool) {
		if before {
			f(n, true, p.now.now(n))
		}
	})
	p.now.span.each(func(n nodeID) {
		if !p.before.before(n) {
			f(n, false, true)
		}
	})
}

func (p *policyChange) put(u *policy.Update, before, now bool) {
	switch {
	case u == nil:
	case p.policy == nil || !now:
		if before {
			u.GonePolicies = append(u.GonePolicies, p.key)
		}
	case p.changed || !before:
		u.Policies = append(u.Policies, p.policy)
	}
}

func (g *groupChange) put(u *policy.Update, before, now bool) {
	switch {
	case u == nil || !before && !now:
	case !now:
		u.GoneGroups = append(u.GoneGroups, g.group.id)
	case !before:
		u.Groups = append(u.Groups, policy.GroupUpdate{ID: g.group.id, Whole: true, Added: g.whole})
	case len(g.added)+len(g.removed) > 0:
		u.Groups = append(u.Groups, policy.GroupUpdate{ID: g.group.id, Added: g.added, Removed: g.removed})
	}
}

func (d *identityChange) put(u *policy.Update, before, now bool) {
	switch {
	case u == nil || !before && !now:
	case !now:
		u.GoneIdentities = append(u.GoneIdentities, d.id)
	case d.changed || !before:
		u.Identities = append(u.Identities, d.identity)
	}
}

func (p *podChange) put(u *policy.Update, before, now bool) {
	switch {
	case u == nil || !before && !now:
	case !now:
		u.GonePods = append(u.GonePods, p.pod.Key)
	default:
		u.Pods = append(u.Pods, p.pod)
	}
}

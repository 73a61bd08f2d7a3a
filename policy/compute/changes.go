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
	subjects   []*subject // of which the nodes changed
	groups     []groupChange
	identities []*identity
	pods       []*pod
}

// policyChange is a policy that changed, or, if same, of which the nodes did.
type policyChange struct {
	record      *policyRecord
	policy      *policy.Policy // nil when it went
	before, now *subject       // nil for none
	same        bool
}

// groupChange is a group that changed, or of which the nodes did.
type groupChange struct {
	group *group
	delta *delta       // nil when the addresses are the same
	whole []netip.Addr // set if a node needs the group that did not before
}

// delta is how a set of addresses changed.
type delta struct{ added, removed []netip.Addr }

// Empty reports whether no object changed.
func (c *Changes) Empty() bool {
	return len(c.policies) == 0 && len(c.groups) == 0 && len(c.identities) == 0 && len(c.pods) == 0
}

// forget ends the time that the Changes are of.
func (c *Changes) forget() {
	if c == nil {
		return
	}
	for _, s := range c.subjects {
		s.nodes.steady()
	}
	for i := range c.groups {
		c.groups[i].group.nodes.steady()
	}
	for _, i := range c.identities {
		i.nodes.steady()
		i.changed = false
	}
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
		p.put(u, p.before != nil && p.before.nodes.before(n), p.now != nil && p.now.nodes.now(n))
	}
	for i := range c.groups {
		g := &c.groups[i]
		g.put(u, g.group.nodes.before(n), g.group.nodes.now(n))
	}
	for _, i := range c.identities {
		i.put(u, i.nodes.before(n), i.nodes.now(n))
	}
	for _, p := range c.pods {
		p.put(u, p.before == n, p.sent == n)
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
		g.group.nodes.eachEver(func(n nodeID, before, now bool) { g.put(of(n), before, now) })
	}
	for _, i := range c.identities {
		i.nodes.eachEver(func(n nodeID, before, now bool) { i.put(of(n), before, now) })
	}
	for _, p := range c.pods {
		if p.before != 0 && p.before != p.sent {
			p.put(of(p.before), true, false)
		}
		if p.sent != 0 {
			p.put(of(p.sent), p.before == p.sent, true)
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
	if p.before == p.now {
		p.now.nodes.eachEver(f)
		return
	}
	if p.before != nil {
		p.before.nodes.eachEver(func(n nodeID, before, _ bool) {
			if before {
				f(n, true, p.now != nil && p.now.nodes.now(n))
			}
		})
	}
	if p.now != nil {
		p.now.nodes.each(func(n nodeID) {
			if p.before == nil || !p.before.nodes.before(n) {
				f(n, false, true)
			}
		})
	}
}

func (p *policyChange) put(u *policy.Update, before, now bool) {
	switch {
	case u == nil:
	case !now:
		if before {
			u.GonePolicies = append(u.GonePolicies, p.record.key)
		}
	case !p.same || !before:
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
	case g.delta != nil:
		u.Groups = append(u.Groups, policy.GroupUpdate{ID: g.group.id, Added: g.delta.added, Removed: g.delta.removed})
	}
}

func (i *identity) put(u *policy.Update, before, now bool) {
	switch {
	case u == nil || !before && !now:
	case !now:
		u.GoneIdentities = append(u.GoneIdentities, i.id)
	case i.changed || !before:
		u.Identities = append(u.Identities, i.out)
	}
}

func (p *pod) put(u *policy.Update, before, now bool) {
	switch {
	case u == nil || !before && !now:
	case !now:
		u.GonePods = append(u.GonePods, p.key)
	default:
		u.Pods = append(u.Pods, policy.Pod{Key: p.key, UID: p.uid, Identity: p.identity.id})
	}
}

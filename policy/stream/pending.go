// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"net/netip"

	"github.com/waymark-net/waymark/policy"
)

// pending is what one subscriber has not been sent yet: the newest contents of
// each object that changed, nil or false for one that went. It grows with the
// number of objects and not with that of their changes.
type pending struct {
	policies   map[policy.Key]*policy.Policy
	groups     map[policy.ID]*groupDelta
	identities map[policy.ID]*policy.Identity
	pods       map[policy.PodKey]*policy.Pod
}

func newPending() *pending {
	return &pending{
		policies: map[policy.Key]*policy.Policy{}, groups: map[policy.ID]*groupDelta{},
		identities: map[policy.ID]*policy.Identity{}, pods: map[policy.PodKey]*policy.Pod{},
	}
}

func (p *pending) len() int {
	return len(p.policies) + len(p.groups) + len(p.identities) + len(p.pods)
}

// add puts an update on top of what is there. It keeps references to the
// update's contents and changes none of them.
func (p *pending) add(u *policy.Update) {
	for _, x := range u.Policies {
		p.policies[x.Key] = x
	}
	for _, k := range u.GonePolicies {
		p.policies[k] = nil
	}
	for i := range u.Groups {
		g := &u.Groups[i]
		if before := p.groups[g.ID]; before != nil && !g.Whole {
			before.merge(g)
			continue
		}
		p.groups[g.ID] = &groupDelta{first: *g}
	}
	for _, id := range u.GoneGroups {
		p.groups[id] = &groupDelta{gone: true}
	}
	for _, x := range u.Identities {
		p.identities[x.ID] = x
	}
	for _, id := range u.GoneIdentities {
		p.identities[id] = nil
	}
	for i := range u.Pods {
		p.pods[u.Pods[i].Key] = &u.Pods[i]
	}
	for _, k := range u.GonePods {
		p.pods[k] = nil
	}
}

// update returns all of it as one update.
func (p *pending) update() *policy.Update {
	u := &policy.Update{}
	for k, x := range p.policies {
		if x == nil {
			u.GonePolicies = append(u.GonePolicies, k)
			continue
		}
		u.Policies = append(u.Policies, x)
	}
	for id, g := range p.groups {
		if g.gone {
			u.GoneGroups = append(u.GoneGroups, id)
			continue
		}
		if change := g.update(id); change.Whole || len(change.Added)+len(change.Removed) > 0 {
			u.Groups = append(u.Groups, change)
		}
	}
	for id, x := range p.identities {
		if x == nil {
			u.GoneIdentities = append(u.GoneIdentities, id)
			continue
		}
		u.Identities = append(u.Identities, x)
	}
	for k, x := range p.pods {
		if x == nil {
			u.GonePods = append(u.GonePods, k)
			continue
		}
		u.Pods = append(u.Pods, *x)
	}
	return u
}

// groupDelta is how a group differs from what the subscriber has. The first
// change is kept as it came, since it is shared by all subscribers; a second
// one makes the delta its own.
type groupDelta struct {
	gone  bool
	first policy.GroupUpdate
	// changed has what was merged: true for added, false for removed. Nil: only
	// first counts.
	changed map[netip.Addr]bool
}

// merge puts a change that is not whole on top.
func (d *groupDelta) merge(g *policy.GroupUpdate) {
	if d.changed == nil {
		d.changed = make(map[netip.Addr]bool, len(d.first.Added)+len(d.first.Removed)+len(g.Added)+len(g.Removed))
		for _, a := range d.first.Added {
			d.changed[a] = true
		}
		for _, a := range d.first.Removed {
			d.changed[a] = false
		}
		d.first.Added, d.first.Removed = nil, nil
	}
	for _, a := range g.Removed {
		if d.changed[a] || d.first.Whole {
			delete(d.changed, a) // the subscriber never saw it
		} else {
			d.changed[a] = false
		}
	}
	for _, a := range g.Added {
		if added, found := d.changed[a]; found && !added {
			delete(d.changed, a) // the subscriber has it still
		} else {
			d.changed[a] = true
		}
	}
}

func (d *groupDelta) update(id policy.ID) policy.GroupUpdate {
	if d.changed == nil {
		return d.first
	}
	g := policy.GroupUpdate{ID: id, Whole: d.first.Whole}
	for a, added := range d.changed {
		if added {
			g.Added = append(g.Added, a)
		} else {
			g.Removed = append(g.Removed, a)
		}
	}
	return g
}

// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"net/netip"

	"github.com/waymark-net/waymark/policy"
)

// View returns all that a node enforces, for one that has nothing yet. It is
// that of the last Flush: nothing may have been taken in since.
func (x *Index) View(name string) *policy.State {
	state := policy.NewState()
	n, known := x.nodeIDs[name]
	if !known {
		return state
	}
	seen := map[*subject]bool{}
	for p := x.nodes[n].pods; p != nil; p = p.onNext {
		state.Pods[p.key] = policy.Pod{Key: p.key, UID: p.uid, Identity: p.identity.id}
		if state.Identities[p.identity.id] != nil {
			continue
		}
		state.Identities[p.identity.id] = p.identity.out
		for _, m := range p.identity.in {
			s := m.selection.subject
			if s == nil || seen[s] {
				continue
			}
			seen[s] = true
			for _, p := range s.policies {
				state.Policies[p.key] = p.out
			}
			for _, l := range s.links {
				if state.Groups[l.group.id] == nil {
					state.Groups[l.group.id] = x.set(l.group)
				}
			}
		}
	}
	return state
}

func (x *Index) set(g *group) policy.Addresses {
	set := make(policy.Addresses, g.size)
	x.eachAddress(g, func(a netip.Addr) { set[a] = struct{}{} })
	return set
}

// Digest returns the digest of a group, false if no policy names it.
func (x *Index) Digest(group policy.ID) (policy.Digest, bool) {
	g := x.groups[group]
	if g == nil {
		return policy.Digest{}, false
	}
	return g.digest, true
}

// Size is how much an Index knows.
type Size struct{ Pods, Identities, Namespaces, Nodes, Policies, Groups int }

// Size returns how much the Index knows. Nodes are those that are known or have
// Pods.
func (x *Index) Size() Size {
	return Size{
		Pods: len(x.pods), Identities: len(x.identities), Namespaces: len(x.spaces), Nodes: len(x.nodeIDs),
		Policies: len(x.policies), Groups: len(x.groups),
	}
}

// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"net/netip"

	"github.com/waymark-net/waymark/policy"
)

// View returns all that a node enforces, for one that has nothing yet. It is
// that of the last Flush: nothing may have been taken in since. Views share what
// they have, groups too, and none of it is ever changed: when all nodes ask at
// once, as after a controller's start, each group is put together once.
func (x *Index) View(name string) *policy.State {
	state := policy.NewState()
	n, known := x.nodeIDs[name]
	if !known {
		return state
	}
	for _, p := range x.nodes[n].pods {
		state.Pods[p.key] = policy.Pod{Key: p.key, UID: p.uid, Identity: p.identity.id}
		state.Identities[p.identity.id] = p.identity.out
	}
	x.eachSubject(name, func(s *subject) {
		for _, p := range s.policies {
			state.Policies[p.key] = p.out
		}
		for _, l := range s.links {
			if state.Groups[l.group.id] == nil {
				state.Groups[l.group.id] = x.set(l.group)
			}
		}
	})
	return state
}

func (x *Index) set(g *group) policy.Addresses {
	if set, made := x.sets[g]; made {
		return set
	}
	set := make(policy.Addresses, g.size)
	x.eachAddress(g, func(a netip.Addr) { set[a] = struct{}{} })
	if x.sets == nil {
		x.sets = map[*group]policy.Addresses{}
	}
	x.sets[g] = set
	return set
}

// Digests returns the digest of each group that a node needs, those in its View.
func (x *Index) Digests(name string) map[policy.ID]policy.Digest {
	digests := map[policy.ID]policy.Digest{}
	x.eachSubject(name, func(s *subject) {
		for _, l := range s.links {
			digests[l.group.id] = l.group.digest
		}
	})
	return digests
}

// eachSubject calls f once with each subject that Pods of a node are in.
func (x *Index) eachSubject(name string, f func(*subject)) {
	n, known := x.nodeIDs[name]
	if !known {
		return
	}
	identities, seen := map[*identity]bool{}, map[*subject]bool{}
	for _, p := range x.nodes[n].pods {
		if identities[p.identity] {
			continue
		}
		identities[p.identity] = true
		for _, m := range p.identity.in {
			if s := m.selection.subject; s != nil && !seen[s] {
				seen[s] = true
				f(s)
			}
		}
	}
}

// Size is how much an Index knows. Scopes are selectors of namespaces and nodes.
type Size struct{ Pods, Identities, Namespaces, Nodes, Policies, Scopes int }

// Size returns how much the Index knows. Nodes are those that are known or have
// Pods.
func (x *Index) Size() Size {
	return Size{
		Pods: len(x.pods), Identities: len(x.identities), Namespaces: len(x.spaces), Nodes: len(x.nodeIDs),
		Policies: len(x.policies), Scopes: x.scopes.len() + len(x.nodeGroups),
	}
}

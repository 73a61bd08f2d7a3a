// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// allowed says from the words of the API whether a connection may be, at both
// ends, whose first packet is p. It knows nothing of flows.
func (n *node) allowed(p packet) bool {
	state := n.engine.State()
	if from, local := n.at(p.src); local && !allowedAt(state, from.local, policy.Egress, p.dst, p.proto, p.dport) {
		return false
	}
	to, local := n.at(p.dst)
	return !local || allowedAt(state, to.local, policy.Ingress, p.src, p.proto, p.dport)
}

func allowedAt(s *policy.State, pod LocalPod, d policy.Direction, peer netip.Addr, proto uint8, port uint16) bool {
	record, ok := s.Pods[pod.Pod]
	identity := s.Identities[record.Identity]
	if !ok || record.UID != pod.UID || identity == nil {
		return !pod.HoldUnknown
	}
	is := func(subject policy.ID) bool { return slices.Contains(identity.Subjects, subject) }
	if a := tierSays(s, policy.TierAdmin, is, d, peer, proto, port); a != policy.Pass {
		return a == policy.Accept
	}
	isolated := false
	for _, p := range s.Policies {
		if p.Tier != policy.TierNamespace {
			continue
		}
		isolated = isolated || is(p.Subject) && p.Isolates[d]
		for _, r := range p.Rules {
			if r.Direction == d && is(r.Subject) && peerIs(s, r, peer) && portIs(r, proto, port) {
				return true
			}
		}
	}
	return !isolated && tierSays(s, policy.TierBaseline, is, d, peer, proto, port) != policy.Deny
}

func tierSays(s *policy.State, tier policy.Tier, is func(policy.ID) bool, d policy.Direction, peer netip.Addr, proto uint8, port uint16) policy.Action {
	var policies []*policy.Policy
	for _, p := range s.Policies {
		if p.Tier == tier {
			policies = append(policies, p)
		}
	}
	slices.SortFunc(policies, func(a, b *policy.Policy) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	for _, p := range policies {
		for _, r := range p.Rules {
			if r.Direction == d && is(r.Subject) && peerIs(s, r, peer) && portIs(r, proto, port) {
				return r.Action
			}
		}
	}
	return policy.Pass
}

func peerIs(s *policy.State, r policy.Rule, peer netip.Addr) bool {
	if r.AnyPeer {
		return true
	}
	for _, g := range r.Peers {
		if _, in := s.Groups[g][peer]; in {
			return true
		}
	}
	for _, b := range r.Blocks {
		if b.CIDR.Contains(peer) && !slices.ContainsFunc(b.Except, func(e netip.Prefix) bool { return e.Contains(peer) }) {
			return true
		}
	}
	return false
}

func portIs(r policy.Rule, proto uint8, port uint16) bool {
	for _, p := range r.Ports {
		if uint8(p.Protocol) == proto && p.First <= port && port <= p.Last {
			return true
		}
	}
	return len(r.Ports) == 0
}

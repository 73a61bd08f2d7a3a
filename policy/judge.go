// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Connection is one as the policies of a Pod of the node see it. A connection
// between two Pods is judged twice: the direction Egress of its source and the
// direction Ingress of its destination must both allow it.
type Connection struct {
	Pod       PodKey
	Direction Direction
	// Peer is the other end: the source of Ingress, the destination of Egress.
	Peer     netip.Addr
	Protocol Protocol
	// Port is the destination's, of TCP, UDP and SCTP.
	Port uint16
}

// Verdict is what becomes of a connection.
type Verdict struct {
	Allowed bool
	// Policy and Rule decided. Both are nil where no policy did; Rule is nil
	// where the Pod is isolated and no rule accepts, and Policy is then one of
	// those that isolate it.
	Policy *Policy
	Rule   *Rule
}

// Judge returns the verdict on a connection of a Pod that is in the State. It
// is slow, and what a switch with the flows of the State must agree with.
// Policies of one priority come in the order of their names.
func (s *State) Judge(c Connection) Verdict {
	pod, known := s.Pods[c.Pod]
	if !known {
		return Verdict{Allowed: true}
	}
	identity := s.Identities[pod.Identity]
	var tiers [TierBaseline + 1][]*Policy
	for _, p := range s.Policies {
		if identity.has(p.Subject) {
			tiers[p.Tier] = append(tiers[p.Tier], p)
		}
	}
	for _, policies := range tiers {
		slices.SortFunc(policies, func(a, b *Policy) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Key.Name, b.Key.Name))
		})
	}
	if v, decided := s.cluster(tiers[TierAdmin], identity, c); decided {
		return v
	}
	var isolates *Policy
	for _, p := range tiers[TierNamespace] {
		if p.Isolates[c.Direction] {
			isolates = p
		}
		for i := range p.Rules {
			if s.matches(&p.Rules[i], identity, c) {
				return Verdict{Allowed: true, Policy: p, Rule: &p.Rules[i]}
			}
		}
	}
	if isolates != nil {
		return Verdict{Policy: isolates}
	}
	if v, decided := s.cluster(tiers[TierBaseline], identity, c); decided {
		return v
	}
	return Verdict{Allowed: true}
}

// cluster returns the verdict of a tier of ClusterNetworkPolicies, if it has one.
func (s *State) cluster(policies []*Policy, identity *Identity, c Connection) (v Verdict, decided bool) {
	for _, p := range policies {
		for i := range p.Rules {
			rule := &p.Rules[i]
			if !s.matches(rule, identity, c) {
				continue
			}
			if rule.Action == Pass {
				return Verdict{}, false
			}
			return Verdict{Allowed: rule.Action == Accept, Policy: p, Rule: rule}, true
		}
	}
	return Verdict{}, false
}

func (s *State) matches(r *Rule, identity *Identity, c Connection) bool {
	if r.Direction != c.Direction || !identity.has(r.Subject) {
		return false
	}
	if len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(p PortRange) bool {
		return p.Protocol == c.Protocol && p.First <= c.Port && c.Port <= p.Last
	}) {
		return false
	}
	if r.AnyPeer || slices.ContainsFunc(r.Blocks, func(b Block) bool { return b.Contains(c.Peer) }) {
		return true
	}
	return slices.ContainsFunc(r.Peers, func(id ID) bool {
		_, in := s.Groups[id][c.Peer]
		return in
	})
}

// Contains reports whether the address is in the block.
func (b Block) Contains(a netip.Addr) bool {
	return b.CIDR.Contains(a) && !slices.ContainsFunc(b.Except, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (i *Identity) has(subject ID) bool {
	return i != nil && slices.Contains(i.Subjects, subject)
}

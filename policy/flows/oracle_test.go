// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// allowed says from the words of the API whether a connection may be, at both
// ends, whose first packet is p. It knows nothing of flows.
func (n *node) allowed(p packet) bool {
	state := n.engine.State()
	if from, local := n.at(p.src); local && !allowedAt(state, from.local, shot{policy.Egress, p.dst, policy.Protocol(p.proto), p.dport}, right) {
		return false
	}
	to, local := n.at(p.dst)
	return !local || allowedAt(state, to.local, shot{policy.Ingress, p.src, policy.Protocol(p.proto), p.dport}, right)
}

// reading is a way to read the words of the API. All but one are wrong: packets
// that they judge otherwise are worth sending.
type reading uint8

const (
	right reading = iota
	noException
	oneException // the one that begins first
	passAccepts
	passDenies
	passIsNoRule
	lastPolicyFirst // of one priority
	lastRuleFirst   // of one policy
	noIsolation
	noBaseline
	noPorts
	firstPort   // of a range
	anyProtocol // whatever that of the port
	// A part of the state as it was before the last change.
	groupsBefore
	policiesBefore
	isolationBefore
	podsBefore
	readings // how many there are
)

// read is the state as a reading takes it, which was another before.
func read(s, old *policy.State, as reading) *policy.State {
	out := *s
	switch as {
	case groupsBefore:
		out.Groups = old.Groups
	case policiesBefore:
		out.Policies = old.Policies
	case isolationBefore:
		out.Policies = maps.Clone(s.Policies)
		for k, p := range out.Policies {
			if was := old.Policies[k]; was != nil && was.Isolates != p.Isolates {
				with := *p
				with.Isolates = was.Isolates
				out.Policies[k] = &with
			}
		}
	case podsBefore:
		out.Pods, out.Identities = old.Pods, old.Identities
	}
	return &out
}

// allowedAt says whether a connection may be at one of its ends.
func allowedAt(s *policy.State, pod LocalPod, c shot, as reading) bool {
	record, ok := s.Pods[pod.Pod]
	identity := s.Identities[record.Identity]
	if !ok || record.UID != pod.UID || identity == nil {
		return !pod.HoldUnknown
	}
	j := judge{s, identity.Subjects, c, as}
	if a := j.tier(policy.TierAdmin); a != policy.Pass {
		return a == policy.Accept
	}
	isolated := false
	for _, p := range s.Policies {
		if p.Tier != policy.TierNamespace {
			continue
		}
		isolated = isolated || slices.Contains(j.subjects, p.Subject) && p.Isolates[c.direction] && as != noIsolation
		for _, r := range p.Rules {
			if j.matches(r) {
				return true
			}
		}
	}
	return !isolated && (as == noBaseline || j.tier(policy.TierBaseline) != policy.Deny)
}

// judge judges a connection of a Pod.
type judge struct {
	state    *policy.State
	subjects []policy.ID
	shot     shot
	as       reading
}

// tier is what the first rule of a tier of ClusterNetworkPolicies says.
func (j judge) tier(tier policy.Tier) policy.Action {
	var policies []*policy.Policy
	for _, p := range j.state.Policies {
		if p.Tier == tier {
			policies = append(policies, p)
		}
	}
	slices.SortFunc(policies, func(a, b *policy.Policy) int {
		names := cmp.Compare(a.Key.Name, b.Key.Name)
		if j.as == lastPolicyFirst {
			names = -names
		}
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), names)
	})
	for _, p := range policies {
		for i := range p.Rules {
			r := p.Rules[i]
			if j.as == lastRuleFirst {
				r = p.Rules[len(p.Rules)-1-i]
			}
			if !j.matches(r) {
				continue
			}
			switch {
			case r.Action != policy.Pass:
				return r.Action
			case j.as == passAccepts:
				return policy.Accept
			case j.as == passDenies:
				return policy.Deny
			case j.as != passIsNoRule:
				return policy.Pass
			}
		}
	}
	return policy.Pass
}

func (j judge) matches(r policy.Rule) bool {
	return r.Direction == j.shot.direction && slices.Contains(j.subjects, r.Subject) && j.portIs(r) && j.peerIs(r)
}

func (j judge) peerIs(r policy.Rule) bool {
	peer := j.shot.peer
	if r.AnyPeer {
		return true
	}
	for _, g := range r.Peers {
		if _, in := j.state.Groups[g][peer]; in {
			return true
		}
	}
	for _, b := range r.Blocks {
		except := b.Except
		switch j.as {
		case noException:
			except = nil
		case oneException:
			if len(except) > 1 {
				except = []netip.Prefix{slices.MinFunc(except, comparePrefixes)}
			}
		}
		if b.CIDR.Contains(peer) && !slices.ContainsFunc(except, func(e netip.Prefix) bool { return e.Contains(peer) }) {
			return true
		}
	}
	return false
}

func (j judge) portIs(r policy.Rule) bool {
	for _, p := range r.Ports {
		last := p.Last
		if j.as == firstPort {
			last = min(p.First, p.Last)
		}
		if (p.Protocol == j.shot.proto || j.as == anyProtocol) && p.First <= j.shot.port && j.shot.port <= last {
			return true
		}
	}
	return len(r.Ports) == 0 || j.as == noPorts
}

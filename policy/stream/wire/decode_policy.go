// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"net/netip"
	"slices"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
)

// toPolicy decodes a policy. What it does not understand is enforced in the
// direction of denying, and reason says what it was:
//
//   - a kind or tier that is not known: the policy isolates its Pods in both
//     directions and accepts nothing;
//   - a field of the policy that is not known, which may narrow all its rules:
//     a NetworkPolicy does the same, in the other tiers every rule denies;
//   - a rule that is not understood whole: a NetworkPolicy accepts less without
//     it, in the other tiers the rule denies everything to and from its Pods.
//
// A policy whose key or Pods are not known at all is an error.
func toPolicy(m *pb.Policy) (p *policy.Policy, reason string, err error) {
	key, err := ToKey(m.GetKey())
	if err != nil {
		return nil, "", err
	}
	p = &policy.Policy{Key: key, UID: m.GetUid(), Priority: m.GetPriority()}
	if p.Subject, err = ToID(m.GetSubject()); err != nil {
		return nil, "", fmt.Errorf("subject of %s: %w", key, err)
	}
	tier := m.GetTier() - first
	namespaced := tier == pb.Tier(policy.TierNamespace)
	switch {
	case key.Kind > policy.ClusterNetworkPolicy:
		return isolate(p), fmt.Sprintf("kind %d is not known", key.Kind), nil
	case tier < 0 || tier > pb.Tier(policy.TierBaseline):
		return isolate(p), fmt.Sprintf("tier %d is not known", m.GetTier()), nil
	case namespaced != (key.Kind == policy.NetworkPolicy):
		return isolate(p), fmt.Sprintf("tier %d is not one of its kind", m.GetTier()), nil
	case namespaced && unknown(m):
		return isolate(p), "a field that is not known", nil
	case !namespaced && (p.Priority < 0 || p.Priority > 1000):
		return isolate(p), fmt.Sprintf("priority %d, must be 0 to 1000", m.GetPriority()), nil
	}
	p.Tier = policy.Tier(tier)
	if namespaced {
		p.Isolates = [policy.Directions]bool{policy.Ingress: m.GetIsolatesIngress(), policy.Egress: m.GetIsolatesEgress()}
	}
	reason = addRules(p, m)
	return p, reason, nil
}

// isolate makes a policy of which little is known.
func isolate(p *policy.Policy) *policy.Policy {
	p.Tier, p.Priority = policy.TierNamespace, 0
	p.Isolates = [policy.Directions]bool{true, true}
	return p
}

// addRules decodes a policy's rules and returns what was not understood first.
func addRules(p *policy.Policy, m *pb.Policy) (reason string) {
	narrowed := unknown(m)
	if narrowed {
		reason = "a field that is not known"
	}
	var rules [policy.Directions][]policy.Rule
	for n, r := range m.GetRules() {
		rule, err := toRule(r)
		if err != nil && reason == "" {
			reason = fmt.Sprintf("rule %d: %v", n, err)
		}
		switch {
		case err == nil && narrowed:
			rule.Action = policy.Deny
		case err != nil && p.Tier == policy.TierNamespace:
			continue
		case err != nil:
			for direction, deny := range denials(p, r) {
				rules[direction] = append(rules[direction], deny...)
			}
			continue
		}
		rules[rule.Direction] = append(rules[rule.Direction], rule)
	}
	p.Rules = slices.Concat(rules[:]...)
	return reason
}

// denials is what stands for a rule of which little is known.
func denials(p *policy.Policy, m *pb.Rule) (rules [policy.Directions][]policy.Rule) {
	rule := policy.Rule{Action: policy.Deny, Index: int(m.GetIndex()), Name: m.GetName(), Subject: p.Subject, AnyPeer: true}
	if id, err := ToID(m.GetSubject()); err == nil {
		rule.Subject = id
	}
	for d := range policy.Directions {
		if known := m.GetDirection() - first; known == 0 || known == 1 {
			if policy.Direction(known) != d {
				continue
			}
		}
		rule.Direction = d
		rules[d] = append(rules[d], rule)
	}
	return rules
}

func toRule(m *pb.Rule) (policy.Rule, error) {
	r := policy.Rule{Index: int(m.GetIndex()), Name: m.GetName(), AnyPeer: m.GetAnyPeer()}
	direction, action := m.GetDirection()-first, m.GetAction()-first
	switch {
	case unknown(m):
		return r, malformed("a field that is not known")
	case direction < 0 || direction >= pb.Direction(policy.Directions):
		return r, malformed("direction %d is not known", m.GetDirection())
	case action < 0 || action > pb.Action(policy.Pass):
		return r, malformed("action %d is not known", m.GetAction())
	case r.Index < 0:
		return r, malformed("index %d", r.Index)
	case r.AnyPeer && len(m.GetPeers())+len(m.GetBlocks()) > 0:
		return r, malformed("any peer, and peers")
	}
	r.Direction, r.Action = policy.Direction(direction), policy.Action(action)
	var err error
	if r.Subject, err = ToID(m.GetSubject()); err != nil {
		return r, fmt.Errorf("subject: %w", err)
	}
	for _, b := range m.GetPeers() {
		id, err := ToID(b)
		if err != nil {
			return r, fmt.Errorf("peer: %w", err)
		}
		r.Peers = append(r.Peers, id)
	}
	for _, b := range m.GetBlocks() {
		block, err := toBlock(b)
		if err != nil {
			return r, err
		}
		r.Blocks = append(r.Blocks, block)
	}
	for _, p := range m.GetPorts() {
		ports, err := toPorts(p)
		if err != nil {
			return r, err
		}
		r.Ports = append(r.Ports, ports)
	}
	return r, nil
}

func toBlock(m *pb.Block) (policy.Block, error) {
	if unknown(m) {
		return policy.Block{}, malformed("a block with a field that is not known")
	}
	var b policy.Block
	var err error
	if b.CIDR, err = toPrefix(m.GetCidr()); err != nil {
		return b, err
	}
	for _, e := range m.GetExcept() {
		except, err := toPrefix(e)
		if err != nil {
			return b, fmt.Errorf("except: %w", err)
		}
		b.Except = append(b.Except, except)
	}
	return b, nil
}

func toPrefix(m *pb.Prefix) (netip.Prefix, error) {
	a, ok := netip.AddrFromSlice(m.GetAddress())
	if !ok || unknown(m) {
		return netip.Prefix{}, malformed("a prefix with an address of %d bytes, must have 4 or 16 and nothing else", len(m.GetAddress()))
	}
	if m.GetLength() > uint32(a.BitLen()) {
		return netip.Prefix{}, malformed("a prefix %s/%d", a, m.GetLength())
	}
	p := netip.PrefixFrom(a, int(m.GetLength()))
	if p != p.Masked() {
		return netip.Prefix{}, malformed("prefix %s has bits beyond its length", p)
	}
	return p, nil
}

func toPorts(m *pb.PortRange) (policy.PortRange, error) {
	p := policy.PortRange{Protocol: policy.Protocol(m.GetProtocol()), First: uint16(m.GetFirst()), Last: uint16(m.GetLast())}
	switch {
	case unknown(m):
		return p, malformed("a range of ports with a field that is not known")
	case p.Protocol != policy.TCP && p.Protocol != policy.UDP && p.Protocol != policy.SCTP || m.GetProtocol() > 255:
		return p, malformed("protocol %d, must be 6, 17 or 132", m.GetProtocol())
	case m.GetLast() > 65535 || m.GetFirst() > m.GetLast():
		return p, malformed("ports %d to %d", m.GetFirst(), m.GetLast())
	}
	return p, nil
}

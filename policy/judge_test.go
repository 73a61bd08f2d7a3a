// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"
)

func TestJudge(t *testing.T) {
	subject, group, identity := ID{1}, ID{2}, ID{3}
	pod := PodKey{"ns", "p"}
	peer := netip.MustParseAddr("10.0.0.1")
	rule := func(action Action, change func(*Rule)) Rule {
		r := Rule{Action: action, Subject: subject, AnyPeer: true}
		if change != nil {
			change(&r)
		}
		return r
	}
	np := func(rules ...Rule) *Policy {
		return &Policy{Key: Key{NetworkPolicy, "ns", "np"}, Tier: TierNamespace, Subject: subject, Isolates: [Directions]bool{true}, Rules: rules}
	}
	cnp := func(name string, tier Tier, priority int32, rules ...Rule) *Policy {
		return &Policy{Key: Key{ClusterNetworkPolicy, "", name}, Tier: tier, Priority: priority, Subject: subject, Rules: rules}
	}
	accept, deny, pass := rule(Accept, nil), rule(Deny, nil), rule(Pass, nil)
	for _, c := range []struct {
		name     string
		policies []*Policy
		want     bool
		by       string // the policy
	}{
		{"no policy", nil, true, ""},
		{"isolated", []*Policy{np()}, false, "np"},
		{"accepted", []*Policy{np(accept)}, true, "np"},
		{"of another Pod", []*Policy{np(rule(Accept, func(r *Rule) { r.Subject = ID{9} }))}, false, "np"},
		{"other direction", []*Policy{np(rule(Accept, func(r *Rule) { r.Direction = Egress }))}, false, "np"},
		{"other port", []*Policy{np(rule(Accept, func(r *Rule) { r.Ports = []PortRange{{TCP, 81, 90}} }))}, false, "np"},
		{"other protocol", []*Policy{np(rule(Accept, func(r *Rule) { r.Ports = []PortRange{{UDP, 80, 80}} }))}, false, "np"},
		{"port in a range", []*Policy{np(rule(Accept, func(r *Rule) { r.Ports = []PortRange{{TCP, 79, 80}} }))}, true, "np"},
		{"in a group", []*Policy{np(rule(Accept, func(r *Rule) { r.AnyPeer, r.Peers = false, []ID{group} }))}, true, "np"},
		{"in no group", []*Policy{np(rule(Accept, func(r *Rule) { r.AnyPeer, r.Peers = false, []ID{{8}} }))}, false, "np"},
		{"in a block", []*Policy{np(rule(Accept, func(r *Rule) {
			r.AnyPeer, r.Blocks = false, []Block{{CIDR: netip.MustParsePrefix("10.0.0.0/8")}}
		}))}, true, "np"},
		{"in what a block excepts", []*Policy{np(rule(Accept, func(r *Rule) {
			r.AnyPeer, r.Blocks = false, []Block{{netip.MustParsePrefix("10.0.0.0/8"), []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}}}
		}))}, false, "np"},
		{"admin comes first", []*Policy{np(accept), cnp("a", TierAdmin, 1, deny)}, false, "a"},
		{"by priority", []*Policy{cnp("a", TierAdmin, 2, deny), cnp("b", TierAdmin, 1, accept)}, true, "b"},
		{"then by name", []*Policy{cnp("b", TierAdmin, 1, deny), cnp("a", TierAdmin, 1, accept)}, true, "a"},
		{"pass leaves the tier", []*Policy{cnp("a", TierAdmin, 1, pass, deny), cnp("b", TierAdmin, 2, deny), np()}, false, "np"},
		{"baseline comes last", []*Policy{np(accept), cnp("a", TierBaseline, 1, deny)}, true, "np"},
		{"isolation is final", []*Policy{np(), cnp("a", TierBaseline, 1, accept)}, false, "np"},
		{"baseline counts without isolation", []*Policy{cnp("a", TierBaseline, 1, deny)}, false, "a"},
		{"pass of the last tier allows", []*Policy{cnp("a", TierBaseline, 1, pass, deny)}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewState()
			s.Pods[pod] = Pod{Key: pod, Identity: identity}
			s.Identities[identity] = &Identity{ID: identity, Subjects: []ID{subject}}
			s.Groups[group] = Addresses{peer: {}}
			for _, p := range c.policies {
				s.Policies[p.Key] = p
			}
			got := s.Judge(Connection{Pod: pod, Peer: peer, Protocol: TCP, Port: 80})
			by := ""
			if got.Policy != nil {
				by = got.Policy.Key.Name
			}
			if got.Allowed != c.want || by != c.by {
				t.Errorf("allowed %t by %q, want %t by %q", got.Allowed, by, c.want, c.by)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"
)

// TestPolicyDigest changes one thing at a time: every digest must differ.
func TestPolicyDigest(t *testing.T) {
	base := func() *Policy {
		return &Policy{
			Key: Key{Namespace: "ns", Name: "p"}, UID: "u", Subject: ID{1}, Tier: TierNamespace,
			Rules: []Rule{{
				Peers: []ID{{2}}, Ports: []PortRange{{TCP, 1, 2}},
				Blocks: []Block{{CIDR: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}},
			}},
		}
	}
	changes := map[string]func(p *Policy){
		"nothing":   func(*Policy) {},
		"kind":      func(p *Policy) { p.Key.Kind = ClusterNetworkPolicy },
		"namespace": func(p *Policy) { p.Key.Namespace, p.Key.Name = "n", "sp" },
		"uid":       func(p *Policy) { p.UID = "v" },
		"tier":      func(p *Policy) { p.Tier = TierBaseline },
		"priority":  func(p *Policy) { p.Priority = 1 },
		"subject":   func(p *Policy) { p.Subject = ID{3} },
		"ingress":   func(p *Policy) { p.Isolates[Ingress] = true },
		"egress":    func(p *Policy) { p.Isolates[Egress] = true },
		"no rule":   func(p *Policy) { p.Rules = nil },
		"two rules": func(p *Policy) { p.Rules = append(p.Rules, Rule{}) },
		"direction": func(p *Policy) { p.Rules[0].Direction = Egress },
		"action":    func(p *Policy) { p.Rules[0].Action = Deny },
		"index":     func(p *Policy) { p.Rules[0].Index = 1 },
		"name":      func(p *Policy) { p.Rules[0].Name = "r" },
		"rule of":   func(p *Policy) { p.Rules[0].Subject = ID{3} },
		"any peer":  func(p *Policy) { p.Rules[0].AnyPeer = true },
		"peer":      func(p *Policy) { p.Rules[0].Peers[0] = ID{3} },
		"two peers": func(p *Policy) { p.Rules[0].Peers = []ID{{2}, {2}} },
		"cidr":      func(p *Policy) { p.Rules[0].Blocks[0].CIDR = netip.MustParsePrefix("10.0.0.0/9") },
		"except":    func(p *Policy) { p.Rules[0].Blocks[0].Except = nil },
		"protocol":  func(p *Policy) { p.Rules[0].Ports[0].Protocol = UDP },
		"first":     func(p *Policy) { p.Rules[0].Ports[0].First = 0 },
		"last":      func(p *Policy) { p.Rules[0].Ports[0].Last = 3 },
	}
	seen := map[Digest]string{}
	for name, change := range changes {
		p := base()
		change(p)
		d := p.Digest()
		if other, found := seen[d]; found {
			t.Errorf("%q and %q have one digest", name, other)
		}
		seen[d] = name
		if again := p.Digest(); again != d {
			t.Errorf("%s: %s, then %s", name, d, again)
		}
	}
}

func TestGroupDigest(t *testing.T) {
	a, b, mapped := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("::ffff:10.0.0.1")
	set := Addresses{a: {}, b: {}, mapped: {}}
	var d Digest
	for _, address := range []netip.Addr{mapped, a, b} {
		d = d.Add(DigestOf(address))
	}
	if got := set.Digest(); got != d {
		t.Errorf("digest %s, the sum of members is %s", got, d)
	}
	if d = d.Sub(DigestOf(mapped)); d != (Addresses{b: {}, a: {}}).Digest() || d == set.Digest() {
		t.Errorf("digest without a member: %s", d)
	}
	if DigestOf(a) == DigestOf(mapped) {
		t.Error("an IPv4 address and its mapped form have one digest")
	}
	if d = d.Sub(DigestOf(a)).Sub(DigestOf(b)); d != (Digest{}) {
		t.Errorf("digest of nothing: %s", d)
	}
}

func TestIdentityAndPodDigest(t *testing.T) {
	seen := map[Digest]bool{}
	for _, i := range []*Identity{{ID: ID{1}}, {ID: ID{2}}, {ID: ID{1}, Subjects: []ID{{2}}}, {ID: ID{1}, Subjects: []ID{{2}, {3}}}} {
		seen[i.Digest()] = true
	}
	for _, p := range []Pod{
		{Key: PodKey{"a", "b"}, UID: "c"}, {Key: PodKey{"ab", ""}, UID: "c"}, {Key: PodKey{"a", "b"}, UID: "d"},
		{Key: PodKey{"a", "b"}, UID: "c", Identity: ID{1}},
	} {
		seen[p.Digest()] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d digests of 8 values", len(seen))
	}
}

func TestPositionBehind(t *testing.T) {
	tests := []struct {
		name       string
		have, of   Position
		wantBehind bool
	}{
		{name: "the same", have: Position{"pods": 5}, of: Position{"pods": 5}},
		{name: "ahead", have: Position{"pods": 6}, of: Position{"pods": 5}},
		{name: "nothing known", have: Position{"pods": 6}},
		{name: "behind", have: Position{"pods": 4, "nodes": 9}, of: Position{"pods": 5, "nodes": 2}, wantBehind: true},
		{name: "unknown kind", have: Position{"pods": 5}, of: Position{"pods": 5, "widgets": 7}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.have.Behind(test.of); got != test.wantBehind {
				t.Errorf("Behind = %t, want %t", got, test.wantBehind)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/policy"
)

// id makes a short name.
func id(kind byte, n int) policy.ID { return policy.ID{kind, byte(n >> 8), byte(n)} }

func group(n int) policy.ID   { return id('g', n) }
func subject(n int) policy.ID { return id('s', n) }

// generator makes random changes of a small world, in which things meet often.
type generator struct {
	*rand.Rand
	// peers are addresses that are in groups.
	peers []netip.Addr
	aims  aims
	// old is the state before the last change, nil before the first.
	old *policy.State
}

const (
	worldGroups     = 6
	worldSubjects   = 6
	worldIdentities = 4
	worldPods       = 4
	worldPolicies   = 8
)

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), aims: aims{}}
	for n := range worldPods {
		g.peers = append(g.peers, podAt(n).addrs...)
	}
	g.peers = append(g.peers, addresses("10.0.2.2", "10.0.2.3", "fd00:0:0:2::2", "fd00:0:0:2::3", "192.0.2.2", "fd00::2", "203.0.113.5", "203.0.113.200", "2001:db8::5")...)
	return g
}

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

// some picks each with a probability of two fifths.
func some[T any](g *generator, from []T) []T {
	var out []T
	for _, v := range from {
		if g.IntN(5) < 2 {
			out = append(out, v)
		}
	}
	return out
}

func count[T any](n int, make func(int) T) []T {
	var out []T
	for i := range n {
		out = append(out, make(i))
	}
	return out
}

var worldPrefixes = prefixes(
	"0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "10.0.1.10/31", "10.0.1.11/32", "10.0.2.0/24", "10.0.2.2/31", "203.0.113.0/24", "203.0.113.128/25",
	"::/0", "fd00::/16", "fd00:0:0:1::/64", "fd00:0:0:1::10/128", "fd00:0:0:2::/64", "fd00:0:0:2::2/127", "2001:db8::/32", "2001:db8::/64",
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func (g *generator) blocks() []policy.Block {
	var out []policy.Block
	for range g.IntN(3) {
		b := policy.Block{CIDR: pick(g, worldPrefixes)}
		var inside []netip.Prefix
		for _, p := range worldPrefixes {
			if b.CIDR.Overlaps(p) && p.Bits() > b.CIDR.Bits() {
				inside = append(inside, p)
			}
		}
		for range g.IntN(4) {
			// Mostly one that makes a difference.
			if len(inside) > 0 && g.IntN(8) != 0 {
				b.Except = append(b.Except, pick(g, inside))
			} else if g.IntN(4) == 0 {
				b.Except = append(b.Except, pick(g, worldPrefixes))
			}
		}
		out = append(out, b)
	}
	return out
}

var (
	worldPorts     = []uint16{0, 1, 80, 81, 1023, 8080, 65535}
	worldTargets   = []uint16{0, 1, 2, 79, 80, 81, 82, 1022, 1023, 1024, 8080, 65534, 65535}
	worldProtocols = []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}
)

func (g *generator) ranges() []policy.PortRange {
	var out []policy.PortRange
	for range max(g.IntN(6)-2, 0) {
		r := policy.PortRange{Protocol: pick(g, worldProtocols), First: pick(g, worldPorts), Last: pick(g, worldPorts)}
		if g.IntN(2) == 0 {
			r.Last = r.First
		}
		out = append(out, r)
	}
	return out
}

// worldPriorities are those of ClusterNetworkPolicies; often they have the same.
var worldPriorities = []int{0, 7, 7, 7, 7, 7, 999, 1000}

func (g *generator) policy(n int) *policy.Policy {
	tier := pick(g, []policy.Tier{policy.TierAdmin, policy.TierAdmin, policy.TierNamespace, policy.TierNamespace, policy.TierBaseline})
	p := &policy.Policy{Tier: tier, Subject: subject(g.IntN(worldSubjects))}
	p.Key = policy.Key{Kind: policy.NetworkPolicy, Namespace: "ns", Name: fmt.Sprintf("p%d", n)}
	if p.Tier != policy.TierNamespace {
		p.Key = policy.Key{Kind: policy.ClusterNetworkPolicy, Name: fmt.Sprintf("p%d", n)}
		p.Priority = int32(pick(g, worldPriorities))
	} else {
		p.Isolates = [policy.Directions]bool{g.IntN(2) == 0, g.IntN(2) == 0}
	}
	// Often a policy is about one direction or only isolates.
	most := [policy.Directions]int{3, 3}
	if g.IntN(2) == 0 {
		most[g.IntN(2)] = 0
	}
	if g.IntN(6) == 0 {
		most = [policy.Directions]int{}
	}
	for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
		for i := range g.IntN(most[d] + 1) {
			action := policy.Accept
			if p.Tier != policy.TierNamespace {
				action = g.action()
			}
			for range 1 + g.IntN(2) { // a named port
				r := policy.Rule{Direction: d, Action: action, Index: i, Subject: p.Subject, Ports: g.ranges()}
				if g.IntN(4) == 0 {
					r.Subject = subject(g.IntN(worldSubjects))
				}
				if r.AnyPeer = g.IntN(5) == 0; !r.AnyPeer {
					r.Peers = []policy.ID{group(g.IntN(worldGroups)), group(g.IntN(worldGroups))}[:g.IntN(3)]
					r.Blocks = g.blocks()
				}
				p.Rules = append(p.Rules, r)
			}
		}
	}
	return p
}

// identity has some subjects, or few.
func (g *generator) identity(n int) *policy.Identity {
	subjects := some(g, count(worldSubjects, subject))
	if g.IntN(3) == 0 {
		subjects = some(g, subjects)
	}
	return &policy.Identity{ID: id('i', n), Subjects: subjects}
}

// edited is a policy of which one thing changed.
func (g *generator) edited(p *policy.Policy) *policy.Policy {
	now := *p
	now.Rules = slices.Clone(p.Rules)
	switch d := g.IntN(int(policy.Directions)); {
	case p.Tier == policy.TierNamespace && g.IntN(2) == 0:
		now.Isolates[d] = !now.Isolates[d]
	case p.Tier != policy.TierNamespace && g.IntN(3) == 0:
		now.Priority = int32(pick(g, worldPriorities))
	case len(p.Rules) > 0 && g.IntN(2) == 0:
		i := g.IntN(len(p.Rules))
		now.Rules = slices.Delete(now.Rules, i, i+1)
	case len(p.Rules) > 0 && p.Tier != policy.TierNamespace:
		changed, action := pick(g, p.Rules), g.action()
		for i := range now.Rules { // all that one of the user's became
			if r := &now.Rules[i]; r.Direction == changed.Direction && r.Index == changed.Index {
				r.Action = action
			}
		}
	default:
		now.Subject = subject(g.IntN(worldSubjects))
	}
	return &now
}

// rival is p if other is a NetworkPolicy, else it is what other is, of the same
// priority, but for the name and what its rules do.
func (g *generator) rival(p, other *policy.Policy) *policy.Policy {
	if other.Tier == policy.TierNamespace {
		return p
	}
	now := *other
	now.Key = policy.Key{Kind: policy.ClusterNetworkPolicy, Name: p.Key.Name}
	now.Rules = slices.Clone(other.Rules)
	shift := 1 + g.IntN(2)
	for i := range now.Rules {
		now.Rules[i].Action = (now.Rules[i].Action + policy.Action(shift)) % 3
	}
	return &now
}

// action is one of a ClusterNetworkPolicy.
func (g *generator) action() policy.Action {
	return pick(g, []policy.Action{policy.Accept, policy.Deny, policy.Pass, policy.Pass})
}

// begin is a state in which everything exists.
func (g *generator) begin() *policy.Update {
	u := &policy.Update{}
	for n := range 2 + g.IntN(worldPolicies-2) {
		p := g.policy(n)
		if n > 0 && g.IntN(3) == 0 {
			p = g.rival(p, u.Policies[n-1])
		}
		u.Policies = append(u.Policies, p)
	}
	for n := range worldGroups {
		u.Groups = append(u.Groups, policy.GroupUpdate{ID: group(n), Whole: true, Added: some(g, some(g, g.peers))})
	}
	for n := range worldIdentities {
		u.Identities = append(u.Identities, g.identity(n))
	}
	for n := range worldPods {
		p := podAt(n).local
		u.Pods = append(u.Pods, policy.Pod{Key: p.Pod, UID: p.UID, Identity: id('i', n)})
	}
	return u
}

// update is a random change of the state.
func (g *generator) update(s *policy.State) *policy.Update {
	u := &policy.Update{}
	touched := map[policy.Key]bool{}
	for range g.IntN(3) {
		p := g.policy(g.IntN(worldPolicies))
		// A name is in one list of an update only.
		if !touched[p.Key] {
			u.Policies = append(u.Policies, p)
			touched[p.Key] = true
		}
	}
	for _, p := range sortedPolicies(s) {
		switch {
		case touched[p.Key]:
		case g.IntN(12) == 0:
			u.GonePolicies = append(u.GonePolicies, p.Key)
		case g.IntN(4) == 0:
			u.Policies = append(u.Policies, g.edited(p))
		}
	}
	for n := range worldGroups {
		had, exists := s.Groups[group(n)]
		switch {
		case g.IntN(3) != 0:
		case exists && g.IntN(6) == 0:
			u.GoneGroups = append(u.GoneGroups, group(n))
		case !exists || g.IntN(3) == 0:
			u.Groups = append(u.Groups, policy.GroupUpdate{ID: group(n), Whole: true, Added: some(g, some(g, g.peers))})
		default:
			gu := policy.GroupUpdate{ID: group(n)}
			for _, a := range some(g, g.peers) {
				if _, in := had[a]; in {
					gu.Removed = append(gu.Removed, a)
				} else if g.IntN(3) == 0 { // most are in one group or none
					gu.Added = append(gu.Added, a)
				}
			}
			u.Groups = append(u.Groups, gu)
		}
	}
	for n := range worldIdentities {
		switch g.IntN(6) {
		case 0:
			u.Identities = append(u.Identities, g.identity(n))
		case 1:
			if g.IntN(5) == 0 {
				u.GoneIdentities = append(u.GoneIdentities, id('i', n))
			}
		}
	}
	for n := range worldPods {
		p := podAt(n)
		switch g.IntN(6) {
		case 0, 1:
			uid := p.local.UID
			if g.IntN(5) == 0 {
				uid = "another"
			}
			u.Pods = append(u.Pods, policy.Pod{Key: p.local.Pod, UID: uid, Identity: id('i', g.IntN(worldIdentities))})
		case 2:
			if g.IntN(3) == 0 {
				u.GonePods = append(u.GonePods, p.local.Pod)
			}
		}
	}
	return u
}

// step makes a random change of the node.
func (g *generator) step(n *node) {
	n.t.Helper()
	g.old = n.engine.State().Clone()
	c := Change{Update: g.update(g.old)}
	first := len(g.old.Groups) == 0
	if first {
		c.Update = g.begin()
	}
	for i := range worldPods {
		p := podAt(i)
		_, attached := n.pods[p.local.Port]
		switch {
		case !attached && (first || g.IntN(2) == 0), attached && g.IntN(10) == 0:
			p.local.HoldUnknown = g.IntN(2) == 0
			c.Attached = append(c.Attached, n.attach(p))
		case attached && g.IntN(12) == 0:
			c.Detached = append(c.Detached, n.detach(p))
		}
	}
	n.apply(c)
}

func (g *generator) packet() packet {
	pods := g.peers[:2*worldPods]
	all := append(addresses("198.51.100.9", "2001:db9::9"), g.peers...)
	for {
		p := packet{src: pick(g, pods), dst: pick(g, all)}
		if g.IntN(2) == 0 {
			p.src, p.dst = p.dst, p.src
		}
		if p.src.Is4() != p.dst.Is4() || p.src == p.dst {
			continue
		}
		p.proto = pick(g, []uint8{flow.ProtoTCP, flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP, flow.ProtoICMP})
		if p.proto == flow.ProtoICMP {
			if p.src.Is6() {
				p.proto = flow.ProtoICMPv6
			}
			return p
		}
		p.sport, p.dport = uint16(20000+g.IntN(40000)), pick(g, worldTargets)
		return p
	}
}

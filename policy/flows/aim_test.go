// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// Packets at random seldom meet what is rare in policies: an exception of a
// block, a Pass that another tier would have answered otherwise. So most are
// aimed: at what a rule names and what is next to it, and of several one is sent
// that tells the right reading of the policies from a wrong one.

// candidates is from how many those are chosen that are sent after a change.
const candidates = 56

// shot is a connection as one of its ends, a Pod, sees it.
type shot struct {
	direction policy.Direction
	peer      netip.Addr
	proto     policy.Protocol
	port      uint16
}

// aim makes up a connection that a rule about a Pod matches or nearly matches;
// false if there is no such rule.
func aim(r *rand.Rand, s *policy.State, pod policy.PodKey) (shot, bool) {
	var rules []policy.Rule
	for _, p := range sortedPolicies(s) {
		for _, rule := range p.Rules {
			if isSubject(s, pod, rule.Subject) && (rule.AnyPeer || len(rule.Peers)+len(rule.Blocks) > 0) {
				rules = append(rules, rule)
				if rule.Action == policy.Pass || slices.ContainsFunc(rule.Blocks, func(b policy.Block) bool { return len(b.Except) > 0 }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	if len(rules) == 0 {
		return shot{}, false
	}
	rule := rules[r.IntN(len(rules))]
	// An address of another rule meets this one and that one at once.
	peers := peersOf(s, rule)
	if other := rules[r.IntN(len(rules))]; len(peers) == 0 || r.IntN(4) == 0 {
		peers = append(peers, peersOf(s, other)...)
	}
	if len(peers) == 0 {
		return shot{}, false
	}
	out := shot{direction: rule.Direction, peer: peers[r.IntN(len(peers))], proto: policy.TCP, port: 80}
	if r.IntN(3) == 0 {
		out.proto = worldProtocols[r.IntN(len(worldProtocols))]
	}
	if len(rule.Ports) > 0 {
		p := rule.Ports[r.IntN(len(rule.Ports))]
		out.port = []uint16{p.First, p.First, p.Last, p.Last, p.First - 1, p.Last + 1, p.First + (p.Last-p.First)/2}[r.IntN(7)]
		if r.IntN(4) != 0 {
			out.proto = p.Protocol
		} else {
			out.proto = rule.Ports[r.IntN(len(rule.Ports))].Protocol
		}
	}
	return out, true
}

// sortedPolicies are in an order that is the same for the same seed.
func sortedPolicies(s *policy.State) []*policy.Policy {
	return slices.SortedFunc(maps.Values(s.Policies), func(a, b *policy.Policy) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
}

func isSubject(s *policy.State, pod policy.PodKey, subject policy.ID) bool {
	identity := s.Identities[s.Pods[pod].Identity]
	return identity != nil && slices.Contains(identity.Subjects, subject)
}

// peersOf are the addresses of a rule's groups, and those at the edges of its
// blocks and of their exceptions, on both sides.
func peersOf(s *policy.State, r policy.Rule) []netip.Addr {
	var out []netip.Addr
	for _, g := range r.Peers {
		out = slices.AppendSeq(out, maps.Keys(s.Groups[g]))
	}
	for _, b := range r.Blocks {
		out = append(out, edgesOf(b.CIDR)...)
		for _, e := range b.Except {
			out = append(out, edgesOf(e)...)
		}
	}
	if r.AnyPeer {
		out = append(out, addresses("203.0.113.5", "2001:db8::5")...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// edgesOf are the first and the last address of a prefix and those next to them;
// an address somewhere of the prefix that holds all.
func edgesOf(p netip.Prefix) []netip.Addr {
	if p.Bits() == 0 {
		if p.Addr().Is4() {
			return addresses("198.51.100.9")
		}
		return addresses("2001:db9::9")
	}
	first := p.Masked().Addr()
	bytes := first.AsSlice()
	for bit := p.Bits(); bit < first.BitLen(); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return slices.DeleteFunc([]netip.Addr{first.Prev(), first, last, last.Next()}, func(a netip.Addr) bool { return !a.IsValid() })
}

// told is a wrong reading that a packet tells from the right one.
type told struct {
	reading   reading
	direction policy.Direction
	ip6       bool
}

// aims counts what was told, over several worlds.
type aims map[told]int

// candidate is what may be sent.
type candidate[T any] struct {
	what T
	told []told
}

// tells finds out what a connection of a Pod tells.
func tells(s, old *policy.State, pod LocalPod, c shot) []told {
	var out []told
	allowed := allowedAt(s, pod, c, right)
	for as := right + 1; as < readings; as++ {
		if allowedAt(read(s, old, as), pod, c, as) != allowed {
			out = append(out, told{as, c.direction, c.peer.Is6()})
		}
	}
	return out
}

// best returns at most n candidates: each time the one that tells what was told
// least, and counts it. Those that tell nothing come last.
func best[T any](a aims, from []candidate[T], n int) []T {
	var out []T
	for len(out) < n && len(from) > 0 {
		at, least := 0, math.MaxInt
		for i, c := range from {
			for _, t := range c.told {
				if a[t] < least {
					at, least = i, a[t]
				}
			}
		}
		for _, t := range from[at].told {
			a[t]++
			if t.reading < groupsBefore {
				a[t] += 2 // changes are what most often goes wrong
			}
		}
		out = append(out, from[at].what)
		from = slices.Delete(from, at, at+1)
	}
	return out
}

// aimed makes up packets of new connections of Pods of the node, none if no rule
// is about any. Some are aimed at policies of before the last change.
func (g *generator) aimed(n *node) []candidate[packet] {
	var out []candidate[packet]
	now := n.engine.State()
	for i := range candidates {
		pod, attached := n.pods[podAt(g.IntN(worldPods)).local.Port]
		if !attached {
			continue
		}
		at := now
		if i%3 == 0 {
			at = g.old
		}
		if s, ok := aim(g.Rand, at, pod.local.Pod); ok && !slices.Contains(pod.addrs, s.peer) {
			out = append(out, candidate[packet]{g.connection(s.at(pod)), tells(now, g.old, pod.local, s)})
		}
	}
	return out
}

// at is the first packet of the connection at a Pod, without the port of the
// client.
func (s shot) at(pod localPod) packet {
	own := pod.addrs[0]
	if s.peer.Is6() {
		own = pod.addrs[1]
	}
	if s.direction == policy.Egress {
		return packet{src: own, dst: s.peer, proto: uint8(s.proto), dport: s.port}
	}
	return packet{src: s.peer, dst: own, proto: uint8(s.proto), dport: s.port}
}

// connection gives a packet the port of a client that has none yet.
func (g *generator) connection(p packet) packet {
	p.sport = uint16(20000 + g.IntN(40000))
	return p
}

// packets are what is sent after a change: what is aimed, and anything.
func (g *generator) packets(n *node) []packet {
	out := best(g.aims, g.aimed(n), 6)
	for range 2 {
		out = append(out, g.packet())
	}
	return out
}

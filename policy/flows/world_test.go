// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// id makes a short name.
func id(kind byte, n int) policy.ID { return policy.ID{kind, byte(n >> 8), byte(n)} }

func group(n int) policy.ID   { return id('g', n) }
func subject(n int) policy.ID { return id('s', n) }

var (
	gatewayPort = uint32(1)
	gatewayMAC  = pipeline.GatewayMAC()
)

// node is a fake switch with the flows of a node and its Pods, and an Engine
// that keeps the flows of policies in it.
type node struct {
	t      testing.TB
	sw     *ovstest.Switch
	engine *Engine
	// pods are the local Pods that have an interface, by OpenFlow port.
	pods map[uint32]localPod
	// local says of connections whether their client was a local Pod when they
	// began.
	local map[packet]bool
}

type localPod struct {
	local LocalPod
	addrs []netip.Addr
	mac   net.HardwareAddr
}

func newNode(t testing.TB, params Params) *node {
	t.Helper()
	var tables []uint8
	for _, tb := range pipeline.Tables() {
		tables = append(tables, tb.ID)
	}
	n := &node{t: t, sw: ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables}), engine: New(params), pods: map[uint32]localPod{}, local: map[packet]bool{}}
	gateway := pipeline.Gateway(pipeline.GatewayParams{
		Port: gatewayPort, Addrs: addresses("10.0.1.1", "fd00:0:0:1::1"), NodeAddrs: addresses("198.51.100.1", "fdfe::1"),
	})
	for owner, flows := range map[string][]flow.Flow{pipeline.OwnerBase: pipeline.Base(), pipeline.OwnerGateway: gateway, OwnerDenied: Denied{}.Flows()} {
		if err := n.sw.Update(owner, flows, nil); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func addresses(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// podAt is the Pod number n of the node; its port is 10 + n.
func podAt(n int) localPod {
	return localPod{
		local: LocalPod{Port: uint32(10 + n), Pod: policy.PodKey{Namespace: "ns", Name: fmt.Sprintf("pod-%d", n)}, UID: fmt.Sprintf("uid-%d", n)},
		addrs: addresses(fmt.Sprintf("10.0.1.%d", 10+n), fmt.Sprintf("fd00:0:0:1::%d", 10+n)),
		mac:   net.HardwareAddr{2, 0, 0, 0, 0, byte(10 + n)},
	}
}

// attach and detach change interfaces in the switch; the Engine is told by apply.
func (n *node) attach(p localPod) LocalPod {
	n.t.Helper()
	flows := pipeline.Pod(pipeline.PodPort{Port: p.local.Port, MAC: p.mac, Addrs: p.addrs})
	if err := n.sw.Update(pipeline.OwnerPod(fmt.Sprint(p.local.Port)), flows, nil); err != nil {
		n.t.Fatal(err)
	}
	n.pods[p.local.Port] = p
	return p.local
}

func (n *node) detach(p localPod) uint32 {
	n.sw.Delete(pipeline.OwnerPod(fmt.Sprint(p.local.Port)))
	delete(n.pods, p.local.Port)
	return p.local.Port
}

func (n *node) apply(c Change) Patch {
	n.t.Helper()
	patch := n.engine.Apply(c)
	if err := n.sw.Patch(patch.Changes...); err != nil {
		n.t.Fatal(err)
	}
	return patch
}

// packet is a packet of a connection, in either direction.
type packet struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
}

func (p packet) answer() packet {
	return packet{src: p.dst, dst: p.src, proto: p.proto, sport: p.dport, dport: p.sport}
}

func (p packet) String() string {
	return fmt.Sprintf("%v %v -> %v", policy.Protocol(p.proto), netip.AddrPortFrom(p.src, p.sport), netip.AddrPortFrom(p.dst, p.dport))
}

// at is the local Pod with an address.
func (n *node) at(a netip.Addr) (localPod, bool) {
	for _, p := range n.pods {
		if slices.Contains(p.addrs, a) {
			return p, true
		}
	}
	return localPod{}, false
}

// send sends a packet, as an answer or not.
func (n *node) send(p packet, answer bool) ovstest.Verdict { return n.sw.Trace(n.packet(p, answer)) }

// packet is the packet as it reaches the switch.
func (n *node) packet(p packet, answer bool) ovstest.Packet {
	hop := ovstest.Hop{InPort: gatewayPort, Src: gatewayMAC, Dst: gatewayMAC}
	if from, local := n.at(p.src); local {
		hop = ovstest.Hop{InPort: from.local.Port, Src: from.mac, Dst: gatewayMAC}
	}
	switch p.proto {
	case flow.ProtoTCP:
		return ovstest.TCP(hop, p.src, p.dst, p.sport, p.dport)
	case flow.ProtoUDP:
		return ovstest.UDP(hop, p.src, p.dst, p.sport, p.dport)
	case flow.ProtoSCTP:
		return append(ovstest.IP(hop, p.src, p.dst, p.proto),
			flow.Uint(flow.FieldSCTPSrc, uint64(p.sport)), flow.Uint(flow.FieldSCTPDst, uint64(p.dport)))
	}
	kind := map[bool][2]uint8{false: {8, 128}, true: {0, 129}}[answer]
	if p.src.Is4() {
		return ovstest.ICMP(hop, p.src, p.dst, kind[0], 0)
	}
	return ovstest.ICMP(hop, p.src, p.dst, kind[1], 0)
}

// want is what becomes of a packet if it is allowed.
func (n *node) want(p packet) string {
	if to, local := n.at(p.dst); local {
		return fmt.Sprintf("output:%d", to.local.Port)
	}
	return fmt.Sprintf("output:%d", gatewayPort)
}

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

// generator makes random changes of a small world, in which things meet often.
type generator struct {
	*rand.Rand
	// peers are addresses that are in groups.
	peers []netip.Addr
}

const (
	worldGroups     = 6
	worldSubjects   = 6
	worldIdentities = 4
	worldPods       = 4
	worldPolicies   = 8
)

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
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

var worldPrefixes = []string{
	"0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "10.0.1.10/31", "10.0.1.11/32", "10.0.2.0/24", "203.0.113.0/24", "203.0.113.128/25",
	"::/0", "fd00::/16", "fd00:0:0:1::/64", "fd00:0:0:1::10/128", "fd00:0:0:2::/64", "2001:db8::/32",
}

func (g *generator) blocks() []policy.Block {
	var out []policy.Block
	for range g.IntN(3) {
		b := policy.Block{CIDR: netip.MustParsePrefix(pick(g, worldPrefixes))}
		for range g.IntN(3) {
			// Mostly one that makes a difference.
			e := netip.MustParsePrefix(pick(g, worldPrefixes))
			if b.CIDR.Overlaps(e) && e.Bits() > b.CIDR.Bits() || g.IntN(6) == 0 {
				b.Except = append(b.Except, e)
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
	for range max(g.IntN(5)-2, 0) {
		r := policy.PortRange{Protocol: pick(g, worldProtocols), First: pick(g, worldPorts), Last: pick(g, worldPorts)}
		if g.IntN(2) == 0 {
			r.Last = r.First
		}
		out = append(out, r)
	}
	return out
}

func (g *generator) policy(n int) *policy.Policy {
	tier := pick(g, []policy.Tier{policy.TierAdmin, policy.TierAdmin, policy.TierNamespace, policy.TierNamespace, policy.TierBaseline})
	p := &policy.Policy{Tier: tier, Subject: subject(g.IntN(worldSubjects))}
	p.Key = policy.Key{Kind: policy.NetworkPolicy, Namespace: "ns", Name: fmt.Sprintf("p%d", n)}
	if p.Tier != policy.TierNamespace {
		p.Key = policy.Key{Kind: policy.ClusterNetworkPolicy, Name: fmt.Sprintf("p%d", n)}
		p.Priority = int32(pick(g, []int{0, 7, 1000}))
	} else {
		p.Isolates = [policy.Directions]bool{g.IntN(2) == 0, g.IntN(2) == 0}
	}
	for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
		for i := range g.IntN(4) {
			action := policy.Accept
			if p.Tier != policy.TierNamespace {
				action = policy.Action(g.IntN(3))
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

// begin is a state in which everything exists.
func (g *generator) begin() *policy.Update {
	u := &policy.Update{}
	for n := range worldPolicies / 2 {
		u.Policies = append(u.Policies, g.policy(n))
	}
	for n := range worldGroups {
		u.Groups = append(u.Groups, policy.GroupUpdate{ID: group(n), Whole: true, Added: some(g, some(g, g.peers))})
	}
	for n := range worldIdentities {
		u.Identities = append(u.Identities, &policy.Identity{ID: id('i', n), Subjects: some(g, count(worldSubjects, subject))})
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
	for k := range s.Policies {
		if g.IntN(12) == 0 && !touched[k] {
			u.GonePolicies = append(u.GonePolicies, k)
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
				} else {
					gu.Added = append(gu.Added, a)
				}
			}
			u.Groups = append(u.Groups, gu)
		}
	}
	for n := range worldIdentities {
		switch g.IntN(6) {
		case 0:
			u.Identities = append(u.Identities, &policy.Identity{ID: id('i', n), Subjects: some(g, count(worldSubjects, subject))})
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
	c := Change{Update: g.update(n.engine.State())}
	first := len(n.engine.State().Groups) == 0
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

// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/naive"
)

// What there is to choose from.
var (
	// Nodes are the names of all nodes.
	Nodes      = []string{"n1", "n2", "n3"}
	namespaces = []string{"x", "y", "z"}
	keys       = []string{"app", "tier"}
	values     = []string{"a", "b", "c"}
	portNames  = []string{"http", "dns"}
	numbers    = []uint16{53, 80, 81, 8080, 65535}
	protocols  = []policy.Protocol{policy.TCP, policy.TCP, policy.UDP, policy.SCTP}
	blocks     = parseAll(netip.ParsePrefix, "10.0.0.0/28", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.5/32", "10.0.0.8/30", "0.0.0.0/0",
		"fd00::/124", "fd00::/125", "fd00::4/126", "fd00::5/128", "fd00::8/126", "::/0")
	outside = parseAll(netip.ParseAddr, "192.0.2.1", "2001:db8::1")
)

func parseAll[T any](parse func(string) (T, error), texts ...string) []T {
	var all []T
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			panic(err) // a literal above
		}
		all = append(all, v)
	}
	return all
}

// Generator makes up what happens next.
type Generator struct {
	random *rand.Rand
	// Cluster is what the changes so far lead to. Others must not change it.
	Cluster *naive.Cluster
}

// New returns a Generator that begins with nothing.
func New(seed uint64) *Generator {
	return &Generator{random: rand.New(rand.NewPCG(seed, 0)), Cluster: naive.NewCluster()}
}

// Steps returns the next steps. The first is the largest when there is nothing yet.
func (g *Generator) Steps(n int) []Step {
	var steps []Step
	for range n {
		size := 1 + g.random.IntN(2)
		if len(g.Cluster.Pods) == 0 {
			size = 8 + g.random.IntN(16)
		}
		var step Step
		for range size {
			change := g.Change()
			change.Apply(g.Cluster)
			step = append(step, change)
			if g.chance(10) {
				step = append(step, change) // told twice
			}
		}
		steps = append(steps, step)
	}
	return steps
}

// Change returns a change of the Cluster; it is not made yet.
func (g *Generator) Change() Change {
	switch n := g.random.IntN(100); {
	case n < 45:
		return g.podChange()
	case n < 55:
		name := one(g, namespaces)
		if g.chance(15) {
			return Change{GoneNamespace: name}
		}
		in := policy.NamespaceIntent{Name: name, Labels: g.labels()}
		if g.chance(80) {
			in.Labels[policy.NamespaceNameLabel] = name
		}
		return Change{Namespace: &in}
	case n < 62:
		name := one(g, Nodes)
		if g.chance(15) {
			return Change{GoneNode: name}
		}
		return Change{Node: &policy.NodeIntent{Name: name, Labels: g.labels(), Addresses: g.addresses(2)}}
	default:
		in := g.policy()
		if _, exists := g.Cluster.Policies[in.Key]; exists && g.chance(30) {
			return Change{GonePolicy: &in.Key}
		}
		return Change{Policy: in}
	}
}

func (g *Generator) podChange() Change {
	key := policy.PodKey{Namespace: one(g, namespaces), Name: fmt.Sprintf("p%d", g.random.IntN(4))}
	before, exists := g.Cluster.Pods[key]
	if exists && g.chance(20) {
		return Change{GonePod: &key}
	}
	in := before
	if !exists || g.chance(20) {
		in = policy.PodIntent{
			Key: key, UID: fmt.Sprint(g.random.IntN(1000)), Node: one(g, Nodes),
			Labels: g.labels(), Addresses: g.addresses(2), Ports: g.namedPorts(),
		}
		if g.chance(10) {
			in.Node = ""
		}
	}
	switch g.random.IntN(8) {
	case 0:
		in.Labels = g.labels()
	case 1:
		in.Addresses = g.addresses(2)
	case 2:
		in.Addresses = nil
	case 3:
		in.Ports = g.namedPorts()
	case 4:
		in.Finished = g.chance(50)
	case 5:
		in.HostNetwork = g.chance(30)
	}
	return Change{Pod: &in}
}

func (g *Generator) policy() *policy.PolicyIntent {
	in := &policy.PolicyIntent{UID: fmt.Sprint(g.random.IntN(1000))}
	if g.chance(60) {
		ns := one(g, namespaces)
		in.Key = policy.Key{Kind: policy.NetworkPolicy, Namespace: ns, Name: fmt.Sprintf("np%d", g.random.IntN(3))}
		in.Tier = policy.TierNamespace
		in.Subject = policy.PodSet{Namespace: ns, Pods: g.selector()}
		in.Isolates = [policy.Directions]bool{policy.Ingress: g.chance(75), policy.Egress: g.chance(50)}
	} else {
		in.Key = policy.Key{Kind: policy.ClusterNetworkPolicy, Name: fmt.Sprintf("cnp%d", g.random.IntN(4))}
		in.Tier = one(g, []policy.Tier{policy.TierAdmin, policy.TierBaseline})
		in.Priority = int32(g.random.IntN(3))
		in.Subject = policy.PodSet{Namespaces: g.selector(), Pods: g.selector()}
	}
	for d := range policy.Directions {
		if in.Tier == policy.TierNamespace && !in.Isolates[d] {
			continue
		}
		for i := range g.random.IntN(3) {
			in.Rules = append(in.Rules, g.rule(in, d, i))
		}
	}
	return in
}

func (g *Generator) rule(in *policy.PolicyIntent, d policy.Direction, index int) policy.RuleIntent {
	r := policy.RuleIntent{Direction: d, Index: index}
	if in.Tier != policy.TierNamespace {
		r.Action = one(g, []policy.Action{policy.Accept, policy.Deny, policy.Pass})
		r.Name = fmt.Sprintf("rule %d", index)
	}
	if r.AnyPeer = g.chance(15); !r.AnyPeer {
		for range g.random.IntN(3) {
			set := policy.PodSet{Namespace: in.Key.Namespace, Pods: g.selector()}
			if set.Namespace == "" || g.chance(40) {
				set = policy.PodSet{Namespaces: g.selector(), Pods: g.selector()}
			}
			r.Pods = append(r.Pods, set)
		}
		if g.chance(20) {
			r.Nodes = append(r.Nodes, g.selector())
		}
		for range g.random.IntN(3) {
			r.Blocks = append(r.Blocks, g.block())
		}
	}
	if r.AnyPort = g.chance(40); !r.AnyPort {
		for range g.random.IntN(3) {
			r.Ports = append(r.Ports, g.port())
		}
	}
	return r
}

func (g *Generator) port() policy.PortIntent {
	if g.chance(40) {
		p := policy.PortIntent{Name: one(g, portNames)}
		if g.chance(70) {
			p.Protocol = one(g, protocols)
		}
		return p
	}
	r := policy.PortRange{Protocol: one(g, protocols), First: one(g, numbers)}
	r.Last = r.First
	switch {
	case g.chance(10):
		r.First, r.Last = 0, 65535
	case g.chance(30):
		r.Last = max(r.First, one(g, numbers))
	}
	return policy.PortIntent{PortRange: r}
}

func (g *Generator) block() policy.Block {
	b := policy.Block{CIDR: one(g, blocks)}
	for _, e := range blocks {
		if e.Bits() > b.CIDR.Bits() && b.CIDR.Overlaps(e) && g.chance(30) {
			b.Except = append(b.Except, e)
		}
	}
	return b
}

func (g *Generator) selector() policy.Selector {
	var requirements []policy.Requirement
	for range g.random.IntN(3) {
		r := policy.Requirement{Key: one(g, keys), Operator: policy.Operator(g.random.IntN(4))}
		if g.chance(10) {
			r = policy.Requirement{Key: policy.NamespaceNameLabel, Operator: policy.Operator(g.random.IntN(2)), Values: []string{one(g, namespaces)}}
		} else if r.Operator <= policy.NotIn {
			r.Values = []string{one(g, values)}
			if g.chance(40) {
				r.Values = append(r.Values, one(g, values))
			}
		}
		requirements = append(requirements, r)
	}
	return policy.NewSelector(requirements)
}

func (g *Generator) labels() map[string]string {
	labels := map[string]string{}
	for _, key := range keys {
		if g.chance(70) {
			labels[key] = one(g, values)
		}
	}
	return labels
}

func (g *Generator) namedPorts() []policy.NamedPort {
	var ports []policy.NamedPort
	for _, name := range portNames {
		for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
			if g.chance(35) {
				ports = append(ports, policy.NamedPort{Name: name, Protocol: protocol, Number: one(g, numbers)})
			}
		}
	}
	return ports
}

func (g *Generator) address() netip.Addr {
	n := byte(g.random.IntN(12))
	if g.chance(60) {
		return netip.AddrFrom4([4]byte{10, 0, 0, n})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 15: n})
}

func (g *Generator) addresses(most int) []netip.Addr {
	set := map[netip.Addr]bool{}
	for range g.random.IntN(most + 1) {
		set[g.address()] = true
	}
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}

// Packet returns a packet at one of the Pods that policies are about, false if
// there is none.
func (g *Generator) Packet(pods []policy.PodIntent) (naive.Packet, bool) {
	var judged []policy.PodIntent
	for _, p := range pods {
		if p.Judged() && p.Node != "" {
			judged = append(judged, p)
		}
	}
	if len(judged) == 0 {
		return naive.Packet{}, false
	}
	pod := one(g, judged)
	p := naive.Packet{Pod: pod.Key, Direction: policy.Direction(g.random.IntN(2)), Protocol: one(g, protocols), Port: one(g, numbers)}
	if g.chance(5) {
		p.Protocol, p.Port = 1, 0 // ICMP
	}
	peer := g.address()
	switch {
	case g.chance(10):
		peer = one(g, outside)
	case g.chance(50):
		if other := one(g, judged); len(other.Addresses) > 0 {
			peer = one(g, other.Addresses)
		}
	}
	own := peer // of no interest where the Pod has none
	if len(pod.Addresses) > 0 {
		own = pod.Addresses[0]
	}
	if p.Source, p.Destination = peer, own; p.Direction == policy.Egress {
		p.Source, p.Destination = own, peer
	}
	return p, true
}

func (g *Generator) chance(percent int) bool { return g.random.IntN(100) < percent }

func one[T any](g *Generator, list []T) T { return list[g.random.IntN(len(list))] }

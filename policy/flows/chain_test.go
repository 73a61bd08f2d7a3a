// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/compute"
	"github.com/waymark-net/waymark/policy/naive"
	"github.com/waymark-net/waymark/policy/random"
)

// chain is a random cluster, and a switch for each node that package compute and
// an Engine keep.
type chain struct {
	t       *testing.T
	cluster *naive.Cluster
	index   *compute.Index
	nodes   map[string]*node
	ports   map[string]map[instance]localPod // by node
	next    uint32
	random  *rand.Rand
	aims    aims
	// old are the states of nodes before the last change.
	old map[string]*policy.State
}

// instance is a Pod of a name; random UIDs are not unique among all.
type instance struct {
	key policy.PodKey
	uid string
}

func instanceOf(p policy.PodIntent) instance { return instance{p.Key, p.UID} }

// TestVerdictsOfRandomClusters compares the fake switch with the words of the
// API, all the way from the objects, at the node of each Pod and after every
// random change.
func TestVerdictsOfRandomClusters(t *testing.T) {
	const wanted = 12000
	cases, denied, aims := 0, 0, aims{}
	for seed := *seed; cases < wanted; seed++ {
		generator := random.New(seed)
		c := &chain{
			t: t, cluster: naive.NewCluster(), index: compute.New(compute.Params{}),
			nodes: map[string]*node{}, ports: map[string]map[instance]localPod{},
			random: rand.New(rand.NewPCG(seed, 1)), aims: aims, old: map[string]*policy.State{},
		}
		for _, name := range random.Nodes {
			c.nodes[name], c.ports[name] = newNode(t, Params{}), map[instance]localPod{}
		}
		packets := random.New(seed)
		for i, step := range generator.Steps(6) {
			for _, change := range step {
				change.Apply(c.cluster)
				change.Tell(c.index)
			}
			c.follow()
			for _, p := range c.packets(packets) {
				pod := c.cluster.Pods[p.Pod]
				if !pod.Judged() || c.nodes[pod.Node] == nil {
					continue
				}
				allowed, why := c.cluster.Verdict(p)
				if !allowed {
					denied++
				}
				c.compare(p, allowed, why, &cases)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d, after %d cases", seed, i, cases)
			}
		}
	}
	t.Logf("%d cases, %d connections denied", cases, denied)
}

// packets are what is sent after a change: what is aimed, and anything.
func (c *chain) packets(anything *random.Generator) []naive.Packet {
	pods := c.pods()
	out := best(c.aims, c.aimed(pods), 8)
	for range 6 {
		if p, ok := anything.Packet(pods); ok {
			out = append(out, p)
		}
	}
	return out
}

// pods are all Pods, in order.
func (c *chain) pods() []policy.PodIntent {
	return slices.SortedFunc(maps.Values(c.cluster.Pods), func(a, b policy.PodIntent) int {
		return strings.Compare(a.Key.String(), b.Key.String())
	})
}

// aimed makes up packets at rules of Pods, now or before the last change.
func (c *chain) aimed(pods []policy.PodIntent) []candidate[naive.Packet] {
	var out []candidate[naive.Packet]
	for i := range min(len(pods), 1) * candidates {
		pod := pods[c.random.IntN(len(pods))]
		n := c.nodes[pod.Node]
		if n == nil || !pod.Judged() {
			continue
		}
		now, old := n.engine.State(), c.old[pod.Node]
		at := now
		if i%3 == 0 {
			at = old
		}
		if s, ok := aim(c.random, at, pod.Key); ok {
			// compare puts the Pod's own address in its place.
			p := naive.Packet{Source: s.peer, Destination: s.peer, Protocol: s.proto, Port: s.port, Pod: pod.Key, Direction: s.direction}
			out = append(out, candidate[naive.Packet]{p, tells(now, old, c.ports[pod.Node][instanceOf(pod)].local, s)})
		}
	}
	return out
}

// follow brings the nodes up to date. A Pod has addresses of its own here: those
// of the cluster may be anybody's, and to its judgement only the peer's count.
func (c *chain) follow() {
	changes := c.index.Flush()
	for _, name := range random.Nodes {
		n, have := c.nodes[name], c.ports[name]
		c.old[name] = n.engine.State().Clone()
		change := Change{Update: changes.Update(name)}
		for _, pod := range c.pods() {
			if pod.Node != name || !pod.Judged() {
				continue
			}
			if _, ok := have[instanceOf(pod)]; ok {
				continue
			}
			c.next++
			p := localPod{
				local: LocalPod{Port: 100 + c.next, Pod: pod.Key, UID: pod.UID, HoldUnknown: true},
				addrs: []netip.Addr{
					netip.AddrFrom4([4]byte{172, 16, byte(c.next >> 8), byte(c.next)}),
					netip.MustParseAddr(fmt.Sprintf("fdff::%x", c.next)),
				},
				mac: net.HardwareAddr{2, 1, 0, 0, byte(c.next >> 8), byte(c.next)},
			}
			have[instanceOf(pod)] = p
			change.Attached = append(change.Attached, n.attach(p))
		}
		for was, p := range have {
			if pod, ok := c.cluster.Pods[was.key]; !ok || pod.UID != was.uid || pod.Node != name || !pod.Judged() {
				change.Detached = append(change.Detached, n.detach(p))
				delete(have, was)
			}
		}
		n.apply(change)
	}
}

// compare sends the first packet of a connection, and its answer if it passes.
func (c *chain) compare(in naive.Packet, allowed bool, why string, cases *int) {
	c.t.Helper()
	pod := c.cluster.Pods[in.Pod]
	n, local := c.nodes[pod.Node], c.ports[pod.Node][instanceOf(pod)]
	p := packet{src: in.Source, dst: in.Destination, proto: uint8(in.Protocol), sport: uint16(20000 + *cases%40000), dport: in.Port}
	own, peer := &p.dst, p.src
	if in.Direction == policy.Egress {
		own, peer = &p.src, p.dst
	}
	*own = local.addrs[0]
	if peer.Is6() {
		*own = local.addrs[1]
		if p.proto == flow.ProtoICMP {
			p.proto = flow.ProtoICMPv6
		}
	}
	if in.Protocol == policy.Protocol(flow.ProtoICMP) {
		p.sport = 0
	}
	if n.tracked(p.answer()) {
		return // the fake tells no two pings between the same ends apart
	}
	want, wantAnswer := "drop", "drop"
	if allowed {
		want, wantAnswer = n.want(p), n.want(p.answer())
	}
	*cases++
	if v := n.send(p, false); becomes(v) != want {
		c.t.Errorf("case %d: %v of %s, %v: %v, want %s: %s; it met:\n%s", *cases, in.Direction, in.Pod, p, v, want, why, v.Met())
	}
	if allowed {
		*cases++
		if v := n.send(p.answer(), true); becomes(v) != wantAnswer {
			c.t.Errorf("case %d: %v of %s, answer to %v: %v, want %s: %s; it met:\n%s", *cases, in.Direction, in.Pod, p, v, wantAnswer, why, v.Met())
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"fmt"
	"maps"
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
	ports   map[string]map[string]localPod // by node and UID
	next    uint32
}

// TestVerdictsOfRandomClusters compares the fake switch with the words of the
// API, all the way from the objects, at the node of each Pod and after every
// random change.
func TestVerdictsOfRandomClusters(t *testing.T) {
	const wanted = 12000
	cases, denied := 0, 0
	for seed := uint64(1); cases < wanted; seed++ {
		generator := random.New(seed)
		c := &chain{
			t: t, cluster: naive.NewCluster(), index: compute.New(compute.Params{}),
			nodes: map[string]*node{}, ports: map[string]map[string]localPod{},
		}
		for _, name := range random.Nodes {
			c.nodes[name], c.ports[name] = newNode(t, Params{}), map[string]localPod{}
		}
		packets := random.New(seed)
		for i, step := range generator.Steps(6) {
			for _, change := range step {
				change.Apply(c.cluster)
				change.Tell(c.index)
			}
			c.follow()
			pods := slices.SortedFunc(maps.Values(c.cluster.Pods), func(a, b policy.PodIntent) int {
				return strings.Compare(a.Key.String(), b.Key.String())
			})
			for range 30 {
				p, ok := packets.Packet(pods)
				pod := c.cluster.Pods[p.Pod]
				if !ok || !pod.Judged() || c.nodes[pod.Node] == nil {
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

// follow brings the nodes up to date. A Pod has addresses of its own here: those
// of the cluster may be anybody's, and to its judgement only the peer's count.
func (c *chain) follow() {
	changes := c.index.Flush()
	for name, n := range c.nodes {
		change := Change{Update: changes.Update(name)}
		have := c.ports[name]
		for _, pod := range c.cluster.Pods {
			if pod.Node != name || !pod.Judged() {
				continue
			}
			if old, ok := have[pod.UID]; ok && old.local.Pod == pod.Key {
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
			if old, ok := have[pod.UID]; ok {
				change.Detached = append(change.Detached, n.detach(old))
			}
			have[pod.UID] = p
			change.Attached = append(change.Attached, n.attach(p))
		}
		for uid, p := range have {
			if pod, ok := c.cluster.Pods[p.local.Pod]; !ok || pod.UID != uid || pod.Node != name || !pod.Judged() {
				change.Detached = append(change.Detached, n.detach(p))
				delete(have, uid)
			}
		}
		n.apply(change)
	}
}

// compare sends the first packet of a connection, and its answer if it passes.
func (c *chain) compare(in naive.Packet, allowed bool, why string, cases *int) {
	c.t.Helper()
	pod := c.cluster.Pods[in.Pod]
	n, local := c.nodes[pod.Node], c.ports[pod.Node][pod.UID]
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
		c.t.Errorf("%v of %s, %v: %v, want %s: %s; it met:\n%s", in.Direction, in.Pod, p, v, want, why, v.Met())
	}
	if allowed {
		*cases++
		if v := n.send(p.answer(), true); becomes(v) != wantAnswer {
			c.t.Errorf("%v of %s, answer to %v: %v, want %s: %s; it met:\n%s", in.Direction, in.Pod, p, v, wantAnswer, why, v.Met())
		}
	}
}

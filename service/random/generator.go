// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
)

// Generator makes up what happens next.
type Generator struct {
	random *rand.Rand
	// Cluster is what the changes so far lead to. Others must not change it.
	Cluster naive.Cluster
}

// New returns a Generator that begins with the Services of a cluster, of which
// it keeps a copy.
func New(seed uint64, c naive.Cluster) *Generator {
	c.Services = maps.Clone(c.Services)
	return &Generator{random: rand.New(rand.NewPCG(seed, 4)), Cluster: c}
}

// Steps returns the next steps. The first is the largest.
func (g *Generator) Steps(n int) []Step {
	var steps []Step
	for range n {
		size := 1 + g.random.IntN(2)
		var step Step
		if len(steps) == 0 {
			size = 2 + g.random.IntN(5)
			step = append(step, g.nodeChange())
		}
		for range size {
			step = append(step, g.change(len(steps) == 0))
			step[len(step)-1].Apply(&g.Cluster)
			if g.chance(10) {
				step = append(step, step[len(step)-1]) // told twice
			}
		}
		steps = append(steps, step)
	}
	return steps
}

func (g *Generator) change(fresh bool) Change {
	key := service.Key{Namespace: one(g, []string{"a", "b"}), Name: one(g, []string{"x", "y", "z"})}
	before, exists := g.Cluster.Services[key]
	switch n := g.random.IntN(100); {
	case fresh || !exists && n < 30 || n < 5:
		s := tidy(g.service(key))
		return Change{Set: &s}
	case n < 12:
		return Change{Gone: &key} // whether it exists or not
	case n < 18:
		return g.nodeChange()
	case !exists:
		// One that exists, if there is any, so that what happens is mostly a change.
		keys := g.Cluster.Keys()
		if len(keys) == 0 {
			return Change{Gone: &key}
		}
		before = g.Cluster.Services[one(g, keys)]
	}
	s := tidy(g.edit(before))
	return Change{Set: &s}
}

// tidy takes away what no API server lets anybody write, nor means anything: an
// address that is a ClusterIP of the Service and another of its addresses.
func tidy(s service.Service) service.Service {
	own := func(a netip.Addr) bool { return slices.Contains(s.ClusterIPs, a) }
	s.ExternalIPs = slices.DeleteFunc(slices.Clone(s.ExternalIPs), own)
	s.LoadBalancerIPs = slices.DeleteFunc(slices.Clone(s.LoadBalancerIPs), own)
	return s
}

func (g *Generator) nodeChange() Change {
	n := service.Node{Name: Node, Zone: one(g, zones), Addrs: pick(g, NodeAddrs, 75)}
	n.Addrs = slices.Clone(n.Addrs)
	g.random.Shuffle(len(n.Addrs), func(i, j int) { n.Addrs[i], n.Addrs[j] = n.Addrs[j], n.Addrs[i] })
	return Change{Node: &n}
}

// service makes up a Service.
func (g *Generator) service(key service.Key) service.Service {
	s := service.Service{Key: key, PublishNotReady: g.chance(10), InternalLocal: g.chance(25), ExternalLocal: g.chance(50)}
	s.ClusterIPs = g.clusterIPs()
	s.ExternalIPs, s.LoadBalancerIPs = g.outsideIPs(), g.outsideIPs()
	if g.chance(40) {
		s.SourceRanges = pick(g, sourceRanges, 30)
	}
	if g.chance(40) {
		s.Affinity = one(g, affinities)
	}
	if s.ExternalLocal || g.chance(10) {
		s.HealthCheckPort = uint16(31000 + g.random.IntN(1000))
	}
	for range 1 + g.random.IntN(2) {
		s.Ports = append(s.Ports, g.port())
	}
	return s
}

func (g *Generator) clusterIPs() []netip.Addr {
	ips := []netip.Addr{one(g, clusterIPs4), one(g, clusterIPs6)}
	switch g.random.IntN(4) {
	case 0:
		return ips[:1]
	case 1:
		return ips[1:]
	}
	return ips
}

func (g *Generator) outsideIPs() []netip.Addr {
	if g.chance(50) {
		return nil
	}
	if g.chance(4) {
		return []netip.Addr{one(g, clusterIPs4)} // wrong, perhaps that of another
	}
	return pick(g, outsideIPs, 35)
}

func (g *Generator) port() service.Port {
	p := service.Port{Protocol: one(g, protocols), Port: one(g, ports)}
	if g.chance(60) {
		p.NodePort = one(g, nodePorts)
	}
	p.Endpoints = g.endpoints()
	return p
}

// endpoints are mostly few, of one mind: most have hints of a kind or none has.
func (g *Generator) endpoints() []service.Endpoint {
	n := g.random.IntN(6)
	if g.chance(3) {
		n = 12 + g.random.IntN(30)
	}
	zoneHints, nodeHints := one(g, []int{0, 0, 90, 100}), one(g, []int{0, 0, 0, 90, 100})
	readyShare := one(g, []int{0, 50, 80, 100})
	var out []service.Endpoint
	for range n {
		e := g.endpoint(readyShare)
		if n > 8 && g.chance(80) { // there are not so many addresses
			e.AddrPort = netip.AddrPortFrom(e.Addr(), uint16(9000+g.random.IntN(50)))
		}
		if g.chance(zoneHints) {
			e.ForZones = []string{one(g, hintZones)}
		}
		if g.chance(nodeHints) {
			e.ForNodes = []string{one(g, hintNodes)}
		}
		if g.chance(10) {
			e.ForZones = append(e.ForZones, one(g, hintZones))
		}
		out = append(out, e)
		if g.chance(5) { // in two slices, in another state there
			e.Ready, e.Serving, e.Terminating = g.conditions(readyShare)
			out = append(out, e)
		}
	}
	return out
}

func (g *Generator) endpoint(readyShare int) service.Endpoint {
	addr := one(g, endpointAddrs)
	e := service.Endpoint{AddrPort: netip.AddrPortFrom(addr, one(g, endpointPorts)), Node: nodeOf(addr)}
	if g.chance(5) {
		e.Node = one(g, []string{"", Node, TunnelNode})
	}
	e.Ready, e.Serving, e.Terminating = g.conditions(readyShare)
	return e
}

// nodeOf is the node whose name the endpoint at an address has.
func nodeOf(addr netip.Addr) string {
	for prefix, node := range nodesOf {
		if strings.HasPrefix(addr.String(), prefix) {
			return node
		}
	}
	if slices.Contains(NodeAddrs, addr) {
		return Node
	}
	return ""
}

// conditions are as the endpoint controller sets them.
func (g *Generator) conditions(readyShare int) (ready, serving, terminating bool) {
	if g.chance(readyShare) {
		return true, true, false
	}
	serving, terminating = g.chance(60), g.chance(70)
	return false, serving, terminating
}

func (g *Generator) chance(percent int) bool { return g.random.IntN(100) < percent }

func one[T any](g *Generator, list []T) T { return list[g.random.IntN(len(list))] }

// pick returns those of a list that a chance picks.
func pick[T any](g *Generator, list []T, percent int) []T {
	var out []T
	for _, v := range list {
		if g.chance(percent) {
			out = append(out, v)
		}
	}
	return out
}

// String is the change as a test would make it.
func (c Change) String() string {
	switch {
	case c.Gone != nil:
		return fmt.Sprintf("%s is gone", c.Gone)
	case c.Node != nil:
		return fmt.Sprintf("node in zone %q at %v", c.Node.Zone, c.Node.Addrs)
	}
	s := c.Set
	text := fmt.Sprintf("%s: ClusterIPs %v, ExternalIPs %v, LoadBalancerIPs %v for %v, publishNotReady %t, affinity %s, internal Local %t, external Local %t, health check %d",
		s.Key, s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs, s.SourceRanges, s.PublishNotReady, s.Affinity, s.InternalLocal, s.ExternalLocal, s.HealthCheckPort)
	for _, p := range s.Ports {
		text += fmt.Sprintf("\n  %s %d, NodePort %d", p.Protocol, p.Port, p.NodePort)
		for _, e := range p.Endpoints {
			text += fmt.Sprintf("\n    %s ready %t, serving %t, terminating %t, node %q, for zones %q, for nodes %q",
				e.AddrPort, e.Ready, e.Serving, e.Terminating, e.Node, e.ForZones, e.ForNodes)
		}
	}
	return text
}

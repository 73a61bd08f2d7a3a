// SPDX-License-Identifier: Apache-2.0

package random

import (
	"slices"

	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
)

// Change is what happened to one thing: one of the fields is set.
type Change struct {
	Set  *service.Service
	Gone *service.Key
	Node *service.Node
}

// Step are changes after which everything must hold.
type Step []Change

// Listener is what changes are told to, such as a *service.Compiler.
type Listener interface {
	SetNode(service.Node)
	Set(service.Service)
	Delete(service.Key)
}

// Tell tells a Listener of the change.
func (c Change) Tell(l Listener) {
	switch {
	case c.Set != nil:
		l.Set(*c.Set)
	case c.Gone != nil:
		l.Delete(*c.Gone)
	case c.Node != nil:
		l.SetNode(*c.Node)
	}
}

// Apply makes the change in a cluster.
func (c Change) Apply(cluster *naive.Cluster) {
	switch {
	case c.Set != nil:
		cluster.Services[c.Set.Key] = *c.Set
	case c.Gone != nil:
		delete(cluster.Services, *c.Gone)
	case c.Node != nil:
		cluster.Node = *c.Node
	}
}

// edit returns a Service with one thing changed.
func (g *Generator) edit(s service.Service) service.Service {
	if g.chance(60) {
		return g.editPort(s)
	}
	switch g.random.IntN(9) {
	case 0:
		s.ClusterIPs = g.clusterIPs()
	case 1:
		s.ExternalIPs = g.outsideIPs()
	case 2:
		s.LoadBalancerIPs = g.outsideIPs()
	case 3:
		s.SourceRanges = pick(g, sourceRanges, 30)
	case 4:
		s.PublishNotReady = !s.PublishNotReady
	case 5:
		s.Affinity = 0
		if g.chance(80) {
			s.Affinity = one(g, affinities)
		}
	case 6:
		s.InternalLocal = !s.InternalLocal
	case 7:
		s.ExternalLocal = !s.ExternalLocal
	case 8:
		s.HealthCheckPort = uint16(31000 + g.random.IntN(1000))
	}
	return s
}

// editPort returns a Service with one thing of its ports changed.
func (g *Generator) editPort(s service.Service) service.Service {
	s.Ports = slices.Clone(s.Ports)
	n := g.random.IntN(100)
	switch {
	case len(s.Ports) == 0 || n < 6:
		s.Ports = append(s.Ports, g.port())
		return s
	case n < 10:
		i := g.random.IntN(len(s.Ports))
		s.Ports = slices.Delete(s.Ports, i, i+1)
		return s
	}
	p := &s.Ports[g.random.IntN(len(s.Ports))]
	switch {
	case n < 13:
		p.Protocol = one(g, protocols)
	case n < 16:
		p.Port = one(g, ports)
	case n < 22:
		p.NodePort = 0
		if g.chance(70) {
			p.NodePort = one(g, nodePorts)
		}
	case n < 30:
		p.Endpoints = g.endpoints()
	default:
		p.Endpoints = g.editEndpoints(slices.Clone(p.Endpoints))
	}
	return s
}

// editEndpoints returns endpoints of which one comes, goes or changes.
func (g *Generator) editEndpoints(list []service.Endpoint) []service.Endpoint {
	if len(list) == 0 || g.chance(20) {
		return slices.Insert(list, g.random.IntN(len(list)+1), g.endpoint(80))
	}
	i := g.random.IntN(len(list))
	e := &list[i]
	switch g.random.IntN(10) {
	case 0, 1:
		return slices.Delete(list, i, i+1)
	case 2:
		j := g.random.IntN(len(list))
		list[i], list[j] = list[j], list[i]
	case 3:
		e.Node = one(g, []string{"", Node, TunnelNode, nodeOf(e.Addr())})
	case 4:
		e.ForZones = pick(g, hintZones, 40)
	case 5:
		e.ForNodes = pick(g, hintNodes, 40)
	default:
		e.Ready, e.Serving, e.Terminating = g.conditions(40)
	}
	return list
}

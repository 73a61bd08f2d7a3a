// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/ovs/pipeline"
)

// place is where a Service is reached, as the switch sees it. A place with port
// 0 stands for all other ports of a ClusterIP.
type place struct {
	addr     netip.Addr
	protocol Protocol
	port     uint16
}

// target is what becomes of a connection.
type target struct {
	// set is the index of the endpoints in compiled.sets, or one of the others.
	set int
}

// Targets that are no set of endpoints.
var (
	refused = target{-1}
	ignored = target{-2}
)

// frontend is a place with who may come there and where they go.
type frontend struct {
	place
	rank
	// to is for everybody, outside for who is neither a Pod nor the node.
	to, outside target
	// limited says that only clients in the Service's ranges may come.
	limited bool
	// of is the port of the Service.
	of uint16
}

// isNodePort reports whether f is where the kernel leads what comes to a NodePort.
func (f frontend) isNodePort() bool {
	return f.addr == pipeline.NodePort4 || f.addr == pipeline.NodePort6
}

// set is a set of endpoints that serves frontends of a Service.
type set struct {
	is4       bool
	protocol  Protocol
	port      uint16
	local     bool
	endpoints []netip.AddrPort
	// groups are the numbers of its groups; the first is that of the set.
	groups []uint32
	// sticky are the numbers of its endpoints where clients keep theirs.
	sticky []uint32
}

// layout is everything about a Service that does not depend on other Services.
type layout struct {
	frontends []frontend
	sets      []set
}

// layOut decides where a Service is reached at a node, and who goes where.
func layOut(s *Service, n Node, aliases map[netip.Addr]netip.Addr) layout {
	l := &layouter{service: s, node: n, aliases: aliases}
	for i, p := range s.Ports {
		if !s.repeats(i) {
			l.port(p)
		}
	}
	for _, a := range s.ClusterIPs {
		l.add(frontend{place: place{addr: a}, to: refused, outside: refused})
	}
	return l.layout
}

// repeats reports whether a port is named a second time: it is served as it is
// named first.
func (s *Service) repeats(i int) bool {
	return slices.ContainsFunc(s.Ports[:i], func(o Port) bool {
		return o.Protocol == s.Ports[i].Protocol && o.Port == s.Ports[i].Port
	})
}

type layouter struct {
	layout
	service *Service
	node    Node
	aliases map[netip.Addr]netip.Addr
}

// add leaves out what a Service names twice: as it is named first counts.
func (l *layouter) add(f frontend) {
	if !slices.ContainsFunc(l.frontends, func(o frontend) bool { return o.place == f.place }) {
		l.frontends = append(l.frontends, f)
	}
}

func (l *layouter) port(p Port) {
	for _, is4 := range []bool{true, false} {
		internal, outside := l.places(p, is4)
		if len(internal)+len(outside) == 0 {
			continue
		}
		e := p.choose(l.node, is4, l.service.PublishNotReady)
		c := chooser{layouter: l, port: p, is4: is4, endpoints: e, cluster: -1, local: -1}
		for _, f := range internal {
			f.to = c.target(l.service.InternalLocal)
			f.outside = f.to
			l.add(f)
		}
		for _, f := range outside {
			f.to, f.outside = c.target(false), c.target(l.service.ExternalLocal)
			l.add(f)
		}
	}
}

// places lists where a port is reached in a family.
func (l *layouter) places(p Port, is4 bool) (internal, outside []frontend) {
	at := func(r rank, a netip.Addr, port uint16) frontend {
		return frontend{rank: r, place: place{a, p.Protocol, port}, of: p.Port}
	}
	family := false
	for _, a := range l.service.ClusterIPs {
		if a.Is4() == is4 {
			family = true
			internal = append(internal, at(clusterIP, a, p.Port))
		}
	}
	if l.node.ClusterIPsOnly {
		return internal, nil
	}
	for _, o := range l.service.outside() {
		if o.addr.Is4() != is4 {
			continue
		}
		for _, a := range []netip.Addr{o.addr, l.aliases[o.addr]} {
			if a.IsValid() {
				f := at(external, a, p.Port)
				f.limited = o.limited
				outside = append(outside, f)
			}
		}
	}
	// A Service has NodePorts in the families of its ClusterIPs.
	if p.NodePort == 0 || !family {
		return internal, outside
	}
	v := pipeline.NodePort6
	if is4 {
		v = pipeline.NodePort4
	}
	outside = append(outside, at(nodePort, v, p.NodePort))
	for _, a := range l.node.Addrs {
		if a.Is4() == is4 {
			outside = append(outside, at(nodePort, a, p.NodePort))
		}
	}
	return internal, outside
}

// outsideAddr is an address to the outside.
type outsideAddr struct {
	addr netip.Addr
	// limited says that only clients in the Service's ranges may come.
	limited bool
}

// outside lists the Service's addresses to the outside, each once.
func (s *Service) outside() []outsideAddr {
	var out []outsideAddr
	add := func(a netip.Addr, limited bool) {
		if !slices.ContainsFunc(out, func(o outsideAddr) bool { return o.addr == a }) {
			out = append(out, outsideAddr{a, limited})
		}
	}
	for _, a := range s.LoadBalancerIPs {
		add(a, len(s.SourceRanges) > 0)
	}
	for _, a := range s.ExternalIPs {
		add(a, false)
	}
	return out
}

// chooser makes the sets of endpoints of a port and family that are used.
type chooser struct {
	*layouter
	port           Port
	is4            bool
	endpoints      endpoints
	cluster, local int // indexes, -1 while there is none
}

// target says where connections go, to endpoints of the node only if local.
func (c *chooser) target(local bool) target {
	switch {
	case len(c.endpoints.cluster) == 0:
		return refused
	case local && len(c.endpoints.local) == 0:
		return ignored
	// What clients keep is by set: it must not depend on whether there happen to be
	// endpoints at other nodes.
	case !local || c.service.Affinity == 0 && slices.Equal(c.endpoints.local, c.endpoints.cluster):
		return target{c.index(&c.cluster, false, c.endpoints.cluster)}
	}
	return target{c.index(&c.local, true, c.endpoints.local)}
}

func (c *chooser) index(at *int, local bool, e []netip.AddrPort) int {
	if *at < 0 {
		*at = len(c.sets)
		s := set{
			is4: c.is4, protocol: c.port.Protocol, port: c.port.Port, local: local, endpoints: e, groups: make([]uint32, groupCount(len(e))),
		}
		if c.service.Affinity > 0 {
			s.sticky = stickyNumbers(e)
		}
		c.sets = append(c.sets, s)
	}
	return *at
}

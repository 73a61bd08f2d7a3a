// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Host is what the node itself has to do for Services.
type Host struct {
	// Routes are the addresses that the kernel is to route into the switch.
	Routes []netip.Addr
	// NodePorts are the ports at addresses of the node, Aliases those at other
	// addresses, that the kernel is to hand the switch under another address.
	NodePorts []NodePort
	Aliases   []Alias
	// HealthChecks are the ports at which load balancers ask for endpoints.
	HealthChecks []HealthCheck
	// Announced are the addresses that the node may announce: where the Service has
	// endpoints, of the node with InternalLocal at ClusterIPs, and with ExternalLocal
	// at the others.
	Announced []Announcement
	// Addrs are all at which the node serves Services, NodePorts left out.
	Addrs []netip.Addr
}

// NodePort is a port at addresses of the node.
type NodePort struct {
	Key      Key
	Protocol Protocol
	Port     uint16
}

// Alias says that what comes for a port of an address gets another address.
type Alias struct {
	Protocol Protocol
	At       netip.AddrPort
	To       netip.Addr
}

// HealthCheck is how many endpoints of the node are ready.
type HealthCheck struct {
	Key       Key
	Port      uint16
	Endpoints int
}

// AddressKind says what an address is to a Service.
type AddressKind string

// The kinds of address, as the API of Kubernetes calls them.
const (
	ClusterIP      AddressKind = "ClusterIP"
	ExternalIP     AddressKind = "ExternalIP"
	LoadBalancerIP AddressKind = "LoadBalancerIP"
)

// Announcement is an address of a Service that the node may announce. One that is
// of several kinds is there once for each.
type Announcement struct {
	Key  Key
	Addr netip.Addr
	Kind AddressKind
	// Labels are the Service's. They are not changed.
	Labels map[string]string
}

// Host returns what the Services asked of the node at the last Flush, in order,
// and whether that has changed since the last call. The lists are not changed
// afterwards.
func (c *Compiler) Host() (h Host, changed bool) {
	if !c.rehost {
		return c.host, false
	}
	c.rehost = false
	for _, k := range slices.SortedFunc(maps.Keys(c.services), Key.compare) {
		s := c.services[k].host
		h.Routes = append(h.Routes, s.Routes...)
		h.NodePorts = append(h.NodePorts, s.NodePorts...)
		h.Aliases = append(h.Aliases, s.Aliases...)
		h.HealthChecks = append(h.HealthChecks, s.HealthChecks...)
		h.Announced = append(h.Announced, s.Announced...)
	}
	slices.SortFunc(h.Routes, netip.Addr.Compare)
	h.Routes = slices.Compact(h.Routes)
	h.Addrs = slices.Clone(h.Routes)
	for _, a := range h.Aliases {
		h.Addrs = append(h.Addrs, a.At.Addr())
	}
	slices.SortFunc(h.Addrs, netip.Addr.Compare)
	h.Addrs = slices.Compact(h.Addrs)
	slices.SortFunc(h.NodePorts, func(a, b NodePort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	slices.SortFunc(h.Aliases, func(a, b Alias) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Protocol, b.Protocol))
	})
	c.host = h
	return h, true
}

func (c *Compiler) hostOf(s *compiled) Host {
	var h Host
	if c.node.ClusterIPsOnly {
		return h
	}
	k := s.service.Key
	h.Routes = s.service.ClusterIPs
	for _, p := range s.service.Ports {
		np := NodePort{k, p.Protocol, p.NodePort}
		if p.NodePort != 0 && c.ownsNodePort(k, s, p) && !slices.Contains(h.NodePorts, np) {
			h.NodePorts = append(h.NodePorts, np)
		}
	}
	for _, o := range s.service.outside() {
		to := c.aliases.of[o.addr]
		for _, f := range s.frontends {
			if to.IsValid() && f.addr == to && c.places.owner(f.place) == k {
				h.Aliases = append(h.Aliases, Alias{f.protocol, netip.AddrPortFrom(o.addr, f.port), to})
			}
		}
	}
	h.Announced = c.announcements(k, s)
	if s.service.HealthCheckPort != 0 && s.service.ExternalLocal {
		h.HealthChecks = append(h.HealthChecks, HealthCheck{k, s.service.HealthCheckPort, s.readyHere(c.node)})
	}
	return h
}

// ownsNodePort reports whether a Service has a NodePort in any family.
func (c *Compiler) ownsNodePort(k Key, s *compiled, p Port) bool {
	return slices.ContainsFunc(s.frontends, func(f frontend) bool {
		return f.isNodePort() && f.port == p.NodePort && f.protocol == p.Protocol && c.places.owner(f.place) == k
	})
}

// announcements are the addresses of a Service that the node may announce.
func (c *Compiler) announcements(k Key, s *compiled) []Announcement {
	var out []Announcement
	add := func(kind AddressKind, addrs []netip.Addr) {
		for i, a := range addrs {
			at := a
			if kind != ClusterIP {
				at = c.aliases.of[a]
			}
			if at.IsValid() && c.announced(k, s, at) && !slices.Contains(addrs[:i], a) {
				out = append(out, Announcement{k, a, kind, s.service.Labels})
			}
		}
	}
	add(LoadBalancerIP, s.service.LoadBalancerIPs)
	add(ExternalIP, s.service.ExternalIPs)
	add(ClusterIP, s.service.ClusterIPs)
	return out
}

// announced reports whether a client from outside would get an endpoint of any
// port that a Service has at an address as the switch sees it.
func (c *Compiler) announced(k Key, s *compiled, at netip.Addr) bool {
	return slices.ContainsFunc(s.frontends, func(f frontend) bool {
		return f.addr == at && f.outside != refused && f.outside != ignored && c.places.owner(f.place) == k
	})
}

// readyHere counts the node's ready endpoints, in the family of the Service that
// has more: a Pod has an address in each. Those that are leaving serve while there are no others, but load
// balancers are to look for another node (KEP-1669).
func (s *compiled) readyHere(n Node) int {
	count := map[bool]map[netip.Addr]bool{true: {}, false: {}}
	for i, p := range s.service.Ports {
		if s.service.repeats(i) {
			continue
		}
		for _, e := range p.Endpoints {
			is4 := e.Addr().Is4()
			if n.Name != "" && e.Node == n.Name && (e.Ready || s.service.PublishNotReady) &&
				slices.ContainsFunc(s.service.ClusterIPs, func(a netip.Addr) bool { return a.Is4() == is4 }) {
				count[is4][e.Addr()] = true
			}
		}
	}
	return max(len(count[true]), len(count[false]))
}

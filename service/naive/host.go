// SPDX-License-Identifier: Apache-2.0

package naive

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/service"
)

// Host is what the node's kernel, load balancers and routers need to know; it
// leaves Problems out.
func (c Cluster) Host() service.Host {
	var h service.Host
	for _, key := range c.Keys() {
		s := c.Services[key]
		// The addresses of the kind that only Services have. Those to the outside may
		// be other machines' or the node's, which keep them.
		h.Routes = append(h.Routes, s.ClusterIPs...)
		for _, p := range portsOf(s) {
			at4, at6 := netip.AddrPortFrom(c.NodePort4, p.NodePort), netip.AddrPortFrom(c.NodePort6, p.NodePort)
			if p.NodePort != 0 && (c.owns(key, false, p.Protocol, at4) || c.owns(key, false, p.Protocol, at6)) {
				h.NodePorts = append(h.NodePorts, service.NodePort{Key: key, Protocol: p.Protocol, Port: p.NodePort})
			}
		}
		h.Aliases = append(h.Aliases, c.aliases(s)...)
		// healthCheckNodePort: only with externalTrafficPolicy Local.
		if s.ExternalLocal && s.HealthCheckPort != 0 {
			h.HealthChecks = append(h.HealthChecks, service.HealthCheck{Key: key, Port: s.HealthCheckPort, Endpoints: c.healthy(s)})
		}
		h.Announced = append(h.Announced, c.announced(s)...)
	}
	h.Addrs = slices.Clone(h.Routes)
	for _, a := range h.Aliases {
		h.Addrs = append(h.Addrs, a.At.Addr())
	}
	h.Addrs = sorted(h.Addrs, netip.Addr.Compare)
	h.Routes = sorted(h.Routes, netip.Addr.Compare)
	h.NodePorts = sorted(h.NodePorts, CompareNodePorts)
	h.Aliases = sorted(h.Aliases, CompareAliases)
	h.HealthChecks = sorted(h.HealthChecks, CompareHealthChecks)
	h.Announced = sorted(h.Announced, CompareAnnouncements)
	return h
}

// owns reports whether it is a Service that has a frontend.
func (c Cluster) owns(key service.Key, pods bool, protocol service.Protocol, at netip.AddrPort) bool {
	owner, ok := c.owner(pods, protocol, at)
	return ok && owner.service.Key == key
}

// aliases are for the frontends to the outside that a Service has on the kernel's
// side. NodePorts have another way.
func (c Cluster) aliases(s service.Service) []service.Alias {
	var out []service.Alias
	for _, a := range outside(s) {
		for _, p := range portsOf(s) {
			at := netip.AddrPortFrom(a, p.Port)
			if c.owns(s.Key, false, p.Protocol, netip.AddrPortFrom(c.Alias(a), p.Port)) {
				out = append(out, service.Alias{At: at, Protocol: p.Protocol, To: c.Alias(a)})
			}
		}
	}
	return out
}

// healthy counts the Pods of the node that are ready, in the family that has more:
// a Pod has an address in each. KEP-1669: load balancers are not told of those that
// terminate.
func (c Cluster) healthy(s service.Service) int {
	most := 0
	for _, is4 := range []bool{true, false} {
		addrs := map[netip.Addr]bool{}
		for _, p := range portsOf(s) {
			for _, e := range p.Endpoints {
				if e.Addr().Is4() == is4 && e.Node == c.Node.Name && isReady(s, e) && hasFamily(s, is4) {
					addrs[e.Addr()] = true
				}
			}
		}
		most = max(most, len(addrs))
	}
	return most
}

// announced are the addresses at which the node serves a Service to the outside
// now: with a traffic policy Local only a node with endpoints does.
func (c Cluster) announced(s service.Service) []service.Announcement {
	var out []service.Announcement
	add := func(kind service.AddressKind, local bool, addrs []netip.Addr, at func(netip.Addr) netip.Addr) {
		for _, a := range addrs {
			for _, p := range portsOf(s) {
				endpoints, _ := c.ClusterEndpoints(s, p, a.Is4())
				if local {
					endpoints, _ = c.LocalEndpoints(s, p, a.Is4())
				}
				if len(endpoints) > 0 && c.owns(s.Key, false, p.Protocol, netip.AddrPortFrom(at(a), p.Port)) {
					out = append(out, service.Announcement{Key: s.Key, Addr: a, Kind: kind, Labels: s.Labels})
				}
			}
		}
	}
	add(service.LoadBalancerIP, s.ExternalLocal, s.LoadBalancerIPs, c.Alias)
	add(service.ExternalIP, s.ExternalLocal, s.ExternalIPs, c.Alias)
	add(service.ClusterIP, s.InternalLocal, s.ClusterIPs, func(a netip.Addr) netip.Addr { return a })
	return out
}

// Alive reports whether a connection to an endpoint of a port goes on. UDP knows
// no end of a connection: it lasts while the endpoint serves. Other protocols end
// theirs themselves; there the endpoint only has to exist.
func (c Cluster) Alive(key service.Key, protocol service.Protocol, port uint16, endpoint netip.AddrPort) bool {
	s := c.Services[key]
	for _, p := range portsOf(s) {
		if p.Protocol != protocol || p.Port != port {
			continue
		}
		return slices.ContainsFunc(p.Endpoints, func(e service.Endpoint) bool {
			return e.AddrPort == endpoint && (protocol != service.UDP || isReady(s, e) || e.Serving)
		})
	}
	return false
}

// Frontend is where a Service is reached.
type Frontend struct {
	Key  service.Key
	Port uint16 // of the Service
	// Pods says that Pods reach it there, else the kernel does.
	Pods     bool
	Protocol service.Protocol
	At       netip.AddrPort
}

// Frontends lists where packets find Services, in an order.
func (c Cluster) Frontends() []Frontend {
	return slices.DeleteFunc(c.Claims(), func(f Frontend) bool { return !c.owns(f.Key, f.Pods, f.Protocol, f.At) })
}

// Claims lists where packets would find Services if there was no other, in an
// order.
func (c Cluster) Claims() []Frontend {
	var out []Frontend
	for _, key := range c.Keys() {
		s := c.Services[key]
		for _, pods := range []bool{true, false} {
			for _, p := range portsOf(s) {
				add := func(at netip.AddrPort) {
					if claim, ok := c.claimOf(s, pods, p.Protocol, at); ok && at.Addr().IsValid() {
						out = append(out, Frontend{key, claim.port.Port, pods, p.Protocol, at})
					}
				}
				for _, a := range s.ClusterIPs {
					add(netip.AddrPortFrom(a, p.Port))
				}
				for _, a := range outside(s) {
					add(netip.AddrPortFrom(c.arrives(a, externalIP, pods), p.Port))
				}
				for _, a := range c.nodePortAddrs(pods) {
					if p.NodePort != 0 {
						add(netip.AddrPortFrom(a, p.NodePort))
					}
				}
			}
		}
	}
	return out
}

// outside are the addresses of a Service to the outside.
func outside(s service.Service) []netip.Addr { return slices.Concat(s.ExternalIPs, s.LoadBalancerIPs) }

func sorted[T any](list []T, compare func(T, T) int) []T {
	slices.SortFunc(list, compare)
	return slices.CompactFunc(list, func(a, b T) bool { return compare(a, b) == 0 })
}

// CompareNodePorts is an order of NodePorts.
func CompareNodePorts(a, b service.NodePort) int {
	return cmp.Or(compareKeys(a.Key, b.Key), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// CompareAliases is an order of Aliases.
func CompareAliases(a, b service.Alias) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Protocol, b.Protocol))
}

// CompareHealthChecks is an order of HealthChecks.
func CompareHealthChecks(a, b service.HealthCheck) int { return compareKeys(a.Key, b.Key) }

// CompareAnnouncements is an order of Announcements.
func CompareAnnouncements(a, b service.Announcement) int {
	return cmp.Or(compareKeys(a.Key, b.Key), a.Addr.Compare(b.Addr), cmp.Compare(a.Kind, b.Kind))
}

// SPDX-License-Identifier: Apache-2.0

package service

import (
	"net/netip"
	"slices"
)

// Connection is connections that came to a frontend and were led to an endpoint.
type Connection struct {
	Protocol Protocol
	Frontend netip.AddrPort
	// Endpoint is not valid where it does not matter.
	Endpoint netip.AddrPort
}

// stale returns the connections that must not go on when a Service changes. Of
// TCP and SCTP those to endpoints that are in no EndpointSlice any more: the Pod
// is gone, and the next segment will meet a refusal. Of UDP, which knows no end,
// also those to endpoints that do not serve any more, and whatever came to a
// frontend before it had endpoints.
func stale(old, next *compiled) []Connection {
	out := endless(old, next)
	for _, f := range old.frontends {
		before := old.service.live(f)
		if len(before) == 0 {
			continue
		}
		after := next.service.live(f)
		at := netip.AddrPortFrom(f.addr, f.port)
		for _, e := range before {
			if _, found := slices.BinarySearchFunc(after, e, netip.AddrPort.Compare); !found {
				out = append(out, Connection{f.protocol, at, e})
			}
		}
	}
	for _, f := range next.frontends {
		if f.port != 0 && f.protocol == UDP && f.to != refused && !slices.ContainsFunc(old.frontends, func(o frontend) bool {
			return o.place == f.place && o.to != refused
		}) {
			out = append(out, Connection{Protocol: UDP, Frontend: netip.AddrPortFrom(f.addr, f.port)})
		}
	}
	return out
}

// live returns the endpoints to which connections may go on that came to a
// frontend, in order.
func (s *Service) live(f frontend) []netip.AddrPort {
	var out []netip.AddrPort
	for i, p := range s.Ports {
		if p.Protocol != f.protocol || p.Port != f.of || s.repeats(i) {
			continue
		}
		for _, e := range p.Endpoints {
			if e.Addr().Is4() == f.addr.Is4() && (p.Protocol != UDP || e.Ready || e.Serving || s.PublishNotReady) {
				out = append(out, e.AddrPort)
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// endless returns the connections that would never end by themselves although
// their frontend is gone.
func endless(old, next *compiled) []Connection {
	var out []Connection
	for _, f := range old.frontends {
		if f.protocol == UDP && f.to != refused && !slices.ContainsFunc(next.frontends, func(n frontend) bool { return n.place == f.place }) {
			out = append(out, Connection{Protocol: UDP, Frontend: netip.AddrPortFrom(f.addr, f.port)})
		}
	}
	return out
}

// toForget leaves out the connections that are not for a Service to forget.
func (c *Compiler) toForget(k Key, list []Connection) []Connection {
	return slices.DeleteFunc(list, func(conn Connection) bool { return c.anothers(k, conn) })
}

// anothers reports whether connections are another Service's, which has the
// frontend now, and not for Service k to forget.
func (c *Compiler) anothers(k Key, conn Connection) bool {
	at := place{conn.Frontend.Addr(), conn.Protocol, conn.Frontend.Port()}
	if len(c.places.by[at]) == 0 || c.places.owner(at) == k {
		return false
	}
	return !conn.Endpoint.IsValid() || c.MayGoOn(conn, true)
}

// MayGoOn reports whether a connection of the switch is as the Services want it.
// balanced says that the switch gave it its endpoint.
func (c *Compiler) MayGoOn(conn Connection, balanced bool) bool {
	at := place{conn.Frontend.Addr(), conn.Protocol, conn.Frontend.Port()}
	if len(c.places.by[at]) == 0 {
		// The Service is gone. A connection that will end may as well go on.
		return !balanced || conn.Protocol != UDP
	}
	s := c.services[c.places.owner(at)]
	i := slices.IndexFunc(s.frontends, func(f frontend) bool { return f.place == at })
	live := s.service.live(s.frontends[i])
	if !balanced {
		return conn.Protocol != UDP || len(live) == 0
	}
	_, found := slices.BinarySearchFunc(live, conn.Endpoint, netip.AddrPort.Compare)
	return found
}

// SPDX-License-Identifier: Apache-2.0

package naive

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/service"
)

// Cluster is what a node knows of Services, and of itself.
type Cluster struct {
	Services map[service.Key]service.Service
	Node     service.Node
	// Pods are the addresses of the Pods of the node that have their own.
	Pods []netip.Addr
	// NodePort4 and NodePort6 are the addresses at which the kernel hands on
	// what came for a NodePort.
	NodePort4, NodePort6 netip.Addr
	// NodeClients are the addresses by which the node itself comes there, IPv4
	// first.
	NodeClients [2]netip.Addr
	// Alias is the address at which the kernel hands on what came for an address
	// of a Service to the outside, not valid if there is none.
	Alias func(netip.Addr) netip.Addr
}

// Origin is where a packet comes from.
type Origin uint8

// The origins.
const (
	// FromPod is a Pod of the node, with an address of its own.
	FromPod Origin = iota
	// FromNode is a process in the network of the node.
	FromNode
	// FromOutside is any other machine, by way of the node's kernel.
	FromOutside
	// FromTunnel is another node's switch, where a Service was already chosen.
	FromTunnel
	// Origins is how many there are.
	Origins
)

// String names the origin.
func (o Origin) String() string {
	return [Origins]string{"a Pod", "the node", "outside", "the tunnel"}[o]
}

// Packet is the first packet of a connection.
type Packet struct {
	From        Origin
	Protocol    service.Protocol
	Source      netip.AddrPort
	Destination netip.AddrPort
}

// String is the packet in one line.
func (p Packet) String() string {
	return fmt.Sprintf("%s from %s: %s -> %s", p.Protocol, p.From, p.Source, p.Destination)
}

// Outcome is what becomes of a packet.
type Outcome uint8

// The outcomes.
const (
	// Passes says that the packet is not for a Service.
	Passes Outcome = iota
	// Refused says that the client is told at once that nobody answers.
	Refused
	// Dropped says that the client hears nothing.
	Dropped
	// Balanced says that one of several endpoints gets the connection.
	Balanced
)

// String names the outcome.
func (o Outcome) String() string {
	return [...]string{"passes", "refused", "dropped", "balanced"}[o]
}

// Verdict is what becomes of a packet, and why.
type Verdict struct {
	Outcome Outcome
	// Endpoints are those that may get the connection, sorted, with whether they
	// see the node's Service address in the place of the client.
	Endpoints []Endpoint
	Set       Set
	// Service is whose the frontend is.
	Service *service.Service
	Why     string
}

// Endpoint is one that may get a connection.
type Endpoint struct {
	netip.AddrPort
	// Replaced says that the endpoint sees the node as its client.
	Replaced bool
}

// Set names a set of endpoints; a client that has an endpoint by affinity has it
// for all frontends of a Set.
type Set struct {
	Key         service.Key
	Protocol    service.Protocol
	Port        uint16
	IPv4, Local bool
}

// role is as what a Service has an address.
type role uint8

const (
	clusterIP role = iota
	externalIP
	loadBalancerIP
	nodePort
)

// String names the role.
func (r role) String() string {
	return [...]string{"a ClusterIP", "an external IP", "a load balancer's IP", "a NodePort"}[r]
}

// claim is a Service's claim to an address and port.
type claim struct {
	service service.Service
	port    service.Port
	role    role
}

// Verdict says what becomes of a packet.
func (c Cluster) Verdict(p Packet) Verdict {
	// What another node sent has been to a Service there.
	if p.From == FromTunnel {
		return Verdict{Why: "came out of the tunnel"}
	}
	owner, ok := c.owner(p.From == FromPod, p.Protocol, p.Destination)
	if !ok {
		for _, s := range c.Services {
			// Nothing but Services is at a ClusterIP: a port that the Service does
			// not have is like a closed port of a machine.
			if slices.Contains(s.ClusterIPs, p.Destination.Addr()) {
				return Verdict{Outcome: Refused, Why: "the ClusterIP has no such port"}
			}
		}
		// The kernel hands on what comes to a NodePort in both families.
		if p.From != FromPod && slices.Contains(c.nodePortAddrs(false), p.Destination.Addr()) {
			return Verdict{Outcome: Refused, Why: "the NodePort is of the other family"}
		}
		return Verdict{Why: "no Service has that address and port"}
	}
	v := c.choose(owner, p)
	v.Service = &owner.service
	return v
}

// choose says what becomes of a packet to a Service.
func (c Cluster) choose(owner claim, p Packet) Verdict {
	s, port := owner.service, owner.port
	// loadBalancerSourceRanges: traffic through the load balancer is restricted to
	// clients of these ranges. Addresses of other kinds are not the load balancer's.
	if owner.role == loadBalancerIP && len(s.SourceRanges) > 0 &&
		!slices.ContainsFunc(s.SourceRanges, func(r netip.Prefix) bool { return r.Contains(p.Source.Addr()) }) {
		return Verdict{Outcome: Dropped, Why: "the client is in no source range"}
	}
	is4 := p.Destination.Addr().Is4()
	cluster, how := c.ClusterEndpoints(s, port, is4)
	endpoints, local := cluster, false
	switch {
	case owner.role == clusterIP:
		// internalTrafficPolicy Local: only endpoints of the client's node (KEP-2086).
		local = s.InternalLocal
	case p.From == FromOutside:
		// externalTrafficPolicy Local: the node serves from its own endpoints. What
		// comes from inside the cluster is as with Cluster: the node that the client
		// is on is not the one that a load balancer has chosen.
		local = s.ExternalLocal
	}
	if local {
		endpoints, how = c.LocalEndpoints(s, port, is4)
	}
	v := Verdict{Set: Set{Key: s.Key, Protocol: port.Protocol, Port: port.Port, IPv4: is4, Local: local}}
	switch {
	case len(endpoints) > 0:
		v.Outcome, v.Why = Balanced, fmt.Sprintf("%s of %s", how, owner.role)
	case len(cluster) > 0:
		// KEP-2086: "dropped", as there are endpoints, only not here.
		v.Outcome, v.Why = Dropped, "the endpoints are on other nodes"
	default:
		v.Outcome, v.Why = Refused, "there are no endpoints"
	}
	for _, e := range endpoints {
		// A Pod keeps its address. Who comes by the kernel keeps its own if the
		// answers of the endpoint come back through this switch anyway: if it is a Pod
		// of the node.
		replaced := p.From != FromPod && !slices.Contains(c.Pods, e.Addr())
		v.Endpoints = append(v.Endpoints, Endpoint{e, replaced})
	}
	return v
}

// ClusterEndpoints are the endpoints of a port that serve with the traffic
// policy Cluster, sorted, and what they have in common.
func (c Cluster) ClusterEndpoints(s service.Service, p service.Port, is4 bool) ([]netip.AddrPort, string) {
	ready := filter(family(p, is4), func(e service.Endpoint) bool { return isReady(s, e) })
	if len(ready) == 0 {
		// KEP-1669: without a ready endpoint, those that terminate and still serve
		// get the traffic. Hints are for ready ones.
		return addresses(filter(family(p, is4), isLeaving)), "terminating endpoints"
	}
	forNode := func(e service.Endpoint) bool { return slices.Contains(e.ForNodes, c.Node.Name) }
	forZone := func(e service.Endpoint) bool { return slices.Contains(e.ForZones, c.Node.Zone) }
	// KEP-3015: hints for nodes come first. KEP-2433: hints are ignored if an
	// endpoint has none, or if there is none for this zone (node).
	if every(ready, func(e service.Endpoint) bool { return len(e.ForNodes) > 0 }) && slices.ContainsFunc(ready, forNode) {
		return addresses(filter(ready, forNode)), "ready endpoints for the node"
	}
	if every(ready, func(e service.Endpoint) bool { return len(e.ForZones) > 0 }) && slices.ContainsFunc(ready, forZone) {
		return addresses(filter(ready, forZone)), "ready endpoints for the zone"
	}
	return addresses(ready), "ready endpoints"
}

// LocalEndpoints are the endpoints of a port that serve with the traffic policy
// Local, sorted, and what they have in common.
func (c Cluster) LocalEndpoints(s service.Service, p service.Port, is4 bool) ([]netip.AddrPort, string) {
	here := filter(family(p, is4), func(e service.Endpoint) bool { return e.Node == c.Node.Name })
	// KEP-1669: the same fallback among those of the node.
	if ready := filter(here, func(e service.Endpoint) bool { return isReady(s, e) }); len(ready) > 0 {
		return addresses(ready), "ready endpoints of the node"
	}
	return addresses(filter(here, isLeaving)), "terminating endpoints of the node"
}

// owner finds the Service that has a frontend. What the cluster gave to a Service
// (spec.clusterIPs, then nodePort) nobody can take by naming it as an address to
// the outside; else the one with the least namespace and name has it. pods says
// whether Pods see it, or the kernel's side.
func (c Cluster) owner(pods bool, protocol service.Protocol, at netip.AddrPort) (claim, bool) {
	for _, roles := range [][]role{{clusterIP}, {nodePort}, {loadBalancerIP, externalIP}} {
		for _, key := range c.Keys() {
			if found, ok := c.claimOf(c.Services[key], pods, protocol, at); ok && slices.Contains(roles, found.role) {
				return found, true
			}
		}
	}
	return claim{}, false
}

// Keys are the keys of all Services, in order.
func (c Cluster) Keys() []service.Key {
	var keys []service.Key
	for k := range c.Services {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func compareKeys(a, b service.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// claimOf finds out as what a Service claims an address and port, if it does. What
// it names twice counts as it is named first.
func (c Cluster) claimOf(s service.Service, pods bool, protocol service.Protocol, at netip.AddrPort) (claim, bool) {
	for _, p := range portsOf(s) {
		if p.Protocol != protocol {
			continue
		}
		for _, kind := range []struct {
			role  role
			addrs []netip.Addr
		}{
			{clusterIP, s.ClusterIPs}, {loadBalancerIP, s.LoadBalancerIPs}, {externalIP, s.ExternalIPs},
		} {
			if p.Port == at.Port() && slices.ContainsFunc(kind.addrs, func(a netip.Addr) bool { return c.arrives(a, kind.role, pods) == at.Addr() }) {
				return claim{s, p, kind.role}, true
			}
		}
		// A NodePort is a port of every node, at any of its addresses; a Service has
		// it in its own families (ipFamilies) only.
		if p.NodePort != 0 && p.NodePort == at.Port() && slices.Contains(c.nodePortAddrs(pods), at.Addr()) && hasFamily(s, at.Addr().Is4()) {
			return claim{s, p, nodePort}, true
		}
	}
	return claim{}, false
}

// portsOf are the ports of a Service. A second one of the same number and protocol
// is invalid.
func portsOf(s service.Service) []service.Port {
	var out []service.Port
	for _, p := range s.Ports {
		if !slices.ContainsFunc(out, func(o service.Port) bool { return o.Protocol == p.Protocol && o.Port == p.Port }) {
			out = append(out, p)
		}
	}
	return out
}

func hasFamily(s service.Service, is4 bool) bool {
	return slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return a.Is4() == is4 })
}

// arrives is the address that a packet to a Service's address has in the switch.
func (c Cluster) arrives(a netip.Addr, as role, pods bool) netip.Addr {
	if !pods && as != clusterIP {
		return c.Alias(a)
	}
	return a
}

func (c Cluster) nodePortAddrs(pods bool) []netip.Addr {
	if pods {
		return c.Node.Addrs
	}
	return []netip.Addr{c.NodePort4, c.NodePort6}
}

// isReady reports whether an endpoint gets connections. publishNotReadyAddresses:
// endpoints are to be taken as ready even if the Pods are not.
func isReady(s service.Service, e service.Endpoint) bool { return e.Ready || s.PublishNotReady }

func isLeaving(e service.Endpoint) bool { return e.Serving && e.Terminating }

// family are the endpoints of one family; the other's cannot answer there.
func family(p service.Port, is4 bool) []service.Endpoint {
	return filter(p.Endpoints, func(e service.Endpoint) bool { return e.Addr().Is4() == is4 })
}

func filter(all []service.Endpoint, keep func(service.Endpoint) bool) []service.Endpoint {
	var out []service.Endpoint
	for _, e := range all {
		if keep(e) {
			out = append(out, e)
		}
	}
	return out
}

func every(all []service.Endpoint, holds func(service.Endpoint) bool) bool {
	return !slices.ContainsFunc(all, func(e service.Endpoint) bool { return !holds(e) })
}

// addresses of endpoints, sorted; one that is named twice is one.
func addresses(endpoints []service.Endpoint) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range endpoints {
		out = append(out, e.AddrPort)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

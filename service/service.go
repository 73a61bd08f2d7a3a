// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Key is the identity of a Service.
type Key struct{ Namespace, Name string }

// String is namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// Protocol is a transport protocol.
type Protocol uint8

// The protocols of Services, by their IP numbers.
const (
	TCP  = Protocol(flow.ProtoTCP)
	UDP  = Protocol(flow.ProtoUDP)
	SCTP = Protocol(flow.ProtoSCTP)
)

// String is the name of the protocol in the Kubernetes API.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// Service is a Service with its endpoints. A value is not changed once it was
// handed on.
type Service struct {
	Key
	// Labels are those of its object, by which it may be chosen to be announced.
	Labels map[string]string
	// ClusterIPs are its addresses inside the cluster, at most one a family.
	ClusterIPs []netip.Addr
	// ExternalIPs and LoadBalancerIPs are addresses to the outside: of
	// spec.externalIPs, and of status.loadBalancer with ipMode VIP.
	ExternalIPs, LoadBalancerIPs []netip.Addr
	// SourceRanges are who may use LoadBalancerIPs; everybody if there are none.
	SourceRanges []netip.Prefix
	// PublishNotReady has endpoints serve whether they are ready or not.
	PublishNotReady bool
	// Affinity is how long a client that does not connect keeps its endpoint, in
	// whole seconds from 1 to 86400; 0: every connection may get another.
	Affinity time.Duration
	// InternalLocal and ExternalLocal are the traffic policies Local: only
	// endpoints of the node serve ClusterIPs, or the addresses to the outside.
	InternalLocal, ExternalLocal bool
	// HealthCheckPort is where load balancers ask whether the node has endpoints
	// for ExternalLocal; 0: nowhere.
	HealthCheckPort uint16
	Ports           []Port
}

// Port is a port of a Service.
type Port struct {
	Protocol Protocol
	Port     uint16
	// NodePort is the port at addresses of every node, 0 if there is none.
	NodePort uint16
	// Endpoints are those of both families, in any order. One that is named
	// twice is as ready as the better of the two.
	Endpoints []Endpoint
}

// Endpoint is where connections to a Port can go.
type Endpoint struct {
	netip.AddrPort
	// Ready endpoints get connections. While a Port has none, those that are
	// Serving and Terminating do (KEP-1669).
	Ready, Serving, Terminating bool
	// Node is the name of the node that it is on; may be empty.
	Node string
	// ForZones and ForNodes are the hints of its EndpointSlice: whose traffic it
	// is meant for (KEP-2433, KEP-3015).
	ForZones, ForNodes []string
}

// Node is what the choice of endpoints depends on at a node.
type Node struct {
	Name string
	// Zone is the value of label topology.kubernetes.io/zone; may be empty.
	Zone string
	// Addrs are the node's own addresses at which Pods reach NodePorts.
	Addrs []netip.Addr
	// ClusterIPsOnly leaves addresses to the outside and NodePorts to another
	// program.
	ClusterIPsOnly bool
}

func (n Node) equal(o Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && n.ClusterIPsOnly == o.ClusterIPsOnly && slices.Equal(n.Addrs, o.Addrs)
}

// Equal reports whether s and o are the same, down to the order of lists.
func (s Service) Equal(o Service) bool {
	return s.Key == o.Key && s.PublishNotReady == o.PublishNotReady && s.Affinity == o.Affinity &&
		s.InternalLocal == o.InternalLocal && s.ExternalLocal == o.ExternalLocal && s.HealthCheckPort == o.HealthCheckPort &&
		maps.Equal(s.Labels, o.Labels) && slices.Equal(s.ClusterIPs, o.ClusterIPs) && slices.Equal(s.ExternalIPs, o.ExternalIPs) &&
		slices.Equal(s.LoadBalancerIPs, o.LoadBalancerIPs) && slices.Equal(s.SourceRanges, o.SourceRanges) &&
		slices.EqualFunc(s.Ports, o.Ports, Port.equal)
}

func (p Port) equal(o Port) bool {
	return p.Protocol == o.Protocol && p.Port == o.Port && p.NodePort == o.NodePort &&
		slices.EqualFunc(p.Endpoints, o.Endpoints, Endpoint.equal)
}

func (e Endpoint) equal(o Endpoint) bool {
	return e.AddrPort == o.AddrPort && e.Ready == o.Ready && e.Serving == o.Serving && e.Terminating == o.Terminating &&
		e.Node == o.Node && slices.Equal(e.ForZones, o.ForZones) && slices.Equal(e.ForNodes, o.ForNodes)
}

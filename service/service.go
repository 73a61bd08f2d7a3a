// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

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

// Service is a Service with its endpoints.
type Service struct {
	Key
	// ClusterIPs are its addresses, at most one a family. A Service without
	// them is not served.
	ClusterIPs []netip.Addr
	// PublishNotReady has endpoints serve whether they are ready or not.
	PublishNotReady bool
	Ports           []Port
}

// Port is a port of a Service.
type Port struct {
	Protocol Protocol
	Port     uint16
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
}

// Equal reports whether s and o are the same, down to the order of lists.
func (s Service) Equal(o Service) bool {
	return s.Key == o.Key && s.PublishNotReady == o.PublishNotReady && slices.Equal(s.ClusterIPs, o.ClusterIPs) &&
		slices.EqualFunc(s.Ports, o.Ports, func(a, b Port) bool {
			return a.Protocol == b.Protocol && a.Port == b.Port && slices.Equal(a.Endpoints, b.Endpoints)
		})
}

// usable returns the endpoints of a family that connections go to, each once,
// in order.
func (p Port) usable(is4, publishNotReady bool) []netip.AddrPort {
	var ready, leaving []netip.AddrPort
	for _, e := range p.Endpoints {
		switch {
		case e.Addr().Is4() != is4:
		case e.Ready || publishNotReady:
			ready = append(ready, e.AddrPort)
		case e.Serving && e.Terminating:
			leaving = append(leaving, e.AddrPort)
		}
	}
	if len(ready) == 0 {
		ready = leaving
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

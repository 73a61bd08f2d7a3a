// SPDX-License-Identifier: Apache-2.0

package localapi

import (
	"net/http"
	"slices"

	"github.com/waymark-net/waymark/service"
)

// ServicesReport is what the agent knows of Services.
type ServicesReport struct {
	// Mode is the one in force; empty before the configuration is known.
	Mode string
	// Known says that the switch has been told of all Services that there are.
	Known bool
	// Node is the node's name, Count the number of Services that it serves.
	Node  string
	Count int
	// Services are those that were asked for, in the order in which they are told.
	Services []ServiceReport
}

// ServiceReport is a Service as the node sees it; of one that is not served its
// Key only. Problems say in words what is not served, and why.
type ServiceReport struct {
	service.Service
	Problems []string
}

// Services is the answer to GET /services: the Services with problems. With
// ?namespace= or ?name=, or both, it has those of that namespace and name, with
// problems or without.
type Services struct {
	Mode string `json:"mode"`
	// Known says whether the agent has told the switch of all Services. As long
	// as it has not, what an earlier run left there serves.
	Known bool `json:"known"`
	// Count is how many Services the node serves.
	Count    int       `json:"count"`
	Services []Service `json:"services"`
}

// Service is a Service as the node sees it.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Problems are what of it is not served, and why.
	Problems []string `json:"problems"`
	// Addresses are all addresses of its own, ClusterIPs first; Ports are empty if
	// it is not served.
	Addresses []string      `json:"addresses"`
	Ports     []ServicePort `json:"ports"`
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	NodePort uint16 `json:"nodePort,omitempty"`
	// IPv4 and IPv6 count its endpoints of the family.
	IPv4 Endpoints `json:"ipv4"`
	IPv6 Endpoints `json:"ipv6"`
}

// Endpoints counts endpoints, each once.
type Endpoints struct {
	Total int `json:"total"`
	// Ready get connections. While there are none, the Terminating ones do, which
	// are on their way out but still serve.
	Ready       int `json:"ready"`
	Terminating int `json:"terminating"`
	// Local are the ready or terminating ones of this node.
	Local int `json:"local"`
}

func (s *Server) services(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	only := service.Key{Namespace: query.Get("namespace"), Name: query.Get("name")}
	answer(r.Context(), w, servicesOf(s.params.Services(only), only))
}

func servicesOf(r ServicesReport, only service.Key) Services {
	out := Services{Mode: r.Mode, Known: r.Known, Count: r.Count, Services: []Service{}}
	for _, s := range r.Services {
		if !asked(s, only) {
			continue
		}
		one := Service{
			Namespace: s.Namespace, Name: s.Name, Problems: append([]string{}, s.Problems...), Addresses: []string{}, Ports: []ServicePort{},
		}
		for _, a := range slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs) {
			one.Addresses = append(one.Addresses, a.String())
		}
		for _, p := range s.Ports {
			one.Ports = append(one.Ports, portOf(p, r.Node, s.PublishNotReady))
		}
		out.Services = append(out.Services, one)
	}
	return out
}

func asked(s ServiceReport, only service.Key) bool {
	if only == (service.Key{}) {
		return len(s.Problems) > 0
	}
	return (only.Namespace == "" || only.Namespace == s.Namespace) && (only.Name == "" || only.Name == s.Name)
}

func portOf(p service.Port, node string, publishNotReady bool) ServicePort {
	out := ServicePort{Protocol: p.Protocol.String(), Port: p.Port, NodePort: p.NodePort}
	// One that is named twice is as ready as the better of the two.
	best := slices.SortedFunc(slices.Values(p.Endpoints), func(a, b service.Endpoint) int {
		if c := a.Compare(b.AddrPort); c != 0 {
			return c
		}
		return rank(a, publishNotReady) - rank(b, publishNotReady)
	})
	best = slices.CompactFunc(best, func(a, b service.Endpoint) bool { return a.AddrPort == b.AddrPort })
	for _, e := range best {
		count := &out.IPv6
		if e.Addr().Is4() {
			count = &out.IPv4
		}
		count.Total++
		switch rank(e, publishNotReady) {
		case ready:
			count.Ready++
		case terminating:
			count.Terminating++
		default:
			continue
		}
		if node != "" && e.Node == node {
			count.Local++
		}
	}
	return out
}

// What an endpoint is good for, best first.
const (
	ready = iota
	terminating
	useless
)

func rank(e service.Endpoint, publishNotReady bool) int {
	switch {
	case e.Ready || publishNotReady:
		return ready
	case e.Serving && e.Terminating:
		return terminating
	}
	return useless
}

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/waymark-net/waymark/service"
)

// parseService takes a Service and its EndpointSlices apart. What cannot be
// used is left out and named. It is not found when nothing is to be served at
// ClusterIPs: headless Services, ExternalName, those of another program.
func parseService(o *corev1.Service, own []*discoveryv1.EndpointSlice) (s service.Service, problems []string, found bool) {
	_, others := o.Labels[labelServiceProxy]
	if others || o.Spec.Type == corev1.ServiceTypeExternalName || o.Spec.ClusterIP == corev1.ClusterIPNone {
		return service.Service{}, nil, false
	}
	p := &serviceParser{}
	s = service.Service{
		Key:             service.Key{Namespace: o.Namespace, Name: o.Name},
		ClusterIPs:      p.clusterIPs(o.Spec),
		PublishNotReady: o.Spec.PublishNotReadyAddresses,
	}
	// The order of slices does not matter to the switch, but to the words.
	own = slices.SortedFunc(slices.Values(own), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	byPort := p.endpoints(own)
	for _, port := range o.Spec.Ports {
		protocol, ok := serviceProtocol(port.Protocol)
		if !ok || port.Port < 1 || port.Port > 65535 {
			p.problem("port %d of protocol %q is not served: it must be a port 1..65535 of TCP, UDP or SCTP", port.Port, port.Protocol)
			continue
		}
		if slices.ContainsFunc(s.Ports, func(q service.Port) bool { return q.Protocol == protocol && q.Port == uint16(port.Port) }) {
			p.problem("port %d of %s is named twice", port.Port, protocol)
			continue
		}
		s.Ports = append(s.Ports, service.Port{
			Protocol: protocol, Port: uint16(port.Port), Endpoints: byPort[portKey{port.Name, protocol}],
		})
	}
	return s, p.problems, len(s.ClusterIPs) > 0
}

// serviceParser collects what is wrong with a Service.
type serviceParser struct{ problems []string }

// maxProblems bounds what is said of one Service.
const maxProblems = 10

func (p *serviceParser) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(p.problems) < maxProblems && !slices.Contains(p.problems, text) {
		p.problems = append(p.problems, text)
	}
}

// clusterIPs returns the first usable address of each family.
func (p *serviceParser) clusterIPs(spec corev1.ServiceSpec) []netip.Addr {
	texts := spec.ClusterIPs
	if len(texts) == 0 && spec.ClusterIP != "" {
		texts = []string{spec.ClusterIP}
	}
	var out []netip.Addr
	for _, text := range texts {
		a, ok := unicast(text)
		switch {
		case !ok:
			p.problem("ClusterIP %q is not an address that can be served", text)
		case slices.ContainsFunc(out, func(b netip.Addr) bool { return a.Is4() == b.Is4() }):
			p.problem("ClusterIP %s is the second of its family", a)
		default:
			out = append(out, a)
		}
	}
	return out
}

// unicast parses an address that packets can be sent to from elsewhere.
func unicast(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	a = a.Unmap()
	return a, a.IsGlobalUnicast()
}

// portKey is how the ports of Services and slices find each other.
type portKey struct {
	name     string
	protocol service.Protocol
}

func (p *serviceParser) endpoints(own []*discoveryv1.EndpointSlice) map[portKey][]service.Endpoint {
	out := map[portKey][]service.Endpoint{}
	for _, slice := range own {
		ports := p.slicePorts(slice)
		for _, e := range slice.Endpoints {
			if len(e.Addresses) == 0 {
				p.problem("slice %s has an endpoint without an address", slice.Name)
				continue
			}
			// Consumers are to use the first only (EndpointSlice API).
			a, ok := unicast(e.Addresses[0])
			if !ok || string(slice.AddressType) != familyName(a) {
				p.problem("endpoint %q of slice %s is not an %s address that packets can be sent to", e.Addresses[0], slice.Name, slice.AddressType)
				continue
			}
			for key, port := range ports {
				out[key] = append(out[key], endpoint(netip.AddrPortFrom(a, port), e.Conditions))
			}
		}
	}
	return out
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return string(discoveryv1.AddressTypeIPv4)
	}
	return string(discoveryv1.AddressTypeIPv6)
}

// slicePorts returns the usable ports of a slice.
func (p *serviceParser) slicePorts(slice *discoveryv1.EndpointSlice) map[portKey]uint16 {
	out := map[portKey]uint16{}
	for _, port := range slice.Ports {
		var key portKey
		if port.Name != nil {
			key.name = *port.Name
		}
		ok := true
		if port.Protocol != nil {
			key.protocol, ok = serviceProtocol(*port.Protocol)
		} else {
			key.protocol = service.TCP
		}
		if !ok || port.Port == nil || *port.Port < 1 || *port.Port > 65535 {
			p.problem("port %q of slice %s is not used: it must have a number 1..65535 of TCP, UDP or SCTP", key.name, slice.Name)
			continue
		}
		out[key] = uint16(*port.Port)
	}
	return out
}

func serviceProtocol(p corev1.Protocol) (service.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return service.TCP, true
	case corev1.ProtocolUDP:
		return service.UDP, true
	case corev1.ProtocolSCTP:
		return service.SCTP, true
	}
	return 0, false
}

// endpoint reads conditions that are not stated as the EndpointSlice API says:
// ready and, as ready, serving; not terminating.
func endpoint(at netip.AddrPort, c discoveryv1.EndpointConditions) service.Endpoint {
	e := service.Endpoint{AddrPort: at, Ready: c.Ready == nil || *c.Ready}
	e.Serving = e.Ready
	if c.Serving != nil {
		e.Serving = *c.Serving
	}
	e.Terminating = c.Terminating != nil && *c.Terminating
	return e
}

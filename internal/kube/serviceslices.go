// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/waymark-net/waymark/service"
)

// portKey is how the ports of Services and slices find each other.
type portKey struct {
	name     string
	protocol service.Protocol
}

// endpoints returns those of all slices of the families in which the Service has
// ClusterIPs, with a key for every port that a slice has, and whether there are
// some, be it without a port. Any address will do that packets can be sent to:
// endpoints may be nodes, or outside of the cluster.
func (p *serviceParser) endpoints(
	clusterIPs []netip.Addr, own []*discoveryv1.EndpointSlice,
) (out map[portKey][]service.Endpoint, some bool) {
	// The order of slices does not matter to the switch, but to the words.
	own = slices.SortedFunc(slices.Values(own), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	out = map[portKey][]service.Endpoint{}
	for _, slice := range own {
		is4 := slice.AddressType == discoveryv1.AddressTypeIPv4
		switch {
		case !is4 && slice.AddressType != discoveryv1.AddressTypeIPv6:
			p.problem("slice %s is not used: its addresses are of type %q, not IPv4 or IPv6", slice.Name, slice.AddressType)
			continue
		case !hasFamily(clusterIPs, is4):
			p.problem("slice %s is not used: the Service has no ClusterIP of %s", slice.Name, slice.AddressType)
			continue
		}
		ports := p.slicePorts(slice)
		for key := range ports {
			out[key] = slices.Grow(out[key], len(slice.Endpoints))
		}
		for _, e := range slice.Endpoints {
			parsed, ok := p.endpoint(slice, e)
			if !ok {
				continue
			}
			some = true
			for key, port := range ports {
				parsed.AddrPort = netip.AddrPortFrom(parsed.Addr(), port)
				out[key] = append(out[key], parsed)
			}
		}
	}
	return out, some
}

// slicePorts returns the usable ports of a slice. One without a number has none:
// the Service's target port names no port of these Pods.
func (p *serviceParser) slicePorts(slice *discoveryv1.EndpointSlice) map[portKey]uint16 {
	out := map[portKey]uint16{}
	for _, port := range slice.Ports {
		key := portKey{protocol: service.TCP}
		if port.Name != nil {
			key.name = *port.Name
		}
		ok := true
		if port.Protocol != nil {
			key.protocol, ok = serviceProtocol(*port.Protocol)
		}
		if !ok || port.Port == nil || !isPort(*port.Port) {
			p.problem("port %q of slice %s is not used: it must have a number 1..65535 of TCP, UDP or SCTP", key.name, slice.Name)
			continue
		}
		out[key] = uint16(*port.Port)
	}
	return out
}

// endpoint returns an endpoint with its address, less its port. Conditions that
// are not stated are read as the EndpointSlice API says: ready, serving and not
// terminating.
func (p *serviceParser) endpoint(slice *discoveryv1.EndpointSlice, e discoveryv1.Endpoint) (out service.Endpoint, ok bool) {
	if len(e.Addresses) == 0 {
		p.problem("slice %s has an endpoint without an address", slice.Name)
		return out, false
	}
	// Consumers are to use the first only (EndpointSlice API).
	a, ok := unicast(e.Addresses[0])
	if !ok || a.Is4() != (slice.AddressType == discoveryv1.AddressTypeIPv4) {
		p.problem("endpoint %q of slice %s is not an %s address that packets can be sent to", e.Addresses[0], slice.Name, slice.AddressType)
		return out, false
	}
	c := e.Conditions
	out = service.Endpoint{
		AddrPort:    netip.AddrPortFrom(a, 0),
		Ready:       c.Ready == nil || *c.Ready,
		Serving:     c.Serving == nil || *c.Serving,
		Terminating: c.Terminating != nil && *c.Terminating,
	}
	if e.NodeName != nil {
		out.Node = *e.NodeName
	}
	if e.Hints != nil {
		for _, zone := range e.Hints.ForZones {
			out.ForZones = append(out.ForZones, zone.Name)
		}
		for _, node := range e.Hints.ForNodes {
			out.ForNodes = append(out.ForNodes, node.Name)
		}
	}
	return out, true
}

// slimService and slimSlice leave of an object what parseService reads.
func slimService(o *corev1.Service) {
	o.Annotations, o.OwnerReferences, o.Finalizers = nil, nil, nil
	spec := corev1.ServiceSpec{
		Type: o.Spec.Type, ClusterIP: o.Spec.ClusterIP, ClusterIPs: o.Spec.ClusterIPs, ExternalIPs: o.Spec.ExternalIPs,
		LoadBalancerSourceRanges: o.Spec.LoadBalancerSourceRanges,
		PublishNotReadyAddresses: o.Spec.PublishNotReadyAddresses,
		SessionAffinity:          o.Spec.SessionAffinity, SessionAffinityConfig: o.Spec.SessionAffinityConfig,
		InternalTrafficPolicy: o.Spec.InternalTrafficPolicy, ExternalTrafficPolicy: o.Spec.ExternalTrafficPolicy,
		HealthCheckNodePort: o.Spec.HealthCheckNodePort,
	}
	for _, p := range o.Spec.Ports {
		spec.Ports = append(spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort})
	}
	status := corev1.ServiceStatus{}
	for _, ip := range virtualIPs(o.Status.LoadBalancer) {
		status.LoadBalancer.Ingress = append(status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	o.Spec, o.Status = spec, status
}

func slimSlice(o *discoveryv1.EndpointSlice) {
	o.Annotations, o.OwnerReferences = nil, nil
	o.Labels = map[string]string{discoveryv1.LabelServiceName: o.Labels[discoveryv1.LabelServiceName]}
	// Decoders leave room for more.
	endpoints := make([]discoveryv1.Endpoint, 0, len(o.Endpoints))
	for _, e := range o.Endpoints {
		c := e.Conditions
		endpoints = append(endpoints, discoveryv1.Endpoint{
			Addresses:  e.Addresses[:min(1, len(e.Addresses))],
			Conditions: discoveryv1.EndpointConditions{Ready: shared(c.Ready), Serving: shared(c.Serving), Terminating: shared(c.Terminating)},
			NodeName:   e.NodeName, Hints: e.Hints,
		})
	}
	o.Endpoints = endpoints
}

var isTrue, isFalse = true, false

// shared is b without memory of its own. Nobody writes to what is kept.
func shared(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &isTrue
	}
	return &isFalse
}

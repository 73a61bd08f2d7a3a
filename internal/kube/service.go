// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/waymark-net/waymark/service"
)

// parseService takes a Service and its EndpointSlices apart. What cannot be
// used is left out and named. It is not found when there is no ClusterIP to
// serve: headless Services, ExternalName, those of another program. What the
// API leaves open is read as kube-proxy 1.34 does.
func parseService(o *corev1.Service, own []*discoveryv1.EndpointSlice) (s service.Service, problems []string, found bool) {
	if unserved(o.Labels) || o.Spec.Type == corev1.ServiceTypeExternalName || o.Spec.ClusterIP == corev1.ClusterIPNone {
		return service.Service{}, nil, false
	}
	p := &serviceParser{}
	s = service.Service{
		Key:             service.Key{Namespace: o.Namespace, Name: o.Name},
		Labels:          o.Labels,
		ClusterIPs:      p.clusterIPs(o.Spec),
		PublishNotReady: o.Spec.PublishNotReadyAddresses,
		Affinity:        p.affinity(o.Spec),
		ExternalLocal:   p.local("externalTrafficPolicy", string(o.Spec.ExternalTrafficPolicy)),
	}
	if policy := o.Spec.InternalTrafficPolicy; policy != nil {
		s.InternalLocal = p.local("internalTrafficPolicy", string(*policy))
	}
	if len(s.ClusterIPs) == 0 {
		return s, p.problems, false
	}
	s.ExternalIPs = p.outside(s.ClusterIPs, "externalIP", o.Spec.ExternalIPs)
	s.LoadBalancerIPs = p.outside(s.ClusterIPs, "load balancer IP", virtualIPs(o.Status.LoadBalancer))
	s.SourceRanges = p.sourceRanges(o.Spec.LoadBalancerSourceRanges, s.LoadBalancerIPs)
	if o.Spec.Type == corev1.ServiceTypeLoadBalancer && s.ExternalLocal {
		s.HealthCheckPort = p.optionalPort("healthCheckNodePort", o.Spec.HealthCheckNodePort)
	}
	byPort, some := p.endpoints(s.ClusterIPs, own)
	for _, port := range o.Spec.Ports {
		if parsed, ok := p.port(o.Spec.Type, port, s.Ports); ok {
			key := portKey{port.Name, parsed.Protocol}
			if _, named := byPort[key]; !named && some {
				p.problem("port %q of %s has no endpoints, although there are some: its target port must be one that the Pods' containers have", port.Name, parsed.Protocol)
			}
			parsed.Endpoints = byPort[key]
			s.Ports = append(s.Ports, parsed)
		}
	}
	return s, p.problems, true
}

// unserved reports whether labels keep proxies away from a Service.
func unserved(labels map[string]string) bool {
	return slices.ContainsFunc(labelsUnserved, func(l string) bool {
		_, has := labels[l]
		return has
	})
}

// serviceParser collects what is wrong with a Service.
type serviceParser struct{ problems []string }

// maxProblems bounds what is said of one Service.
const maxProblems = 10

func (p *serviceParser) problem(format string, args ...any) {
	if len(p.problems) > maxProblems {
		return
	}
	text := fmt.Sprintf(format, args...)
	switch {
	case slices.Contains(p.problems, text):
	case len(p.problems) == maxProblems:
		p.problems = append(p.problems, "and more")
	default:
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
		case hasFamily(out, a.Is4()):
			p.problem("ClusterIP %s is the second of its family", a)
		default:
			out = append(out, a)
		}
	}
	return out
}

func hasFamily(addrs []netip.Addr, is4 bool) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is4() == is4 })
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

// outside returns addresses to the outside, each once. A Service serves the
// families only in which it has a ClusterIP.
func (p *serviceParser) outside(clusterIPs []netip.Addr, what string, texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		a, ok := unicast(text)
		switch {
		case !ok:
			p.problem("%s %q is not an address that can be served", what, text)
		case !hasFamily(clusterIPs, a.Is4()):
			p.problem("%s %s is not served: the Service has no ClusterIP of its family", what, a)
		case !slices.Contains(out, a):
			out = append(out, a)
		}
	}
	return out
}

// virtualIPs returns the addresses whose packets arrive at nodes as they were
// sent (KEP-1860). Names and addresses of balancers that are proxies are not
// for nodes to serve.
func virtualIPs(status corev1.LoadBalancerStatus) []string {
	var out []string
	for _, i := range status.Ingress {
		if i.IP != "" && (i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP) {
			out = append(out, i.IP)
		}
	}
	return out
}

// sourceRanges returns who may use the addresses; nil is everybody. As in
// kube-proxy each family is on its own: a family of which no range is stated is
// open to everybody. But what is stated and not understood never opens anything:
// a family that is left without a range by it is closed.
func (p *serviceParser) sourceRanges(texts []string, addrs []netip.Addr) []netip.Prefix {
	var stated []netip.Prefix
	bad := false
	for _, text := range texts {
		r, err := netip.ParsePrefix(strings.TrimSpace(text)) // the API admits spaces
		if err != nil || r.Addr().Is4In6() {
			p.problem("loadBalancerSourceRange %q lets nobody pass: it is not a CIDR", text)
			bad = true
			continue
		}
		stated = append(stated, r.Masked())
	}
	var out []netip.Prefix
	restricted := false
	for _, zero := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if !hasFamily(addrs, zero.Is4()) {
			continue
		}
		everybody, nobody := netip.PrefixFrom(zero, 0), netip.PrefixFrom(zero, zero.BitLen())
		ranges := slices.DeleteFunc(slices.Clone(stated), func(r netip.Prefix) bool { return r.Addr().Is4() != zero.Is4() })
		switch {
		case len(ranges) == 0 && bad:
			ranges = []netip.Prefix{nobody}
		case len(ranges) == 0 || slices.Contains(ranges, everybody):
			ranges = []netip.Prefix{everybody}
		}
		restricted = restricted || ranges[0] != everybody
		out = append(out, ranges...)
	}
	if !restricted {
		return nil
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// affinity returns how long a client keeps its endpoint.
func (p *serviceParser) affinity(spec corev1.ServiceSpec) time.Duration {
	switch spec.SessionAffinity {
	case "", corev1.ServiceAffinityNone:
		return 0
	case corev1.ServiceAffinityClientIP:
	default:
		p.problem("sessionAffinity %q is not known: None or ClientIP", spec.SessionAffinity)
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	const most = 86400 // a day; the API refuses more
	used := min(max(seconds, 1), most)
	if used != seconds {
		p.problem("sessionAffinity has a timeout of %d s, %d s is used: it must be 1..%d", seconds, used, most)
	}
	return time.Duration(used) * time.Second
}

// local reads a traffic policy.
func (p *serviceParser) local(field, value string) bool {
	switch value {
	case "", string(corev1.ServiceInternalTrafficPolicyCluster), string(corev1.ServiceInternalTrafficPolicyLocal):
	default:
		p.problem("%s %q is not known, Cluster is used: Cluster or Local", field, value)
	}
	return value == string(corev1.ServiceInternalTrafficPolicyLocal)
}

func isPort(n int32) bool { return n >= 1 && n <= 65535 }

// optionalPort returns 0 for what is no port.
func (p *serviceParser) optionalPort(what string, n int32) uint16 {
	if !isPort(n) {
		p.problem("%s %d is not a port 1..65535", what, n)
		return 0
	}
	return uint16(n)
}

// port takes a port of a Service apart, less its endpoints.
func (p *serviceParser) port(of corev1.ServiceType, port corev1.ServicePort, before []service.Port) (out service.Port, ok bool) {
	protocol, known := serviceProtocol(port.Protocol)
	if !known || !isPort(port.Port) {
		p.problem("port %d of protocol %q is not served: it must be a port 1..65535 of TCP, UDP or SCTP", port.Port, port.Protocol)
		return out, false
	}
	out = service.Port{Protocol: protocol, Port: uint16(port.Port)}
	if port.NodePort != 0 && (of == corev1.ServiceTypeNodePort || of == corev1.ServiceTypeLoadBalancer) {
		out.NodePort = p.optionalPort("nodePort", port.NodePort)
	}
	for _, q := range before {
		if q.Protocol != protocol {
			continue
		}
		if q.Port == out.Port {
			p.problem("port %d of %s is named twice", port.Port, protocol)
			return out, false
		}
		if out.NodePort != 0 && q.NodePort == out.NodePort {
			p.problem("nodePort %d of %s is named twice", port.NodePort, protocol)
			out.NodePort = 0
		}
	}
	return out, true
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

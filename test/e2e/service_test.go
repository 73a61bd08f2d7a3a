// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/matrix"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// Ports of the Services of tests: another than that of the Pods, and greetPort
// is where those greet and close.
const (
	servicePort = 5300
	greetPort   = 7300
)

// services makes Services without selector, whose endpoints a test chooses
// among the Pods of the matrix: no Pod has to start for them.
type services struct {
	lab    *cluster.Lab
	client *kubernetes.Clientset
	ends   map[string]matrix.Endpoint
	// pods are the names of Pods by that of their end in the matrix.
	pods map[string]workload.Pod
	// podCIDRs are those of the nodes.
	podCIDRs map[string][]netip.Prefix
}

func newServices(t *testing.T, lab *cluster.Lab) *services {
	t.Helper()
	config, err := lab.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &services{lab: lab, client: client, ends: endpoints(t, lab), pods: map[string]workload.Pod{}, podCIDRs: map[string][]netip.Prefix{}}
	for _, node := range nodeNames(lab) {
		s.podCIDRs[node] = podCIDRsOf(t, lab, node)
	}
	for _, set := range []string{"a", "b"} {
		for node, pod := range podsBySet(t, lab, set) {
			s.pods[set+"@"+node] = pod
		}
	}
	return s
}

// member is an endpoint of a Service: a Pod by its name in the matrix.
type member struct {
	pod string
	// unready is one that does not serve new connections but is there.
	unready bool
}

// members are endpoints that are ready.
func members(pods ...string) []member {
	var out []member
	for _, p := range pods {
		out = append(out, member{pod: p})
	}
	return out
}

// made is a Service of a test.
type made struct {
	services *services
	object   *corev1.Service
}

// serviceOf is the object of a Service with one port over TCP and UDP.
func serviceOf(name string, target int, change func(*corev1.ServiceSpec)) *corev1.Service {
	dual := corev1.IPFamilyPolicyPreferDualStack
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: workload.Namespace},
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: &dual},
	}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: strings.ToLower(string(protocol)), Protocol: protocol, Port: servicePort, TargetPort: intstr.FromInt(target),
		})
	}
	if change != nil {
		change(&s.Spec)
	}
	return s
}

// atNodes gives a Service a type and a port of the nodes.
func atNodes(kind corev1.ServiceType, nodePort int32) func(*corev1.ServiceSpec) {
	return func(s *corev1.ServiceSpec) {
		s.Type = kind
		for i := range s.Ports {
			s.Ports[i].NodePort = nodePort
		}
	}
}

// add makes a Service with endpoints, and with ingress addresses in its status,
// for as long as the test lasts.
func (s *services) add(t *testing.T, object *corev1.Service, ingress []netip.Addr, endpoints []member) *made {
	t.Helper()
	api := s.client.CoreV1().Services(workload.Namespace)
	created, err := api.Create(t.Context(), object, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := api.Delete(context.WithoutCancel(t.Context()), object.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	if len(ingress) > 0 {
		vip := corev1.LoadBalancerIPModeVIP
		for _, a := range ingress {
			created.Status.LoadBalancer.Ingress = append(created.Status.LoadBalancer.Ingress,
				corev1.LoadBalancerIngress{IP: a.String(), IPMode: &vip})
		}
		if created, err = api.UpdateStatus(t.Context(), created, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	m := &made{services: s, object: created}
	if len(endpoints) > 0 {
		m.serve(t, endpoints...)
	}
	return m
}

// serve gives a Service other endpoints than it had.
func (m *made) serve(t *testing.T, endpoints ...member) {
	t.Helper()
	api := m.services.client.DiscoveryV1().EndpointSlices(workload.Namespace)
	for _, family := range m.object.Spec.IPFamilies {
		slice := m.slice(family, endpoints)
		_, err := api.Update(t.Context(), slice, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = api.Create(t.Context(), slice, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (m *made) slice(family corev1.IPFamily, endpoints []member) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: m.object.Name + "-" + strings.ToLower(string(family)), Namespace: workload.Namespace,
			Labels: map[string]string{discoveryv1.LabelServiceName: m.object.Name, discoveryv1.LabelManagedBy: "e2e"},
			// It goes with its Service.
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: m.object.Name, UID: m.object.UID}},
		},
		AddressType: discoveryv1.AddressType(family),
	}
	for _, p := range m.object.Spec.Ports {
		port := p.TargetPort.IntVal
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &port})
	}
	for _, e := range endpoints {
		end := m.services.ends[e.pod]
		ready := !e.unready
		for _, a := range end.Addresses {
			if a.Is4() == (family == corev1.IPv4Protocol) {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
					Addresses: []string{a.String()}, NodeName: &end.Node,
					Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
				})
			}
		}
	}
	return slice
}

// clusterIPs are the addresses of a Service inside the cluster.
func (m *made) clusterIPs(t *testing.T) []netip.Addr {
	t.Helper()
	var addrs []netip.Addr
	for _, text := range m.object.Spec.ClusterIPs {
		a, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, a)
	}
	return addrs
}

// withPort are addresses with one port.
func withPort(addrs []netip.Addr, port int32) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a, uint16(port)))
	}
	return out
}

// outside is an address outside of all networks of the lab, in each of its
// families, to which routeOutside leads by way of a node: n1 or n2.
func outside(lab *cluster.Lab, node string, number byte) []netip.Addr {
	v4, v6 := netip.MustParseAddr("203.0.113.0").As4(), netip.MustParseAddr("2001:db8:53:1::").As16()
	if node == "n2" {
		v4[3], v6[7] = 128, 2
	}
	v4[3] += number
	v6[15] = number
	return ofLab(lab, netip.AddrFrom4(v4), netip.AddrFrom16(v6))
}

// ofLab leaves out addresses of a family that a lab has not.
func ofLab(lab *cluster.Lab, addrs ...netip.Addr) []netip.Addr {
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !lab.Topology.Spec.Families.Has(a) })
}

// routeOutside leads the addresses of outside from the routers to n1 and n2, as
// a network does where nobody announces them.
func routeOutside(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	const tor = "torA"
	for _, node := range []string{"n1", "n2"} {
		h, _ := lab.Topology.Host(node)
		for _, network := range outside(lab, node, 0) {
			bits := 64
			if network.Is4() {
				bits = 25
			}
			addRoute(t, lab, topology.Spine, netip.PrefixFrom(network, bits), onLink(t, lab, tor, topology.Spine, network))
			addRoute(t, lab, tor, netip.PrefixFrom(network, bits), likeOf(h.Addresses(), network))
		}
	}
}

// addRoute gives a router a route for as long as the test lasts.
func addRoute(t *testing.T, lab *cluster.Lab, router string, to netip.Prefix, via netip.Addr) {
	t.Helper()
	route := fmt.Sprintf("%s via %s", to, via)
	exec(t, lab, router, "sh", "-c", "ip route replace "+route)
	t.Cleanup(func() {
		if _, err := lab.Exec(context.WithoutCancel(t.Context()), router, "sh", "-c", "ip route delete "+route); err != nil {
			t.Error(err)
		}
	})
}

// onLink is the address that a router has on its link with another one, of the
// same family as an address.
func onLink(t *testing.T, lab *cluster.Lab, router, peer string, like netip.Addr) netip.Addr {
	t.Helper()
	h, _ := lab.Topology.Host(router)
	for _, i := range h.Interfaces {
		if i.Peer != peer {
			continue
		}
		var addrs []netip.Addr
		for _, a := range i.Addresses {
			addrs = append(addrs, a.Addr())
		}
		return likeOf(addrs, like)
	}
	t.Fatalf("%s has no link with %s", router, peer)
	return netip.Addr{}
}

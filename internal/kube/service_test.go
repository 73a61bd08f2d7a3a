// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/waymark-net/waymark/service"
)

func ptr[T any](v T) *T { return &v }

func testService(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{"a": "b"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10", "fd00:96::10"},
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func testSlice(name string, family discoveryv1.AddressType, port int32, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web", "x": "y"}},
		AddressType: family,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(port)}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, TargetRef: &corev1.ObjectReference{Name: "pod"},
		})
	}
	return s
}

// describe is a Service in words.
func describe(s service.Service, problems []string, found bool) string {
	if !found {
		return strings.Join(append([]string{"not served"}, problems...), "\n")
	}
	lines := []string{fmt.Sprint(s.Key, " ", s.ClusterIPs, " ", s.PublishNotReady)}
	// What most Services do not have is written only where it is.
	for _, f := range []struct {
		name         string
		value, empty any
	}{
		{"external", s.ExternalIPs, []netip.Addr(nil)}, {"balancer", s.LoadBalancerIPs, []netip.Addr(nil)},
		{"from", s.SourceRanges, []netip.Prefix(nil)}, {"affinity", s.Affinity, time.Duration(0)},
		{"internal local", s.InternalLocal, false}, {"external local", s.ExternalLocal, false}, {"health", s.HealthCheckPort, uint16(0)},
	} {
		if !reflect.DeepEqual(f.value, f.empty) {
			lines[0] += fmt.Sprintf(", %s %v", f.name, f.value)
		}
	}
	for _, p := range s.Ports {
		line := fmt.Sprintf("%s %d:", p.Protocol, p.Port)
		if p.NodePort != 0 {
			line = fmt.Sprintf("%s %d/%d:", p.Protocol, p.Port, p.NodePort)
		}
		for _, e := range p.Endpoints {
			line += fmt.Sprintf(" %s", e.AddrPort)
			for _, c := range []struct {
				on   bool
				name string
			}{{!e.Ready, "unready"}, {!e.Serving, "failing"}, {e.Terminating, "leaving"}} {
				if c.on {
					line += "/" + c.name
				}
			}
			if e.Node != "" || e.ForZones != nil || e.ForNodes != nil {
				line += fmt.Sprintf("@%s%v%v", e.Node, e.ForZones, e.ForNodes)
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(append(lines, problems...), "\n")
}

func TestParseService(t *testing.T) {
	v4, v6 := discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	type sl = []*discoveryv1.EndpointSlice
	with := func(s *discoveryv1.EndpointSlice, change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		change(s)
		return s
	}
	for _, tc := range []struct {
		name    string
		service *corev1.Service
		slices  sl
		want    string
	}{
		{"no slices", testService(), nil, "default/web [10.96.0.10 fd00:96::10] false\nTCP 80:"},
		{"a slice a family", testService(), sl{testSlice("b", v6, 8080, "fd10::2"), testSlice("a", v4, 8080, "10.10.1.2", "10.10.1.3")},
			"default/web [10.96.0.10 fd00:96::10] false\nTCP 80: 10.10.1.2:8080 10.10.1.3:8080 [fd10::2]:8080"},
		{"two target ports", testService(), sl{testSlice("a", v4, 8080, "10.10.1.2"), testSlice("b", v4, 9090, "10.10.1.2")},
			"default/web [10.96.0.10 fd00:96::10] false\nTCP 80: 10.10.1.2:8080 10.10.1.2:9090"},
		{"conditions", testService(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), sl{with(testSlice("a", v4, 8080, "10.10.1.2", "10.10.1.3", "10.10.1.4"), func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false)}
			s.Endpoints[1].Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
		})}, "default/web [10.96.0.10 fd00:96::10] true\nTCP 80: 10.10.1.2:8080/unready/failing 10.10.1.3:8080/unready/leaving 10.10.1.4:8080"},
		{"old field only", testService(func(s *corev1.Service) { s.Spec.ClusterIPs = nil }), nil, "default/web [10.96.0.10] false\nTCP 80:"},
		{"headless", testService(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }), nil, "not served"},
		{"no address yet", testService(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil }), nil, "not served"},
		{"ExternalName", testService(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, "not served"},
		{"of another program", testService(func(s *corev1.Service) { s.Labels = map[string]string{labelServiceProxy: "x"} }), nil, "not served"},
		{"headless by label", testService(func(s *corev1.Service) { s.Labels = map[string]string{corev1.IsHeadlessService: ""} }), nil, "not served"},
		{"bad addresses", testService(func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"10.96.0.10", "10.96.0.11", "127.0.0.1", "fe80::1%eth0", "web"}
		}), nil, "default/web [10.96.0.10] false\nTCP 80:\nClusterIP 10.96.0.11 is the second of its family\n" +
			"ClusterIP \"127.0.0.1\" is not an address that can be served\nClusterIP \"fe80::1%eth0\" is not an address that can be served\nClusterIP \"web\" is not an address that can be served"},
		{"bad ports", testService(func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 80}, corev1.ServicePort{Protocol: "DCCP", Port: 5}, corev1.ServicePort{Port: 65536})
		}), nil, "default/web [10.96.0.10 fd00:96::10] false\nTCP 80:\nport 80 of TCP is named twice\n" +
			"port 5 of protocol \"DCCP\" is not served: it must be a port 1..65535 of TCP, UDP or SCTP\nport 65536 of protocol \"\" is not served: it must be a port 1..65535 of TCP, UDP or SCTP"},
		{"bad endpoints", testService(), sl{
			testSlice("a", v4, 8080, "fd10::2", "127.0.0.1", "169.254.0.1", "x", "224.0.0.1", "0.0.0.0"), testSlice("b", discoveryv1.AddressTypeFQDN, 8080, "example.com"),
			with(testSlice("c", v4, 8080, "10.10.1.2"), func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = nil; s.Ports[0].Port = nil }),
		}, "default/web [10.96.0.10 fd00:96::10] false\nTCP 80:\n" +
			`endpoint "fd10::2" of slice a is not an IPv4 address that packets can be sent to` + "\n" +
			`endpoint "127.0.0.1" of slice a is not an IPv4 address that packets can be sent to` + "\n" +
			`endpoint "169.254.0.1" of slice a is not an IPv4 address that packets can be sent to` + "\n" +
			`endpoint "x" of slice a is not an IPv4 address that packets can be sent to` + "\n" +
			`endpoint "224.0.0.1" of slice a is not an IPv4 address that packets can be sent to` + "\n" +
			`endpoint "0.0.0.0" of slice a is not an IPv4 address that packets can be sent to` + "\n" +
			`slice b is not used: its addresses are of type "FQDN", not IPv4 or IPv6` + "\n" +
			`port "http" of slice c is not used: it must have a number 1..65535 of TCP, UDP or SCTP` + "\n" +
			"slice c has an endpoint without an address"},
		{"a slice of a family that the Service has not", testService(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.10"} }), sl{testSlice("a", v6, 8080, "fd10::2")},
			"default/web [10.96.0.10] false\nTCP 80:\nslice a is not used: the Service has no ClusterIP of IPv6"},
		{"duplicates, nodes and hints; a node and the world are endpoints, too", testService(), sl{testSlice("b", v4, 8080, "10.10.1.2", "192.0.2.1"), with(testSlice("a", v4, 8080, "10.10.1.2", "198.51.100.7"), func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].NodeName = ptr("n1")
			s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "b"}}, ForNodes: []discoveryv1.ForNode{{Name: "n2"}}}
		})}, "default/web [10.96.0.10 fd00:96::10] false\nTCP 80: 10.10.1.2:8080@n1[a b][n2] 198.51.100.7:8080 10.10.1.2:8080 192.0.2.1:8080"},
		{"a target port that no Pod has", testService(), sl{with(testSlice("a", v4, 8080, "10.10.1.2"), func(s *discoveryv1.EndpointSlice) { s.Ports = nil })},
			"default/web [10.96.0.10 fd00:96::10] false\nTCP 80:\n" + `port "http" of TCP has no endpoints, although there are some: its target port must be one that the Pods' containers have`},
		{"very many problems", testService(), sl{with(testSlice("a", v4, 8080), func(s *discoveryv1.EndpointSlice) {
			for i := range 5000 {
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprint(i)}})
			}
		})}, "default/web [10.96.0.10 fd00:96::10] false\nTCP 80:\n" + strings.Join(func() (lines []string) {
			for i := range maxProblems {
				lines = append(lines, fmt.Sprintf("endpoint %q of slice a is not an IPv4 address that packets can be sent to", fmt.Sprint(i)))
			}
			return append(lines, "and more")
		}(), "\n")},
		{"ports find each other by name and protocol", testService(func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolUDP, Port: 80}, {Name: "other", Port: 81}}
		}), sl{testSlice("a", v4, 8080, "10.10.1.2")}, "default/web [10.96.0.10 fd00:96::10] false\nUDP 80:\nTCP 81:\n" +
			`port "http" of UDP has no endpoints, although there are some: its target port must be one that the Pods' containers have` + "\n" +
			`port "other" of TCP has no endpoints, although there are some: its target port must be one that the Pods' containers have`},
		{"a port without name and protocol", testService(func(s *corev1.Service) { s.Spec.Ports[0].Name = "" }),
			sl{with(testSlice("a", v4, 8080, "10.10.1.2"), func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name, s.Ports[0].Protocol = nil, nil })},
			"default/web [10.96.0.10 fd00:96::10] false\nTCP 80: 10.10.1.2:8080"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, describe(parseService(tc.service, tc.slices))); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestServiceWatcher: whatever the order in which objects come and go, the
// Service is what they make it, and its name is told. What informers do is done
// by hand here; the integration test has real ones.
func TestServiceWatcher(t *testing.T) {
	changes := 0
	w, err := NewServiceWatcher(ServiceWatcherParams{Clients: &Clients{Core: fake.NewClientset()}, OnChange: func() { changes++ }})
	if err != nil {
		t.Fatal(err)
	}
	put := func(informer cache.SharedIndexInformer, object any) {
		t.Helper()
		after, err := slim(object)
		if err != nil {
			t.Fatal(err)
		}
		before, known, err := informer.GetStore().Get(after)
		if err != nil {
			t.Fatal(err)
		}
		if err := informer.GetStore().Add(after); err != nil {
			t.Fatal(err)
		}
		if known {
			w.handler().OnUpdate(before, after)
		} else {
			w.handler().OnAdd(after, false)
		}
	}
	remove := func(informer cache.SharedIndexInformer, object any) {
		t.Helper()
		if err := informer.GetStore().Delete(object); err != nil {
			t.Fatal(err)
		}
		w.handler().OnDelete(cache.DeletedFinalStateUnknown{Obj: object})
	}
	step := func(what, want string) {
		t.Helper()
		keys := w.Take()
		if (len(keys) > 0) != (changes > 0) {
			t.Errorf("%s: %d changes were told of %v", what, changes, keys)
		}
		changes = 0
		if d := cmp.Diff(want, fmt.Sprint(keys)+" "+describe(w.Service(service.Key{Namespace: "default", Name: "web"}))); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	const head = "default/web [10.96.0.10 fd00:96::10] false\n"
	late := func() *discoveryv1.EndpointSlice {
		return testSlice("late", discoveryv1.AddressTypeIPv6, 8080, "fd10::2")
	}
	put(w.slices, testSlice("early", discoveryv1.AddressTypeIPv4, 8080, "10.10.1.2"))
	step("slice without a Service", "[default/web] not served")
	put(w.services, testService())
	step("Service", "[default/web] "+head+"TCP 80: 10.10.1.2:8080")
	put(w.slices, late())
	step("another slice", "[default/web] "+head+"TCP 80: 10.10.1.2:8080 [fd10::2]:8080")
	touched := late()
	touched.Annotations = map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "now"}
	put(w.slices, touched)
	put(w.services, testService(func(s *corev1.Service) { s.Spec.Selector = nil }))
	step("nothing new", "[] "+head+"TCP 80: 10.10.1.2:8080 [fd10::2]:8080")
	balanced := func() *corev1.Service {
		return testService(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
		})
	}
	put(w.services, balanced())
	step("an address of a load balancer", "[default/web] default/web [10.96.0.10 fd00:96::10] false, balancer [203.0.113.1]\nTCP 80: 10.10.1.2:8080 [fd10::2]:8080")
	put(w.services, testService())
	step("no more", "[default/web] "+head+"TCP 80: 10.10.1.2:8080 [fd10::2]:8080")
	unready := late()
	unready.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false)}
	put(w.slices, unready)
	step("not ready", "[default/web] "+head+"TCP 80: 10.10.1.2:8080 [fd10::2]:8080/unready/failing")
	other := late()
	other.Labels[discoveryv1.LabelServiceName] = "other"
	put(w.slices, other)
	step("slice of another Service now", "[default/other default/web] "+head+"TCP 80: 10.10.1.2:8080")
	remove(w.slices, testSlice("early", discoveryv1.AddressTypeIPv4, 8080))
	step("no slice", "[default/web] "+head+"TCP 80:")
	put(w.services, testService(func(s *corev1.Service) { s.Labels = map[string]string{labelServiceProxy: "x"} }))
	step("of another program", "[default/web] not served")
	put(w.services, testService(func(s *corev1.Service) { s.Labels = map[string]string{"app": "web", corev1.IsHeadlessService: ""} }))
	step("headless by label", "[default/web] not served")
	put(w.services, testService())
	if all := fmt.Sprint(w.All()); all != "[default/web]" || len(w.Take()) > 0 {
		t.Errorf("all: %s", all)
	}
	changes = 0
	remove(w.services, testService())
	step("no Service", "[default/web] not served")
}

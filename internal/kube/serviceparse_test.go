// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/waymark-net/waymark/service"
)

// TestParseServiceOutside: what serves the outside, and how endpoints are chosen.
func TestParseServiceOutside(t *testing.T) {
	const head, plain = "default/web [10.96.0.10 fd00:96::10] false", "\nTCP 80:"
	balancer := func(change func(*corev1.Service)) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {IP: "2001:db8::1"}}
			change(s)
		}
	}
	ranges := func(texts ...string) func(*corev1.Service) {
		return balancer(func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = texts })
	}
	const balanced = head + ", balancer [203.0.113.1 2001:db8::1]"
	for _, tc := range []struct {
		name   string
		change func(*corev1.Service)
		want   string
	}{
		{"external IPs", func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"203.0.113.1", "2001:db8::1", "203.0.113.1", "::ffff:203.0.113.2", "127.0.0.1", "fe80::1", "224.0.0.1", "0.0.0.0", ""}
		}, head + ", external [203.0.113.1 2001:db8::1 203.0.113.2]" + plain + `
externalIP "127.0.0.1" is not an address that can be served
externalIP "fe80::1" is not an address that can be served
externalIP "224.0.0.1" is not an address that can be served
externalIP "0.0.0.0" is not an address that can be served
externalIP "" is not an address that can be served`},
		{"external IPs of another family", func(s *corev1.Service) {
			s.Spec.ClusterIPs, s.Spec.ExternalIPs = []string{"10.96.0.10"}, []string{"203.0.113.1", "2001:db8::1"}
		}, "default/web [10.96.0.10] false, external [203.0.113.1]" + plain + "\nexternalIP 2001:db8::1 is not served: the Service has no ClusterIP of its family"},
		{"load balancer IPs", balancer(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{
				{Hostname: "lb.example.com"}, {IP: "203.0.113.1"}, {IP: "203.0.113.2", IPMode: ptr(corev1.LoadBalancerIPModeVIP), Hostname: "x"},
				{IP: "203.0.113.3", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}, {IP: "203.0.113.4", IPMode: ptr(corev1.LoadBalancerIPMode("New"))}, {IP: "x"},
			}
		}), head + ", balancer [203.0.113.1 203.0.113.2]" + plain + "\nload balancer IP \"x\" is not an address that can be served"},
		{"source ranges", ranges(" 192.0.2.0/24", "198.51.100.7/24 ", "2001:db8:1::/48", "192.0.2.0/24"),
			balanced + ", from [192.0.2.0/24 198.51.100.0/24 2001:db8:1::/48]" + plain},
		{"source ranges of one family leave the other open", ranges("192.0.2.0/24"), balanced + ", from [192.0.2.0/24 ::/0]" + plain},
		{"source ranges of everybody", ranges("192.0.2.0/24", "0.0.0.0/0"), balanced + plain},
		{"some source ranges are bad", ranges("192.0.2.0/24", "2001:db8::/x"),
			balanced + ", from [192.0.2.0/24 ::/128]" + plain + "\nloadBalancerSourceRange \"2001:db8::/x\" lets nobody pass: it is not a CIDR"},
		{"all source ranges are bad", ranges("192.0.2.1", "::ffff:192.0.2.0/120"), balanced + ", from [0.0.0.0/32 ::/128]" + plain + `
loadBalancerSourceRange "192.0.2.1" lets nobody pass: it is not a CIDR
loadBalancerSourceRange "::ffff:192.0.2.0/120" lets nobody pass: it is not a CIDR`},
		{"source ranges of nothing", func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"} }, head + plain},
		{"the annotation is for clouds", balancer(func(s *corev1.Service) {
			s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey] = "192.0.2.0/24"
		}), balanced + plain},
		{"affinity by default", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }, head + ", affinity 3h0m0s" + plain},
		{"affinity", func(s *corev1.Service) { setAffinity(s, 86400) }, head + ", affinity 24h0m0s" + plain},
		{"no affinity", func(s *corev1.Service) { setAffinity(s, 1); s.Spec.SessionAffinity = corev1.ServiceAffinityNone }, head + plain},
		{"affinity too short", func(s *corev1.Service) { setAffinity(s, 0) }, head + ", affinity 1s" + plain + "\nsessionAffinity has a timeout of 0 s, 1 s is used: it must be 1..86400"},
		{"affinity too long", func(s *corev1.Service) { setAffinity(s, 86401) }, head + ", affinity 24h0m0s" + plain + "\nsessionAffinity has a timeout of 86401 s, 86400 s is used: it must be 1..86400"},
		{"affinity of another kind", func(s *corev1.Service) { s.Spec.SessionAffinity = "Cookie" }, head + plain + "\nsessionAffinity \"Cookie\" is not known: None or ClientIP"},
		{"Local", balancer(func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy, s.Spec.ExternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal), corev1.ServiceExternalTrafficPolicyLocal
			s.Spec.HealthCheckNodePort, s.Spec.Ports[0].NodePort = 30999, 30080
		}), balanced + ", internal local true, external local true, health 30999\nTCP 80/30080:"},
		{"Local without a port for health", balancer(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }),
			balanced + ", external local true" + plain + "\nhealthCheckNodePort 0 is not a port 1..65535"},
		{"Cluster", balancer(func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy, s.Spec.ExternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyCluster), corev1.ServiceExternalTrafficPolicyCluster
			s.Spec.HealthCheckNodePort = 30999
		}), balanced + plain},
		{"policies of a newer API", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy, s.Spec.ExternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicy("Near")), "Far"
		}, head + plain + "\nexternalTrafficPolicy \"Far\" is not known, Cluster is used: Cluster or Local\ninternalTrafficPolicy \"Near\" is not known, Cluster is used: Cluster or Local"},
		{"node ports", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeNodePort, corev1.ServiceExternalTrafficPolicyLocal
			s.Spec.Ports = []corev1.ServicePort{{Port: 80, NodePort: 30080}, {Port: 81, NodePort: 30080}, {Port: 80, NodePort: 30080, Protocol: corev1.ProtocolUDP}, {Port: 82, NodePort: 65536}, {Port: 83}}
		}, head + ", external local true\nTCP 80/30080:\nTCP 81:\nUDP 80/30080:\nTCP 82:\nTCP 83:\nnodePort 30080 of TCP is named twice\nnodePort 65536 is not a port 1..65535"},
		{"node ports of a Service that had them", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30080 }, head + plain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, describe(parseService(testService(tc.change), nil))); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func setAffinity(s *corev1.Service, seconds int32) {
	s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
}

// FuzzParseService: whatever the API server says, what comes of it can be
// served, nothing that is left out is missing from what is kept of objects, and
// ranges that are not understood do not open a Service.
func FuzzParseService(f *testing.F) {
	type input struct {
		Service corev1.Service
		Slices  []*discoveryv1.EndpointSlice
	}
	for _, i := range []input{
		{*testService(func(s *corev1.Service) { setAffinity(s, 5) }), []*discoveryv1.EndpointSlice{testSlice("a", discoveryv1.AddressTypeIPv4, 8080, "10.10.1.2", "127.0.0.1")}},
		{*testService(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
			s.Spec.HealthCheckNodePort, s.Spec.Ports[0].NodePort = 30999, 30080
			s.Spec.ExternalIPs, s.Spec.LoadBalancerSourceRanges = []string{"2001:db8::1"}, []string{"192.0.2.0/24", "x"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {IP: "203.0.113.2", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}}
		}), []*discoveryv1.EndpointSlice{{AddressType: "FQDN"}}},
	} {
		text, err := json.Marshal(i)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var i input
		if json.Unmarshal(text, &i) != nil || slices.Contains(i.Slices, nil) {
			return
		}
		s, problems, found := parseService(&i.Service, i.Slices)
		checkServable(t, &i.Service, s, problems, found)
		slimService(&i.Service)
		for _, slice := range i.Slices {
			slimSlice(slice)
		}
		if d := cmp.Diff(describe(s, problems, found), describe(parseService(&i.Service, i.Slices))); d != "" {
			t.Errorf("what is kept says something else (-all +kept):\n%s", d)
		}
	})
}

func checkServable(t *testing.T, o *corev1.Service, s service.Service, problems []string, found bool) {
	t.Helper()
	if len(problems) > maxProblems+1 {
		t.Errorf("%d problems", len(problems))
	}
	if !found {
		return
	}
	if len(s.ClusterIPs) == 0 || len(s.ClusterIPs) > 2 || s.Affinity < 0 || s.Affinity > 24*time.Hour || s.Affinity%time.Second != 0 {
		t.Errorf("ClusterIPs %v, affinity %s", s.ClusterIPs, s.Affinity)
	}
	understood := slices.ContainsFunc(o.Spec.LoadBalancerSourceRanges, func(r string) bool {
		_, err := netip.ParsePrefix(strings.TrimSpace(r))
		return err == nil
	})
	if len(o.Spec.LoadBalancerSourceRanges) > 0 && !understood && len(s.LoadBalancerIPs) > 0 && len(s.SourceRanges) == 0 {
		t.Errorf("%q let everybody pass", o.Spec.LoadBalancerSourceRanges)
	}
	addrs := slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs)
	for _, p := range s.Ports {
		if p.Port == 0 {
			t.Errorf("port %+v", p)
		}
		for _, e := range p.Endpoints {
			addrs = append(addrs, e.Addr())
			if e.Port() == 0 {
				t.Errorf("endpoint %+v", e)
			}
		}
	}
	for _, a := range addrs {
		if !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "" || !hasFamily(s.ClusterIPs, a.Is4()) {
			t.Errorf("address %s of a Service at %v", a, s.ClusterIPs)
		}
	}
}

// BenchmarkParseService is what a change of one endpoint costs, in a Service of
// 5,000 in slices of 100.
func BenchmarkParseService(b *testing.B) {
	var own []*discoveryv1.EndpointSlice
	for i := range 50 {
		var addresses []string
		for j := range 100 {
			addresses = append(addresses, fmt.Sprintf("10.10.%d.%d", i, j))
		}
		s := testSlice(fmt.Sprint("web-", i), discoveryv1.AddressTypeIPv4, 8080, addresses...)
		for j := range s.Endpoints {
			s.Endpoints[j].NodeName = ptr("n1")
			s.Endpoints[j].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
		}
		own = append(own, s)
	}
	o := testService()
	b.ReportAllocs()
	for b.Loop() {
		if s, problems, found := parseService(o, own); !found || len(problems) > 0 || len(s.Ports[0].Endpoints) != 5000 {
			b.Fatal(problems)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/waymark-net/waymark/internal/localapi"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const agentSocket = "/var/run/waymark/agent.sock"

// checkWrongServices writes into the API what nobody should, or what looks
// wrong and is not. Each is served as Kubernetes says, or left out with a reason;
// the Services of the table are served as before.
func checkWrongServices(t *testing.T, s *services, all map[string]placed) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *services)
	}{
		{"addresses that others have", func(t *testing.T, s *services) { checkClash(t, s, all["one"]) }},
		{"what the API server refuses", func(t *testing.T, s *services) { checkRefusedObjects(t, s, all["one"]) }},
		{"target port that no container names", checkTargetPort},
		{"endpoints and addresses of another family", checkOtherFamily},
		{"addresses that cannot be", checkSpecialAddresses},
		{"5,000 endpoints outside of every Pod CIDR", checkManyEndpoints},
		{"endpoints in two slices", checkDuplicates},
		{"NodePort in use", checkPortInUse},
		{"slices before their Service", checkEarlySlices},
		{"hints for zones that do not exist", checkStrangeHints},
	} {
		check(t, c.name, func(t *testing.T) { c.run(t, s) })
	}
	check(t, "nothing else is affected", func(t *testing.T) { checkUses(t, s, usesOfOne(t, s, all, everybody)...) })
}

// usesOfOne are all uses in the table of Service "one" that somebody makes.
func usesOfOne(t *testing.T, s *services, all map[string]placed, who []string) []tried {
	t.Helper()
	var uses []tried
	for _, from := range who {
		own := slices.DeleteFunc(usesOf(t, s, all, from), func(e exchange) bool { return !strings.HasPrefix(e.use, "one at ") })
		uses = append(uses, tried{from, own})
	}
	return uses
}

// asks are exchanges over TCP with addresses.
func asks(use string, want verdict, host string, addrs []netip.AddrPort) []exchange {
	var out []exchange
	for _, a := range addrs {
		out = append(out, exchange{use: use, want: want, host: host, target: probe.Target{Protocol: probe.TCP, Address: a.Addr(), Port: a.Port(), Millis: denyMillis}})
	}
	return out
}

// addExternal gives a Service external addresses.
func addExternal(spec *corev1.ServiceSpec, addrs []netip.Addr) {
	for _, a := range addrs {
		spec.ExternalIPs = append(spec.ExternalIPs, a.String())
	}
}

// checkClash has a Service name addresses as its own that others have: an
// external one of the Service before it, and ClusterIPs.
func checkClash(t *testing.T, s *services, one placed) {
	const second = "clash-second"
	contested := outside(s.lab, "n1", 60)
	taken := one.clusterIPs(t)
	first := s.add(t, serviceOf("clash-first", echoPort, func(spec *corev1.ServiceSpec) { addExternal(spec, contested) }), nil, members("b@n1"))
	loser := s.add(t, serviceOf(second, echoPort, func(spec *corev1.ServiceSpec) {
		addExternal(spec, contested)
		addExternal(spec, taken)
	}), nil, members("b@n2"))
	words := []string{"clash-first", one.object.Name}
	for _, a := range slices.Concat(contested, taken) {
		words = append(words, a.String())
	}
	loser.complains(t, words...)
	at, own := withPort(contested, servicePort), withPort(loser.clusterIPs(t), servicePort)
	firstHost, secondHost := s.pods["b@n1"].Name, s.pods["b@n2"].Name
	checkUses(t, s,
		tried{topology.Client, asks("external address of two", isAnswered, firstHost, at)},
		tried{"a@n2", slices.Concat(
			asks("external address of two", isAnswered, firstHost, at),
			asks("ClusterIP of the other one", isAnswered, secondHost, own),
			asks("ClusterIP that another calls its own", isAnswered, firstHost, withPort(taken, servicePort)))})
	if err := s.client.CoreV1().Services(workload.Namespace).Delete(t.Context(), first.object.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	checkUses(t, s,
		tried{topology.Client, asks("external address of the one that is left", isAnswered, secondHost, at)},
		tried{"a@n2", asks("external address of the one that is left", isAnswered, secondHost, at)})
}

// checkRefusedObjects shows what cannot come to the agents.
func checkRefusedObjects(t *testing.T, s *services, one placed) {
	named := func(change func(*corev1.Service)) *corev1.Service {
		o := serviceOf("refused", echoPort, nil)
		change(o)
		return o
	}
	for name, o := range map[string]*corev1.Service{
		"a protocol that is not known": named(func(o *corev1.Service) { o.Spec.Ports[0].Protocol = "ICMP" }),
		"a NodePort of another":        named(func(o *corev1.Service) { atNodes("NodePort", one.object.Spec.Ports[0].NodePort)(&o.Spec) }),
		"a ClusterIP of another": named(func(o *corev1.Service) {
			o.Spec.ClusterIP, o.Spec.ClusterIPs = one.object.Spec.ClusterIPs[0], one.object.Spec.ClusterIPs[:1]
		}),
		"an external address on the loopback": named(func(o *corev1.Service) { o.Spec.ExternalIPs = []string{"127.0.0.1"} }),
	} {
		api := s.client.CoreV1().Services(workload.Namespace)
		_, err := api.Create(t.Context(), o, metav1.CreateOptions{}) // a dry run does not ask whose an address is
		record(t, report.Check("refused: "+name, apierrors.IsInvalid(err), fmt.Sprint(err)))
		if err == nil {
			if err := api.Delete(t.Context(), o.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
	for name, change := range map[string]func(*discoveryv1.EndpointSlice){
		"an endpoint on the loopback":             func(o *discoveryv1.EndpointSlice) { o.Endpoints[0].Addresses = []string{"127.0.0.1"} },
		"an endpoint of another family":           func(o *discoveryv1.EndpointSlice) { o.Endpoints[0].Addresses = []string{"2001:db8::1"} },
		"a slice with a protocol that is unknown": func(o *discoveryv1.EndpointSlice) { *o.Ports[0].Protocol = "ICMP" },
	} {
		slice := one.slice(corev1.IPv4Protocol, members("b@n1"))
		slice.Name = "refused"
		change(slice)
		_, err := s.client.DiscoveryV1().EndpointSlices(workload.Namespace).Create(t.Context(), slice, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		record(t, report.Check("refused: "+name, apierrors.IsInvalid(err), fmt.Sprint(err)))
	}
}

// checkTargetPort has a Service select Pods whose containers do not name its
// target port: they are endpoints without it.
func checkTargetPort(t *testing.T, s *services) {
	m := s.add(t, serviceOf("no-port", 0, func(spec *corev1.ServiceSpec) {
		spec.Selector = map[string]string{"app": "probe-b"}
		spec.Ports = spec.Ports[:1]
		spec.Ports[0].TargetPort = intstr.FromString("nobodys")
	}), nil, nil)
	m.complains(t, `port "tcp"`, "target port")
	checkUses(t, s, tried{"a@n2", asks("ClusterIP", isRefused, "", withPort(m.clusterIPs(t), servicePort))})
}

// checkOtherFamily has a Service of IPv4 alone with endpoints and external
// addresses of both families.
func checkOtherFamily(t *testing.T, s *services) {
	contested := outside(s.lab, "n1", 62)
	m := s.add(t, serviceOf("families", echoPort, func(spec *corev1.ServiceSpec) {
		single := corev1.IPFamilyPolicySingleStack
		spec.IPFamilyPolicy, spec.IPFamilies = &single, []corev1.IPFamily{corev1.IPv4Protocol}
		addExternal(spec, contested)
	}), nil, members("b@n1"))
	s.addSlice(t, m.slice(corev1.IPv6Protocol, members("b@n2")))
	words := []string{m.object.Name + "-ipv6", "no ClusterIP of IPv6"}
	var served []netip.AddrPort
	for _, a := range contested {
		if a.Is4() {
			served = append(served, netip.AddrPortFrom(a, servicePort))
		} else {
			words = append(words, a.String())
		}
	}
	m.complains(t, words...)
	host := s.pods["b@n1"].Name
	checkUses(t, s,
		tried{"a@n2", asks("ClusterIP", isAnswered, host, withPort(m.clusterIPs(t), servicePort))},
		tried{topology.Client, asks("external address", isAnswered, host, served)})
}

// checkSpecialAddresses gives a Service load balancer addresses that are of no
// use to anybody, among good ones.
func checkSpecialAddresses(t *testing.T, s *services) {
	good := outside(s.lab, "n1", 63)
	bad := []netip.Addr{
		netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("169.254.0.9"), netip.MustParseAddr("224.0.0.9"), netip.MustParseAddr("fe80::9"),
	}
	m := s.add(t, serviceOf("special", echoPort, atNodes(corev1.ServiceTypeLoadBalancer, 31070)), slices.Concat(bad, good), members("b@n1"))
	var words []string
	for _, a := range bad {
		words = append(words, a.String())
	}
	m.complains(t, words...)
	checkUses(t, s, tried{topology.Client, asks("the good addresses", isAnswered, s.pods["b@n1"].Name, withPort(good, servicePort))})
}

// checkPortInUse has a program of n1 listen on a NodePort.
func checkPortInUse(t *testing.T, s *services) {
	const port = 31071
	squat(t, s.lab, "n1", port)
	m := s.add(t, serviceOf("in-use", echoPort, atNodes(corev1.ServiceTypeNodePort, port)), nil, members("b@n2"))
	eventually(t, enforced, func(ctx context.Context) error {
		return errors.Join(m.eventSays(ctx, "NodePortInUse", "n1", fmt.Sprint(port)), m.problemsSay(ctx, "n1", fmt.Sprint(port)))
	})
	// The Service has it, as with every other proxy.
	checkUses(t, s, tried{topology.Client, asks("NodePort", isAnswered, s.pods["b@n2"].Name, withPort(s.ends["n1"].Addresses, port))})
}

// checkEarlySlices has slices of a Service that is not there, and then is.
func checkEarlySlices(t *testing.T, s *services) {
	late := serviceOf("late", echoPort, nil)
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		slice := (&made{s, late}).slice(family, members("b@n1"))
		slice.OwnerReferences = nil
		s.addSlice(t, slice)
	}
	m := &made{s, late}
	if err := m.problemsSay(t.Context(), "n1"); !errors.Is(err, errNoService) {
		t.Errorf("before the Service is there: %v", err)
	}
	m = s.add(t, late, nil, nil)
	checkUses(t, s, tried{"a@n2", asks("ClusterIP", isAnswered, s.pods["b@n1"].Name, withPort(m.clusterIPs(t), servicePort))})
}

// checkStrangeHints has endpoints for a zone where no node is: everybody uses them.
func checkStrangeHints(t *testing.T, s *services) {
	m := s.add(t, serviceOf("hints", echoPort, nil), nil, nil)
	for _, family := range m.object.Spec.IPFamilies {
		slice := m.slice(family, members("b@n1"))
		for i := range slice.Endpoints {
			slice.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "nowhere"}}}
		}
		s.addSlice(t, slice)
	}
	at := asks("ClusterIP", isAnswered, s.pods["b@n1"].Name, withPort(m.clusterIPs(t), servicePort))
	checkUses(t, s, tried{"a@n1", at}, tried{"a@n2", at}, tried{"n2", at})
}

// addSlice creates a slice for as long as the test lasts.
func (s *services) addSlice(t *testing.T, slice *discoveryv1.EndpointSlice) {
	t.Helper()
	api := s.client.DiscoveryV1().EndpointSlices(slice.Namespace)
	if _, err := api.Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := api.Delete(context.WithoutCancel(t.Context()), slice.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) { // it may have gone with its Service
			t.Error(err)
		}
	})
}

// complains waits until an Event and the local API of a node say with all the
// words what of a Service is not served.
func (m *made) complains(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, enforced, func(ctx context.Context) error {
		return errors.Join(m.eventSays(ctx, "ServiceNotServed", words...), m.problemsSay(ctx, "n1", words...))
	})
}

// eventSays complains unless there is an Event about the Service with all the words.
func (m *made) eventSays(ctx context.Context, reason string, words ...string) error {
	list, err := m.services.client.CoreV1().Events(workload.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=Service,involvedObject.name=" + m.object.Name + ",reason=" + reason,
	})
	if err != nil {
		return err
	}
	last := fmt.Errorf("no Event %s about Service %s", reason, m.object.Name)
	for _, e := range list.Items {
		if last = contains(e.Message+" "+e.Source.Host, words...); last == nil {
			return nil
		}
	}
	return last
}

var errNoService = errors.New("the agent knows no such Service")

// problemsSay complains unless the agent of a node names problems of the Service
// with all the words.
func (m *made) problemsSay(ctx context.Context, node string, words ...string) error {
	answer, err := m.ofAgent(ctx, node)
	if err != nil {
		return err
	}
	return contains(strings.Join(answer.Problems, "; "), words...)
}

// ofAgent is the Service as the agent of a node sees it.
func (m *made) ofAgent(ctx context.Context, node string) (localapi.Service, error) {
	h, err := m.services.lab.Host(node)
	if err != nil {
		return localapi.Service{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://agent/services?namespace="+m.object.Namespace+"&name="+m.object.Name, nil)
	if err != nil {
		return localapi.Service{}, err
	}
	response, err := onSocket(h, agentSocket).Do(request)
	if err != nil {
		return localapi.Service{}, err
	}
	defer response.Body.Close()
	var answer localapi.Services
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return localapi.Service{}, fmt.Errorf("%s of %s: %w", request.URL, node, err)
	}
	if len(answer.Services) != 1 {
		return localapi.Service{}, fmt.Errorf("%s: %w", node, errNoService)
	}
	return answer.Services[0], nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/matrix"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// verdict is what comes of a use of a Service.
type verdict string

const (
	isAnswered verdict = "answered"
	isRefused  verdict = "refused" // at once
	isDropped  verdict = "dropped"
)

// atOnce bounds how long a refusal may take, in milliseconds: less than the
// time after which a client's kernel sends its first packet again.
const atOnce = 900

// use is who uses a Service at which of its addresses, and what comes of it,
// over TCP and UDP and in every family.
type use struct {
	from    []string
	service string
	at      []string
	want    verdict
	// keeps: the Pod must see the client's own address. Elsewhere it may see
	// another one that is no third party's.
	keeps bool
}

// Who uses Services. The only endpoint of most is b@n1; hostPod is in the
// network of n2.
const hostPod = "host Pod@n2"

var (
	servicePods  = []string{"a@n1", "a@n2", "b@n1"} // the last one reaches itself
	serviceNodes = []string{"n1", "n2", hostPod}
	everybody    = append(append([]string{topology.Client}, servicePods...), serviceNodes...)
)

var serviceUses = []use{
	{[]string{"a@n1", "a@n2"}, "one", []string{"ClusterIP"}, isAnswered, true},
	{append([]string{"b@n1"}, serviceNodes...), "one", []string{"ClusterIP"}, isAnswered, false},
	{everybody, "one", []string{"NodePort of n1", "NodePort of n2", "LoadBalancer by n1", "LoadBalancer by n2", "externalIP by n2"}, isAnswered, false},
	{[]string{"a@n2", "n1", "n2"}, "one", []string{"ClusterIP, another port"}, isRefused, false},

	{[]string{topology.Client}, "local", []string{"NodePort of n1", "LoadBalancer by n1", "externalIP by n1"}, isAnswered, true},
	{[]string{topology.Client}, "local", []string{"NodePort of n2", "LoadBalancer by n2"}, isDropped, false},
	{[]string{"a@n2"}, "local", []string{"ClusterIP"}, isAnswered, true},
	// To a node's own Pods, and to itself, the policy is no limit.
	{[]string{"a@n2", "n2", hostPod}, "local", []string{"NodePort of n2"}, isAnswered, true},
	{[]string{"n1"}, "local", []string{"NodePort of n1"}, isAnswered, true},
	{[]string{"a@n2", "n2", hostPod}, "local", []string{"LoadBalancer by n2"}, isAnswered, false},

	{[]string{"a@n1"}, "internal", []string{"ClusterIP"}, isAnswered, true},
	{[]string{"n1"}, "internal", []string{"ClusterIP"}, isAnswered, false},
	{[]string{"a@n2", "n2", hostPod}, "internal", []string{"ClusterIP"}, isDropped, false},

	{[]string{topology.Client}, "ranged", []string{"LoadBalancer by n1", "LoadBalancer by n2"}, isAnswered, false},
	{[]string{"a@n1", "a@n2"}, "ranged", []string{"LoadBalancer by n1"}, isDropped, false},
	{[]string{"a@n1"}, "ranged", []string{"ClusterIP"}, isAnswered, true},
	{[]string{topology.Client}, "elsewhere", []string{"LoadBalancer by n1", "LoadBalancer by n2"}, isDropped, false},
	{[]string{topology.Client}, "elsewhere", []string{"NodePort of n1", "NodePort of n2"}, isAnswered, false},

	{[]string{"a@n2", "n1", hostPod}, "empty", []string{"ClusterIP"}, isRefused, false},
	{[]string{topology.Client, "a@n2", "n1", hostPod}, "empty", []string{"NodePort of n1", "NodePort of n2", "LoadBalancer by n1", "externalIP by n2"}, isRefused, false},
	{[]string{topology.Client}, "empty local", []string{"NodePort of n1", "NodePort of n2", "LoadBalancer by n2"}, isRefused, false},
}

// Ports of the nodes of the Services in the table; they begin here.
const (
	firstNodePort   = 31010
	healthCheckPort = 31100
)

// checkServices asks every kind of Service at every kind of address from
// everywhere, then what takes a sequence of connections, and then what nobody
// should write into the API.
func checkServices(t *testing.T, lab *cluster.Lab) {
	s, all := checkServiceUses(t, lab)
	check(t, "health checks", func(t *testing.T) { checkHealthChecks(t, s) })
	check(t, "NetworkPolicy sees the client", func(t *testing.T) { checkServicePolicies(t, s, all) })
	check(t, "session affinity", func(t *testing.T) { checkAffinity(t, s) })
	check(t, "externalIP that is a node's address", func(t *testing.T) { checkOwnAddress(t, s) })
	check(t, "wrong input", func(t *testing.T) { checkWrongServices(t, s, all) })
	check(t, "modes", func(t *testing.T) { checkServiceModes(t, s, all) })
}

// checkServiceUses asks every kind of Service at every kind of address from
// everywhere, and leaves the Services there for as long as the test lasts.
func checkServiceUses(t *testing.T, lab *cluster.Lab) (*services, map[string]placed) {
	t.Helper()
	routeOutside(t, lab)
	s := newServices(t, lab)
	addHostPod(t, s)
	all := servicesOfTable(t, s)
	var uses []tried
	for _, from := range everybody {
		uses = append(uses, tried{from, usesOf(t, s, all, from)})
	}
	checkUses(t, s, uses...)
	return s, all
}

// placed is a Service and where it is, by the names of the table.
type placed struct {
	*made
	at map[string][]netip.AddrPort
}

// servicesOfTable makes the Services of the table by name.
func servicesOfTable(t *testing.T, s *services) map[string]placed {
	t.Helper()
	var ranges []string
	for _, a := range s.ends[topology.Client].Addresses {
		ranges = append(ranges, netip.PrefixFrom(a, a.BitLen()).String())
	}
	internal := corev1.ServiceInternalTrafficPolicyLocal
	local := func(spec *corev1.ServiceSpec) { spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	all := map[string]placed{}
	for i, c := range []struct {
		name      string
		endpoints []member
		change    func(*corev1.ServiceSpec)
	}{
		{"one", members("b@n1"), func(*corev1.ServiceSpec) {}},
		{"local", members("b@n1"), func(spec *corev1.ServiceSpec) {
			local(spec)
			spec.HealthCheckNodePort = healthCheckPort
		}},
		{"internal", members("b@n1"), func(spec *corev1.ServiceSpec) { spec.InternalTrafficPolicy = &internal }},
		{"ranged", members("b@n1"), func(spec *corev1.ServiceSpec) { spec.LoadBalancerSourceRanges = ranges }},
		{"elsewhere", members("b@n1"), func(spec *corev1.ServiceSpec) {
			spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24", "2001:db8:ffff::/64"}
		}},
		{"empty", nil, func(*corev1.ServiceSpec) {}},
		{"empty local", nil, local},
	} {
		nodePort := int32(firstNodePort + i)
		at := map[string][]netip.AddrPort{}
		var ingress []netip.Addr
		object := serviceOf("table-"+strings.ReplaceAll(c.name, " ", "-"), echoPort, func(spec *corev1.ServiceSpec) {
			atNodes(corev1.ServiceTypeLoadBalancer, nodePort)(spec)
			for _, node := range []string{"n1", "n2"} {
				balanced, external := outside(s.lab, node, byte(1+i)), outside(s.lab, node, byte(101+i))
				ingress = append(ingress, balanced...)
				for _, a := range external {
					spec.ExternalIPs = append(spec.ExternalIPs, a.String())
				}
				at["NodePort of "+node] = withPort(s.ends[node].Addresses, nodePort)
				at["LoadBalancer by "+node] = withPort(balanced, servicePort)
				at["externalIP by "+node] = withPort(external, servicePort)
			}
			c.change(spec)
		})
		m := s.add(t, object, ingress, c.endpoints)
		at["ClusterIP"] = withPort(m.clusterIPs(t), servicePort)
		at["ClusterIP, another port"] = withPort(m.clusterIPs(t), servicePort+1)
		all[c.name] = placed{m, at}
	}
	return all
}

// addHostPod starts a Pod in the network of n2 and makes it an end to ask from.
func addHostPod(t *testing.T, s *services) {
	t.Helper()
	const name, node = "host-pod", "n2"
	if err := s.lab.ApplyObjects(t.Context(), fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  nodeName: %s
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers: [{name: probe, image: %s, imagePullPolicy: IfNotPresent, args: [pause]}]
`, name, workload.Namespace, node, image.Probe)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := s.lab.Kubectl(context.WithoutCancel(t.Context()), "-n", workload.Namespace, "delete", "pod", name, "--now")
		if err != nil {
			t.Error(err)
		}
	})
	kubectl(t, s.lab, "-n", workload.Namespace, "wait", "--for=condition=Ready", "--timeout=60s", "pod/"+name)
	end := endpointOf(s.lab, workload.Pod{Namespace: workload.Namespace, Name: name, Node: node, Addresses: s.ends[node].Addresses})
	end.Kind = matrix.Node
	s.ends[hostPod] = end
}

// checkHealthChecks asks nodes whether they have endpoints, as the load
// balancers of clouds do.
func checkHealthChecks(t *testing.T, s *services) {
	t.Helper()
	for _, node := range []string{"n1", "n2"} {
		status, count := "200 OK", `"localEndpoints":1`
		if node == "n2" {
			status, count = "503 Service Unavailable", `"localEndpoints":0`
		}
		for _, a := range s.ends[node].Addresses {
			url := "http://" + netip.AddrPortFrom(a, healthCheckPort).String() + "/healthz"
			eventually(t, enforced, func(ctx context.Context) error {
				got, body, err := s.get(ctx, url)
				if err == nil && (got != status || !strings.Contains(strings.ReplaceAll(body, " ", ""), count)) {
					err = fmt.Errorf("%s: %s with %s, want %s with %s", url, got, body, status, count)
				}
				return err
			})
		}
	}
}

// get asks for a page from the client outside.
func (s *services) get(ctx context.Context, url string) (status, body string, err error) {
	h, err := s.lab.Host(topology.Client)
	if err != nil {
		return "", "", err
	}
	client := http.Client{
		Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true}, Timeout: 5 * time.Second,
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.Status, string(data), err
}

// checkServicePolicies lets only some addresses reach the Pods of the Services:
// policies judge the client that is outside, and the Pod behind a Service.
func checkServicePolicies(t *testing.T, s *services, all map[string]placed) {
	t.Helper()
	client := s.ends[topology.Client]
	blocks := func(addrs ...netip.Addr) string {
		var from []string
		for _, a := range addrs {
			from = append(from, fmt.Sprintf("{ipBlock: {cidr: %q}}", netip.PrefixFrom(a, a.BitLen())))
		}
		return policyObject("clients", `{podSelector: {matchLabels: {app: probe-b}}, ingress: [{from: [`+strings.Join(from, ", ")+`]}]}`)
	}
	for _, c := range []struct {
		name    string
		allowed []netip.Addr
		want    map[string]verdict // by who asks
	}{
		{"only the client", client.Addresses, map[string]verdict{topology.Client: isAnswered, "a@n2": isDropped}},
		{"only a Pod", s.ends["a@n2"].Addresses, map[string]verdict{topology.Client: isDropped, "a@n2": isAnswered}},
	} {
		check(t, c.name, func(t *testing.T) {
			applyPolicies(t, s.lab, blocks(c.allowed...))
			for from, want := range c.want {
				at := "ClusterIP"
				if from == topology.Client {
					at = "NodePort of n1"
				}
				var exchanges []exchange
				for _, a := range all["local"].at[at] {
					for _, protocol := range []string{probe.TCP, probe.UDP} {
						exchanges = append(exchanges, exchange{
							use: "local at " + at, want: want, host: s.pods["b@n1"].Name,
							target: probe.Target{Protocol: protocol, Address: a.Addr(), Port: a.Port(), Millis: denyMillis},
							seen:   []netip.Addr{sameFamily(s.ends[from], a.Addr())},
						})
					}
				}
				checkUses(t, s, tried{from, exchanges})
			}
		})
	}
}

// checkOwnAddress has a Service at an address of n1, which goes on to be that of
// n1 for everything else.
func checkOwnAddress(t *testing.T, s *services) {
	t.Helper()
	addrs := s.ends["n1"].Addresses
	s.add(t, serviceOf("own-address", echoPort, func(spec *corev1.ServiceSpec) {
		for _, a := range addrs {
			spec.ExternalIPs = append(spec.ExternalIPs, a.String())
		}
	}), nil, members("b@n1"))
	var uses []tried
	for _, from := range everybody {
		var exchanges []exchange
		for _, a := range addrs {
			for _, protocol := range []string{probe.TCP, probe.UDP} {
				target := probe.Target{Protocol: protocol, Address: a, Port: servicePort}
				exchanges = append(exchanges, exchange{
					use: "Service at an address of n1", target: target, want: isAnswered,
					host: s.pods["b@n1"].Name, seen: seenAs(s, from, "n1", a, false),
				})
				target.Port = echoPort
				exchanges = append(exchanges, exchange{use: "n1 itself", target: target, want: isAnswered, host: "n1"})
			}
		}
		uses = append(uses, tried{from, exchanges})
	}
	checkUses(t, s, uses...)
}

// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-net/waymark/test/bench/measure"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/image"
	probe "github.com/waymark-net/waymark/test/lab/probe/bench"
	"github.com/waymark-net/waymark/test/lab/workload"
)

const (
	// serviceNamespace has all Services of the benchmark and no Pods: these would
	// get variables for every Service.
	serviceNamespace = "bench-services"
	// firstPort is where the servers begin to listen that are measured: below the
	// ports that clients get (ip_local_port_range).
	firstPort = 20000
	// greetingPort is where every probe greets who connects.
	greetingPort = 7000
	// bulkEndpoints are those of each Service that is only there.
	bulkEndpoints = 10
	// sampled Services stand for all when it is asked whether they work.
	sampled = 200
	// makers make objects at once.
	makers = 16
)

// measuredService is one that connections are made to: all of its endpoints are
// ports of one Pod.
type measuredService struct {
	place     place
	endpoints int
}

// serviceBench has Services, and a Pod that uses them.
type serviceBench struct {
	t      *testing.T
	client *kubernetes.Clientset
	paths  paths
	from   end
	meter  measure.CPU

	backends []string // addresses of the Pods that Services lead to that are only there
	measured map[measuredService]netip.AddrPort
	followed netip.AddrPort // leads to one port of the Pod across racks
	bulk     []netip.AddrPort
	ports    servicePorts // of each Pod that is measured
	// followedAt is which of its ports the Service leads to that is followed.
	followedAt int

	got      samples[serviceSeries]
	failures map[serviceSeries]string // one of each series that has any
}

func newServiceBench(t *testing.T) *serviceBench {
	t.Helper()
	b := &serviceBench{
		t: t, paths: productPaths(t), measured: map[measuredService]netip.AddrPort{}, got: samples[serviceSeries]{}, failures: map[serviceSeries]string{},
		ports: layPorts(firstPort, endpointCounts, roundChanges+1), // none twice in a round
	}
	b.from = b.paths.ends[places[0]].from
	b.meter = cpuMeter(t, b.paths.lab)
	config, err := b.paths.lab.RESTConfig()
	b.must(err)
	b.client, err = kubernetes.NewForConfig(config)
	b.must(err)
	var pods []netip.AddrPort
	for _, where := range servicePlaces {
		b.must(b.paths.ends[where].to.answer(t.Context(), b.ports.all))
		pods = append(pods, b.direct(where))
	}
	b.sweep(pods)()
	b.must(b.makeBackends())
	_, err = b.client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: serviceNamespace}}, metav1.CreateOptions{})
	b.must(err)
	for _, where := range servicePlaces {
		for _, n := range endpointCounts {
			b.makeMeasured(measuredService{where, n})
		}
	}
	b.followed, err = b.makeService("followed", slice{[]string{b.paths.ends[places[2]].to.addr.String()}, int32(b.ports.followed.port(b.followedAt))})
	b.must(err)
	return b
}

func (b *serviceBench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// answer starts servers in the Pod, one a port.
func (e end) answer(ctx context.Context, at portBlock) error {
	h, err := e.lab.Host(e.node)
	if err != nil {
		return err
	}
	return h.StartProcess(ctx, host.Process{
		Name: "answer-" + e.name, Log: "/var/log/lab/answer-" + e.name + ".log",
		Argv: append(slices.Clone(e.enter), workload.ProbePath, "serve", "--echo=", "--http=", "--stream=", "--bench=", "--greet=",
			"--answer="+at.String()),
	})
}

// direct is where connections to a Pod go without a Service.
func (b *serviceBench) direct(where place) netip.AddrPort {
	return netip.AddrPortFrom(b.paths.ends[where].to.addr, uint16(b.ports.direct.port(0)))
}

// makeBackends starts as many Pods, with those that are there, as Services have
// endpoints.
func (b *serviceBench) makeBackends() error {
	ctx := b.t.Context()
	there, err := workload.Pods(ctx, b.paths.lab, workload.Namespace, "")
	if err != nil {
		return err
	}
	if missing := bulkEndpoints - len(there); missing > 0 {
		if err := b.paths.lab.ApplyObjects(ctx, fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: probe-more, namespace: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: probe-more}}
  template:
    metadata: {labels: {app: probe-more}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: probe, image: %[3]s, imagePullPolicy: IfNotPresent, args: [serve]}
`, workload.Namespace, missing, image.Probe)); err != nil {
			return err
		}
		if _, err := b.paths.lab.Kubectl(ctx, "-n", workload.Namespace, "rollout", "status", "deployment/probe-more", "--timeout=120s"); err != nil {
			return err
		}
		if there, err = workload.Pods(ctx, b.paths.lab, workload.Namespace, ""); err != nil {
			return err
		}
	}
	for _, pod := range there[:min(len(there), bulkEndpoints)] {
		for _, a := range pod.Addresses {
			if a.Is4() {
				b.backends = append(b.backends, a.String())
			}
		}
	}
	if len(b.backends) != bulkEndpoints {
		return fmt.Errorf("%d Pods with IPv4, want %d", len(b.backends), bulkEndpoints)
	}
	return nil
}

// makeMeasured makes a Service with one slice for each port of a Pod, for a slice
// has the same ports for all of its addresses.
func (b *serviceBench) makeMeasured(m measuredService) {
	b.t.Helper()
	var slices []slice
	for n := range m.endpoints {
		slices = append(slices, slice{[]string{b.paths.ends[m.place].to.addr.String()}, int32(b.ports.measured[m.endpoints].port(n))})
	}
	at, err := b.makeService(fmt.Sprintf("%s-%d", strings.ReplaceAll(string(m.place), " ", "-"), m.endpoints), slices...)
	b.must(err)
	b.measured[m] = at
}

// grow makes Services that are only there, until there are so many, and waits
// until whoever serves now serves them.
func (b *serviceBench) grow(count int) {
	b.t.Helper()
	started := time.Now()
	first := len(b.bulk)
	b.bulk = append(b.bulk, make([]netip.AddrPort, count-first)...)
	b.must(parallel(count-first, func(n int) (err error) {
		b.bulk[first+n], err = b.makeService(fmt.Sprintf("bulk-%d", first+n), slice{b.backends, greetingPort})
		return err
	}))
	b.t.Logf("%d Services more took %.0f s to make", count-first, time.Since(started).Seconds())
}

// slice is an EndpointSlice: addresses that serve a port.
type slice struct {
	addresses []string
	port      int32
}

// servicePort is the port of every Service.
const servicePort = 80

// makeService makes a Service without a selector, and its slices.
func (b *serviceBench) makeService(name string, slices ...slice) (netip.AddrPort, error) {
	ctx := b.t.Context()
	family := corev1.IPFamilyPolicySingleStack
	service, err := b.client.CoreV1().Services(serviceNamespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Ports: []corev1.ServicePort{{Port: servicePort}}, IPFamilyPolicy: &family, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return netip.AddrPort{}, err
	}
	address, err := netip.ParseAddr(service.Spec.ClusterIP)
	if err != nil {
		return netip.AddrPort{}, err
	}
	err = parallel(len(slices), func(n int) error {
		_, err := b.client.DiscoveryV1().EndpointSlices(serviceNamespace).Create(ctx, slices[n].object(name, n), metav1.CreateOptions{})
		return err
	})
	return netip.AddrPortFrom(address, servicePort), err
}

func (s slice) object(service string, n int) *discoveryv1.EndpointSlice {
	port, name, protocol := s.port, "", corev1.ProtocolTCP
	object := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name:   fmt.Sprintf("%s-%d", service, n),
			Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "bench"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	for _, a := range s.addresses {
		object.Endpoints = append(object.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return object
}

// parallel does something count times, some at once.
func parallel(count int, do func(n int) error) error {
	var group errgroup.Group
	var next atomic.Int64
	for range min(count, makers) {
		group.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= count {
					return nil
				}
				if err := do(n); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// sample are Services spread over all, and those that are measured.
func (b *serviceBench) sample() []netip.AddrPort {
	var out []netip.AddrPort
	step := max(1, len(b.bulk)/sampled)
	for n := len(b.bulk) - 1; n >= 0; n -= step {
		out = append(out, b.bulk[n])
	}
	for _, at := range b.measured {
		out = append(out, at)
	}
	return append(out, b.followed)
}

// sweepLimit bounds how long it may take until Services work.
const sweepLimit = 3 * time.Minute

// sweep tries Services from the Pod until each has answered, while others do
// something. answered waits for that.
func (b *serviceBench) sweep(at []netip.AddrPort) (answered func() time.Time) {
	b.t.Helper()
	text, err := json.Marshal(at)
	b.must(err)
	h, err := b.from.lab.Host(b.from.node)
	b.must(err)
	var out string
	done := make(chan error, 1)
	go func() {
		var err error
		out, err = h.Output(b.t.Context(), bytes.NewReader(text), append(slices.Clone(b.from.enter), workload.ProbePath, "sweep", "--limit="+sweepLimit.String())...)
		done <- err
	}()
	return func() time.Time {
		b.t.Helper()
		b.must(<-done)
		var report probe.SweepReport
		b.must(json.Unmarshal([]byte(out), &report))
		return report.Answered
	}
}

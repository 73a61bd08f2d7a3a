// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	manyEndpoints = 5000
	// mostInSlice is how many endpoints the API admits in a slice.
	mostInSlice = 1000
)

// checkManyEndpoints has more endpoints than fit a group message, none of them a
// Pod: all are addresses of the client, which greets at each of them.
func checkManyEndpoints(t *testing.T, s *services) {
	network := netip.MustParsePrefix("198.18.0.0/19")
	haveAddresses(t, s.lab, network)
	m := s.add(t, serviceOf("many", greetPort, func(spec *corev1.ServiceSpec) {
		single := corev1.IPFamilyPolicySingleStack
		spec.IPFamilyPolicy, spec.IPFamilies = &single, []corev1.IPFamily{corev1.IPv4Protocol}
		spec.Ports = spec.Ports[:1]
	}), nil, nil)
	next := network.Addr().Next()
	for i := range manyEndpoints / mostInSlice {
		slice := m.slice(corev1.IPv4Protocol, members("b@n1"))
		slice.Name = fmt.Sprintf("%s-%d", slice.Name, i)
		like := slice.Endpoints[0]
		like.NodeName, slice.Endpoints = nil, nil
		for range mostInSlice {
			e := *like.DeepCopy()
			e.Addresses = []string{next.String()}
			slice.Endpoints = append(slice.Endpoints, e)
			next = next.Next()
		}
		s.addSlice(t, slice)
	}
	eventually(t, enforced, func(ctx context.Context) error {
		for _, node := range []string{"n1", "n2"} {
			known, err := m.ofAgent(ctx, node)
			if err != nil {
				return err
			}
			if len(known.Ports) != 1 || known.Ports[0].IPv4.Ready != manyEndpoints {
				return fmt.Errorf("%s knows %+v, want %d endpoints", node, known.Ports, manyEndpoints)
			}
		}
		return nil
	})
	answered := connectFor(t, s, []client{
		{podPlace(s, "a@n1"), withPort(m.clusterIPs(t), servicePort)},
		{hostPlace(s.lab, "n2"), withPort(m.clusterIPs(t), servicePort)},
	}, "5s")
	for from, servers := range answered {
		record(t, report.Check("connections from "+from, servers[topology.Client] >= 500, fmt.Sprintf("answered by %v", servers)))
	}
}

// haveAddresses gives the client all addresses of a network, and rack A the way
// to it.
func haveAddresses(t *testing.T, lab *cluster.Lab, network netip.Prefix) {
	t.Helper()
	const tor = "torA"
	client, _ := lab.Topology.Host(topology.Client)
	local := fmt.Sprintf("ip route %%s local %s dev lo", network)
	exec(t, lab, topology.Client, "sh", "-c", fmt.Sprintf(local, "replace"))
	t.Cleanup(func() {
		if _, err := lab.Exec(context.WithoutCancel(t.Context()), topology.Client, "sh", "-c", fmt.Sprintf(local, "delete")); err != nil {
			t.Error(err)
		}
	})
	addRoute(t, lab, topology.Spine, network, likeOf(client.Addresses(), network.Addr()))
	addRoute(t, lab, tor, network, onLink(t, lab, topology.Spine, tor, network.Addr()))
}

// connectFor makes 200 connections a second to each address of clients and
// returns how many each server answered, by client; a failure fails the test.
func connectFor(t *testing.T, s *services, clients []client, duration string) map[string]map[string]int {
	t.Helper()
	for _, c := range clients {
		eventually(t, enforced, func(ctx context.Context) error { return answersAll(ctx, t, c) })
	}
	tr := newTraffic(t)
	for _, c := range clients {
		tr.addConnects(t, c, 200*len(c.targets), "-duration", duration, "-timeout", answerTime)
	}
	servers := map[string]map[string]int{}
	for _, run := range tr.connects {
		for _, r := range run.reports(t) {
			if r.Failed > 0 {
				t.Errorf("%s: %d of %d failed %s", connectionsOf(run.name, r), r.Failed, r.Made, firstFailure(r))
			}
			servers[connectionsOf(run.name, r)] = r.Servers
		}
	}
	return servers
}

// checkDuplicates has one endpoint in two slices and another one in one: both
// are as likely.
func checkDuplicates(t *testing.T, s *services) {
	m := s.add(t, serviceOf("duplicates", greetPort, nil), nil, members("b@n1", "b@n2"))
	for _, family := range m.object.Spec.IPFamilies {
		again := m.slice(family, members("b@n1"))
		again.Name += "-again"
		s.addSlice(t, again)
	}
	clients := []client{{podPlace(s, "a@n1"), withPort(m.clusterIPs(t), servicePort)}, {podPlace(s, "a@n2"), withPort(m.clusterIPs(t), servicePort)}}
	eventually(t, enforced, func(ctx context.Context) error {
		for _, node := range []string{"n1", "n2"} {
			known, err := m.ofAgent(ctx, node)
			if err != nil {
				return err
			}
			for _, p := range known.Ports {
				if p.IPv4.Ready != 2 || p.IPv6.Ready != 2 {
					return fmt.Errorf("%s knows %+v, want 2 endpoints", node, p)
				}
			}
		}
		return nil
	})
	for from, servers := range connectFor(t, s, clients, "3s") {
		one, other := servers[s.pods["b@n1"].Name], servers[s.pods["b@n2"].Name]
		// Five standard deviations of a fair choice: one run in two million is off by
		// more. With an endpoint that
		// counts twice it is off by six and more.
		n := float64(one + other)
		off := math.Abs(float64(one) - n/2)
		record(t, report.Check("both alike: "+from, n >= 400 && off <= 5*math.Sqrt(n)/2, fmt.Sprintf("%d and %d", one, other)))
	}
}

// squat has a program listen on a port of a host for as long as the test lasts.
func squat(t *testing.T, lab *cluster.Lab, name string, port uint16) {
	t.Helper()
	h, err := lab.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	const program = "squatter"
	argv := []string{workload.ProbePath, "serve", "-echo", fmt.Sprint(port)}
	for _, other := range []string{"http", "stream", "bench", "greet"} {
		argv = append(argv, "-"+other, "")
	}
	if err := h.StartProcess(t.Context(), host.Process{Name: program, Argv: argv, Log: "/var/log/lab/squatter.log"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.StopProcess(context.WithoutCancel(t.Context()), program, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	})
	eventually(t, enforced, func(ctx context.Context) error {
		conn, err := h.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return errors.Join(errors.New("nobody listens"), err)
		}
		return conn.Close()
	})
}

// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/probe/datagram"
	"github.com/waymark-net/waymark/test/lab/probe/stream"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	forgetNodePort = 31060
	lastNodePort   = 31061
	stayNodePort   = 31062
	// forgotten is how soon after the API server has new endpoints a connection to
	// an old one must be gone. It takes milliseconds; machines may be busy.
	forgotten = 2 * time.Second
)

// checkConnections takes endpoints away from connections, and everything else
// but the endpoint.
func checkConnections(t *testing.T, lab *cluster.Lab) {
	s := newServices(t, lab)
	check(t, "UDP to an endpoint that goes", func(t *testing.T) { checkForgetsUDP(t, s) })
	check(t, "TCP to an endpoint that goes", func(t *testing.T) { checkResetsTCP(t, s) })
	check(t, "TCP to an endpoint that stays", func(t *testing.T) { checkStays(t, s) })
}

// clientsAcross are a Pod of n3 at the ClusterIP of a Service and the client
// outside at its NodePort of n1.
func clientsAcross(t *testing.T, s *services, m *made, nodePort int32) []client {
	t.Helper()
	return []client{
		{podPlace(s, "a@n3"), withPort(m.clusterIPs(t), servicePort)},
		{hostPlace(s.lab, topology.Client), withPort(s.ends["n1"].Addresses, nodePort)},
	}
}

// datagramRuns are probes that send datagrams and never change their port.
type datagramRuns []*probeRun

func (tr *traffic) startDatagrams(t *testing.T, clients []client) datagramRuns {
	var runs datagramRuns
	for _, c := range clients {
		runs = append(runs, tr.startAt(t, c, append([]string{"datagram"}, untilEnd...)...))
	}
	return runs
}

// say waits until the probes have said something of all their addresses, and
// fails the test, which goes on, when that takes too long.
func (runs datagramRuns) say(t *testing.T, what string) {
	t.Helper()
	err := cluster.Until(t.Context(), enforced, func(context.Context) error {
		var errs []error
		for _, run := range runs {
			if got := len(run.stderr.with(what)); got < run.addresses {
				errs = append(errs, fmt.Errorf("%d of %d addresses of %s: %q, not %q", got, run.addresses, run.name, run.stderr.String(), what))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Error(err)
	}
}

// checkForgetsUDP has clients send datagrams that never change their port. They
// must reach a Service that was not there when they began, stay with its
// endpoint when others come, and reach another one when it goes. All endpoints
// run all the time: only who forgets one sends elsewhere.
func checkForgetsUDP(t *testing.T, s *services) {
	m := s.add(t, serviceOf("forget-udp", echoPort, atNodes("NodePort", forgetNodePort)), nil, nil)
	first, second := s.pods["b@n1"].Name, s.pods["b@n2"].Name
	tr := newTraffic(t)
	runs := tr.startDatagrams(t, clientsAcross(t, s, m, forgetNodePort))
	runs.say(t, "is asked")
	served := time.Now()
	m.serve(t, members("b@n1")...)
	runs.say(t, "is answered by "+first)
	m.serve(t, members("b@n1", "b@n2")...)
	begun := time.Now()
	m.serve(t, members("b@n2")...)
	runs.say(t, "is answered by "+second)
	if err := tr.stop.Close(); err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		var reports []datagram.Report
		run.result(t, &reports)
		for _, r := range reports {
			name := fmt.Sprintf("%s datagrams from %s", familyName(r.Address.Addr()), run.name)
			note := fmt.Sprintf("served since %s, another endpoint since %s; %d of %d answered, %d refused, changes %v",
				served.Format(time.TimeOnly), begun.Format(time.TimeOnly), r.Received, r.Sent, r.Refused, r.Changes)
			t.Logf("%s: %s", name, note)
			ok := len(r.Changes) == 2 && r.Changes[0].Host == first && r.Changes[1].Host == second
			if ok {
				took := r.Changes[1].At.Sub(begun)
				ok = took <= forgotten
				record(t, report.Measure("forgotten: "+name, float64(took.Microseconds())/1000, "ms"))
			}
			record(t, report.Check("reach the endpoint that is left: "+name, ok, note))
		}
	}
}

// checkResetsTCP removes the endpoint of established connections in favour of
// another one, and the last endpoint.
func checkResetsTCP(t *testing.T, s *services) {
	for i, c := range []struct {
		name string
		left []member
	}{{"another is left", members("b@n2")}, {"none is left", nil}} {
		check(t, c.name, func(t *testing.T) {
			m := s.add(t, serviceOf(fmt.Sprintf("reset-tcp-%d", i), streamPort, atNodes("NodePort", lastNodePort)), nil, members("b@n1"))
			tr := newTraffic(t)
			tr.streamsThrough(t, clientsAcross(t, s, m, lastNodePort))
			begun := time.Now()
			m.serve(t, c.left...)
			for _, run := range tr.streams {
				checkEnds(t, run, begun, forgotten)
			}
		})
	}
}

// checkStays has connections to one endpoint that stays, while others come and
// go, it is not ready for new ones, policies change and agents are killed.
func checkStays(t *testing.T, s *services) {
	lab := s.lab
	m := s.add(t, serviceOf("stay-tcp", streamPort, atNodes("NodePort", stayNodePort)), nil, members("b@n1"))
	tr := newTraffic(t)
	tr.streamsThrough(t, clientsAcross(t, s, m, stayNodePort))
	for range 5 {
		m.serve(t, members("b@n1", "b@n2", "b@n3")...)
		m.serve(t, member{pod: "b@n1", unready: true}, member{pod: "b@n3"})
		m.serve(t, members("b@n1")...)
	}
	for i := range 5 {
		policy := policyObject("other", fmt.Sprintf(
			`{podSelector: {matchLabels: {app: probe-b}}, ingress: [{ports: [{port: %d}, {port: %d}]}]}`, streamPort, 8000+i))
		if err := kubectlApply(t.Context(), lab, policy); err != nil {
			t.Fatal(err)
		}
	}
	kubectl(t, lab, "-n", workload.Namespace, "delete", "networkpolicies", "--all")
	before := map[string]float64{}
	for _, node := range nodeNames(lab) {
		before[node] = agentStart(t, lab, node)
		killAgent(t, lab, node)
	}
	m.serve(t, members("b@n1", "b@n2")...)
	for node, start := range before {
		eventually(t, 90*time.Second, func(ctx context.Context) error { return settled(ctx, lab, node, start) })
	}
	tr.end(t, 0)
}

// streamsThrough starts streams from clients to a Service once they can run.
func (tr *traffic) streamsThrough(t *testing.T, clients []client) {
	t.Helper()
	for _, c := range clients {
		eventually(t, enforced, func(ctx context.Context) error { return streamsRun(ctx, t, c) })
	}
	for _, c := range clients {
		tr.addStreamsAt(t, c)
	}
	tr.await(t)
}

// streamsRun complains unless a short stream to each address of a client is whole.
func streamsRun(ctx context.Context, t *testing.T, c client) error {
	for _, a := range c.targets {
		run := newTraffic(t).startAt(t, client{c.place, []netip.AddrPort{a}}, "stream", "-connect", "900ms", "-silence", "900ms", "-duration", "50ms")
		select {
		case err := <-run.done:
			run.done <- err
		case <-ctx.Done():
			return ctx.Err()
		}
		var r stream.Report
		if run.result(t, &r); r.Broken {
			return fmt.Errorf("%s to %s: %s", c.name, a, r.Error)
		}
	}
	return nil
}

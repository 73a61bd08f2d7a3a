// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/probe/connect"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// place is where probes run: in a Pod or on a host.
type place struct {
	name string
	run  func(ctx context.Context, streams workload.Streams, args ...string) error
}

// podPlace is a Pod by its name in the matrix.
func podPlace(s *services, name string) place {
	return place{name, func(ctx context.Context, streams workload.Streams, args ...string) error {
		return workload.RunInPod(ctx, s.lab, s.pods[name], streams, append([]string{"/probe"}, args...)...)
	}}
}

func hostPlace(lab *cluster.Lab, name string) place {
	return place{name, func(ctx context.Context, streams workload.Streams, args ...string) error {
		h, err := lab.Host(name)
		if err != nil {
			return err
		}
		return h.Run(ctx, host.Cmd{
			Argv: append([]string{workload.ProbePath}, args...), Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr,
		})
	}}
}

// client is a place and the addresses that it uses from there.
type client struct {
	place
	targets []netip.AddrPort
}

// startAt starts a probe at a place.
func (tr *traffic) startAt(t *testing.T, c client, args ...string) *probeRun {
	for _, a := range c.targets {
		args = append(args, a.String())
	}
	return tr.run(t, c.place, c.name, len(c.targets), args...)
}

// run starts a probe that asks so many addresses at a place.
func (tr *traffic) run(t *testing.T, at place, name string, addresses int, args ...string) *probeRun {
	run := &probeRun{name: name, addresses: addresses, done: make(chan error, 1)}
	go func() {
		run.done <- at.run(t.Context(), workload.Streams{Stdin: tr.stdin, Stdout: &run.stdout, Stderr: &run.stderr}, args...)
	}()
	return run
}

// addConnects makes new connections to every address of a client, as many a
// second, until the end or as options of the probe say.
func (tr *traffic) addConnects(t *testing.T, c client, rate int, options ...string) *probeRun {
	args := append([]string{"connect", "-rate", strconv.Itoa(rate)}, options...)
	run := tr.startAt(t, c, args...)
	tr.connects = append(tr.connects, run)
	return run
}

// addStreamsAt starts a TCP stream to every address of a client.
func (tr *traffic) addStreamsAt(t *testing.T, c client) []*probeRun {
	var runs []*probeRun
	for _, a := range c.targets {
		run := tr.startAt(t, client{c.place, []netip.AddrPort{a}}, "stream", "-stdin", "-duration", longest.String())
		run.name = familyName(a.Addr()) + " from " + c.name
		runs = append(runs, run)
	}
	tr.streams = append(tr.streams, runs...)
	return runs
}

// answerTime is how long a connection may take under load until it counts as
// not answered: longer than a packet that gets lost on a busy machine delays it,
// which is counted apart.
const answerTime = "10s"

// untilEnd has a probe end with the traffic it is part of.
var untilEnd = []string{"-stdin", "-duration", longest.String()}

// endConnects ends the probes that make connections and returns their reports.
func (tr *traffic) endConnects(t *testing.T) map[string][]connect.Report {
	t.Helper()
	if err := tr.stop.Close(); err != nil {
		t.Fatal(err)
	}
	all := map[string][]connect.Report{}
	for _, run := range tr.connects {
		all[run.name] = run.reports(t)
	}
	return all
}

func (r *probeRun) reports(t *testing.T) []connect.Report {
	t.Helper()
	var reports []connect.Report
	r.result(t, &reports)
	return reports
}

// recordAnswered records that every connection of all probes was answered.
func recordAnswered(t *testing.T, all map[string][]connect.Report) {
	t.Helper()
	for from, reports := range all {
		for _, r := range reports {
			note := fmt.Sprintf("%d of %d failed, %d slow, the slowest took %.0f ms; %d servers, seen as %v %s",
				r.Failed, r.Made, r.Slow, r.MaxMillis, len(r.Servers), r.Clients, firstFailure(r))
			name := connectionsOf(from, r)
			t.Logf("%s: %s", name, note)
			record(t, report.Check("answered every time: "+name, r.Failed == 0 && r.Answered > 0, note))
		}
	}
}

// connectionsOf names the connections of a report.
func connectionsOf(from string, r connect.Report) string {
	return fmt.Sprintf("%s connections from %s", familyName(r.Address.Addr()), from)
}

// firstFailure says in words what failed first.
func firstFailure(r connect.Report) string {
	if len(r.Failures) == 0 {
		return ""
	}
	f := r.Failures[0]
	return fmt.Sprintf("(at %s, %s after %.0f ms: %s)", f.Begun.Format("15:04:05.000"), f.Reason, f.Millis, f.Error)
}

// steadyService is a Service in front of all Pods b that greet, and its clients:
// a Pod on one node at the ClusterIP, and the client outside at the NodePort of
// that node.
func steadyService(t *testing.T, s *services, name string, nodePort int32, node string, endpoints ...member) (*made, []client) {
	t.Helper()
	m := s.add(t, serviceOf(name, greetPort, atNodes("NodePort", nodePort)), nil, endpoints)
	return m, steadyClients(t, s, m, node, servicePort, nodePort)
}

func steadyClients(t *testing.T, s *services, m *made, node string, port, nodePort int32) []client {
	t.Helper()
	return []client{
		{podPlace(s, "a@"+node), withPort(m.clusterIPs(t), port)},
		{hostPlace(s.lab, topology.Client), withPort(s.ends[node].Addresses, nodePort)},
	}
}

// startConnects lets clients make connections, so many a second in all, once
// each of them is answered.
func startConnects(t *testing.T, clients []client, rate int, options ...string) *traffic {
	t.Helper()
	tr := newTraffic(t)
	targets := 0
	for _, c := range clients {
		targets += len(c.targets)
	}
	// What is not in the switch yet is refused: begin when everything is there.
	for _, c := range clients {
		eventually(t, enforced, func(ctx context.Context) error { return answersAll(ctx, t, c) })
	}
	for _, c := range clients {
		tr.addConnects(t, c, rate/targets, append(untilEnd, options...)...)
	}
	tr.await(t)
	return tr
}

// answersAll complains unless one connection to each address is answered.
func answersAll(ctx context.Context, t *testing.T, c client) error {
	tr := newTraffic(t)
	run := tr.startAt(t, c, "connect", "-rate", "20", "-timeout", "900ms", "-duration", "100ms")
	select {
	case err := <-run.done:
		run.done <- err
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, r := range run.reports(t) {
		if r.Failed > 0 || r.Answered == 0 {
			return fmt.Errorf("%s to %s: %d of %d failed %s", c.name, r.Address, r.Failed, r.Made, firstFailure(r))
		}
	}
	return nil
}

// lastOutageEnd is when the last outage of a report ended, false if it did not.
func lastOutageEnd(r connect.Report) (time.Time, bool) {
	if len(r.Outages) == 0 {
		return time.Time{}, true
	}
	end := r.Outages[len(r.Outages)-1].End
	return end, !end.IsZero()
}

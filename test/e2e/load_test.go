// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/probe/ping"
	"github.com/waymark-net/waymark/test/lab/probe/stream"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// What a cluster carries while it is disturbed: a ping every millisecond between the
// Pods of every two nodes in each family, long TCP connections with checksummed
// content, and new connections.
const (
	longConnections = 50
	newConnections  = 200 // a second
	// streamInterval is the time between two records of a long connection.
	streamInterval = "100ms"
	// greetTime is how long a new connection may take.
	greetTime = "5s"
)

// inPod is a Pod's network, used from its node: what ends containerd or the kubelet
// does not end probes there.
func inPod(t *testing.T, lab *cluster.Lab, pod workload.Pod) place {
	t.Helper()
	const find = `for f in /var/run/waymark/attachments/*; do
	if grep -qF '"podName": "'"$1"'"' "$f" && grep -qF '"podNamespace": "'"$2"'"' "$f"; then grep -oE '"netns": *"[^"]+"' "$f" | cut -d'"' -f4; fi
done`
	netns := strings.TrimSpace(exec(t, lab, pod.Node, "sh", "-ec", find, "find", pod.Name, pod.Namespace))
	if netns == "" || strings.Contains(netns, "\n") {
		t.Fatalf("network namespaces of Pod %s on %s: %q", pod.Name, pod.Node, netns)
	}
	return place{pod.Name, func(ctx context.Context, streams workload.Streams, args ...string) error {
		h, err := lab.Host(pod.Node)
		if err != nil {
			return err
		}
		return h.Run(ctx, host.Cmd{
			Argv:  append([]string{"nsenter", "--net=" + netns, workload.ProbePath}, args...),
			Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr,
		})
	}}
}

// startLoad starts it, and returns once all of it is answered. pods are on a node
// each.
func startLoad(t *testing.T, lab *cluster.Lab, pods []workload.Pod) *traffic {
	t.Helper()
	tr := newTraffic(t)
	var clients []client
	for i, a := range pods {
		c := client{place: inPod(t, lab, a)}
		for j, b := range pods {
			if i < j {
				var addrs []string
				for _, to := range b.Addresses {
					addrs = append(addrs, to.String())
				}
				args := append(append([]string{"ping", "-interval", "1ms", "-outages", "1ms"}, untilEnd...), addrs...)
				tr.pings = append(tr.pings, tr.run(t, c.place, a.Name, len(addrs), args...))
			}
			for _, to := range b.Addresses {
				if i != j {
					c.targets = append(c.targets, netip.AddrPortFrom(to, streamPort))
				}
			}
		}
		clients = append(clients, c)
	}
	for n := range longConnections {
		c := clients[n%len(clients)]
		to := c.targets[n/len(clients)%len(c.targets)]
		args := append(append([]string{"stream", "-interval", streamInterval}, untilEnd...), to.String())
		tr.streams = append(tr.streams, tr.run(t, c.place, fmt.Sprintf("%s from %s", to, c.name), 1, args...))
	}
	for _, c := range clients {
		rate := newConnections / len(clients) / len(c.targets)
		for i, to := range c.targets {
			c.targets[i] = netip.AddrPortFrom(to.Addr(), greetPort)
		}
		tr.addConnects(t, c, rate, append(untilEnd, "-timeout", greetTime)...)
	}
	tr.await(t)
	return tr
}

// outcome is what came of traffic.
type outcome struct {
	sent, lost int
	gap        time.Duration // the longest without an answer, of all pings
	pause      time.Duration // the longest in which a ping was not even sent
	streams    int
	broken     int
	made       int // new connections
	failed     int
	slow       int // answered, but not to the first packet
}

// finish ends traffic and adds up what came of it.
func (tr *traffic) finish(t *testing.T) outcome {
	t.Helper()
	if err := tr.stop.Close(); err != nil {
		t.Fatal(err)
	}
	var o outcome
	millis := func(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
	for _, run := range tr.pings {
		var reports []ping.Report
		run.result(t, &reports)
		for _, p := range reports {
			o.sent, o.lost = o.sent+p.Sent, o.lost+p.Lost
			o.gap, o.pause = max(o.gap, millis(p.MaxOutage)), max(o.pause, millis(p.MaxPause))
			for _, out := range p.Outages[:min(len(p.Outages), mostOutages)] {
				t.Logf("ping of %s: lost from %s to %s", p.Address, out.From.Format(clock), out.To.Format(clock))
			}
		}
	}
	for _, run := range tr.streams {
		var s stream.Report
		run.result(t, &s)
		o.streams++
		if s.Broken {
			o.broken++
			t.Logf("connection to %s: %s", run.name, s.Error)
		}
	}
	for _, run := range tr.connects {
		for _, r := range run.reports(t) {
			o.made, o.failed, o.slow = o.made+r.Made, o.failed+r.Failed, o.slow+r.Slow
			if r.Failed > 0 {
				t.Logf("connections of %s to %s: %s", run.name, r.Address, firstFailure(r))
			}
		}
	}
	return o
}

func (o outcome) String() string {
	return fmt.Sprintf("%d of %d packets lost; %d of %d connections broken; %d of %d new ones failed, %d slow; the longest pause of a sender was %.0f ms",
		o.lost, o.sent, o.broken, o.streams, o.failed, o.made, o.slow, float64(o.pause.Microseconds())/1000)
}

// row is that of the report. An outage as long as allowed is one that the
// disturbance may cause; without any, nothing may be lost at all.
func (o outcome) row(name string, allowed time.Duration, more string) report.Row {
	held := o.sent > o.lost && o.gap <= allowed && o.broken == 0 && (allowed > 0 || o.lost == 0 && o.failed == 0)
	row := report.Measure(name, float64(o.gap.Microseconds())/1000, "ms")
	row.OK, row.Note = &held, o.String()
	if more != "" {
		row.Note += "; " + more
	}
	return row
}

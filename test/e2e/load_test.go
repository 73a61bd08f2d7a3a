// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
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

// startLoad starts it, and returns once all of it is answered. pods are on a node
// each.
func startLoad(t *testing.T, lab *cluster.Lab, pods []workload.Pod) *traffic {
	t.Helper()
	type pair struct {
		from workload.Pod
		to   netip.Addr
	}
	tr := newTraffic(t)
	var pairs []pair
	for i, a := range pods {
		for j, b := range pods {
			if i < j {
				tr.addPing(t, lab, a, b)
			}
			for _, to := range b.Addresses {
				if i != j {
					pairs = append(pairs, pair{a, to})
				}
			}
		}
	}
	for n := range longConnections {
		p := pairs[n%len(pairs)]
		tr.streams = append(tr.streams, tr.start(t, lab, p.from, fmt.Sprintf("%s from %s", p.to, p.from.Name), []string{
			"/probe", "stream", "-stdin", "-duration", longest.String(), "-interval", streamInterval,
			netip.AddrPortFrom(p.to, streamPort).String(),
		}))
	}
	for _, a := range pods {
		c := client{place{a.Name, func(ctx context.Context, streams workload.Streams, args ...string) error {
			return workload.RunInPod(ctx, lab, a, streams, append([]string{"/probe"}, args...)...)
		}}, nil}
		for _, p := range pairs {
			if p.from.Name == a.Name {
				c.targets = append(c.targets, netip.AddrPortFrom(p.to, greetPort))
			}
		}
		tr.addConnects(t, c, newConnections/len(pairs), append(untilEnd, "-timeout", greetTime)...)
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

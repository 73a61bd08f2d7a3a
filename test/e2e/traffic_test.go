// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/probe/ping"
	"github.com/waymark-net/waymark/test/lab/probe/stream"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	// streamPort is where Pods answer probe stream.
	streamPort = 7100
	// longest is when traffic ends that nobody has ended.
	longest = 10 * time.Minute
)

// traffic are probes that run in Pods while something is done to the lab. All
// of them end when stop is closed.
type traffic struct {
	stdin, stop *os.File // the end of stdin, by closing stop, ends the probes
	pings       []*probeRun
	streams     []*probeRun
	connects    []*probeRun
	// rows counts those of the report by name.
	rows map[string]int
}

// probeRun is one probe that runs in a Pod.
type probeRun struct {
	name string
	// addresses is how many it asks.
	addresses int
	done      chan error
	stdout    bytes.Buffer
	stderr    lines
}

func newTraffic(t *testing.T) *traffic {
	t.Helper()
	tr := &traffic{}
	var err error
	if tr.stdin, tr.stop, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = tr.stop.Close()
		_ = tr.stdin.Close()
	})
	return tr
}

// startTraffic is a ping every millisecond and a TCP stream in both families
// from one Pod to another. It returns once packets have come back.
func startTraffic(t *testing.T, lab *cluster.Lab, from, to workload.Pod) *traffic {
	t.Helper()
	tr := newTraffic(t)
	tr.addStreams(t, lab, from, to)
	tr.addPing(t, lab, from, to)
	tr.await(t)
	return tr
}

const (
	// mostOutages is how many outages of a ping are told.
	mostOutages = 20
	// clock is the form in which times of a run are told.
	clock = "15:04:05.000"
)

// addPing starts a ping every millisecond to every address of a Pod, with options
// of the probe.
func (tr *traffic) addPing(t *testing.T, lab *cluster.Lab, from, to workload.Pod, options ...string) *probeRun {
	argv := []string{"/probe", "ping", "-interval", "1ms", "-outages", "1ms", "-stdin", "-duration", longest.String()}
	argv = append(argv, options...)
	for _, a := range to.Addresses {
		argv = append(argv, a.String())
	}
	run := tr.start(t, lab, from, "", argv)
	tr.pings = append(tr.pings, run)
	return run
}

// addStreams starts a TCP stream to every address of a Pod.
func (tr *traffic) addStreams(t *testing.T, lab *cluster.Lab, from, to workload.Pod) []*probeRun {
	var runs []*probeRun
	for _, a := range to.Addresses {
		runs = append(runs, tr.start(t, lab, from, familyName(a), []string{
			"/probe", "stream", "-stdin", "-duration", longest.String(), netip.AddrPortFrom(a, streamPort).String(),
		}))
	}
	tr.streams = append(tr.streams, runs...)
	return runs
}

// await returns once packets have come back to every probe, in every family.
func (tr *traffic) await(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, func(context.Context) error {
		for _, p := range tr.pings {
			if got := len(p.stderr.with("is answered")); got < p.addresses {
				return fmt.Errorf("%d of %d addresses answer pings: %s", got, p.addresses, &p.stderr)
			}
		}
		for _, c := range tr.connects {
			if got := len(c.stderr.with("is answered")); got < c.addresses {
				return fmt.Errorf("%d of %d addresses answer connections from %s: %s", got, c.addresses, c.name, &c.stderr)
			}
		}
		for _, s := range tr.streams {
			if len(s.stderr.with("runs")) == 0 {
				return fmt.Errorf("the %s stream does not run: %s", s.name, &s.stderr)
			}
		}
		return nil
	})
}

func (tr *traffic) start(t *testing.T, lab *cluster.Lab, pod workload.Pod, name string, argv []string) *probeRun {
	run := &probeRun{name: name, addresses: len(pod.Addresses), done: make(chan error, 1)}
	go func() {
		streams := workload.Streams{Stdin: tr.stdin, Stdout: &run.stdout, Stderr: &run.stderr}
		run.done <- workload.RunInPod(t.Context(), lab, pod, streams, argv...)
	}()
	return run
}

// end ends the probes, records what they saw and fails the test for lost
// packets and broken connections. An outage as long as allowed is no failure.
func (tr *traffic) end(t *testing.T, allowed time.Duration) {
	t.Helper()
	if err := tr.stop.Close(); err != nil {
		t.Fatal(err)
	}
	var pings []ping.Report
	for _, run := range tr.pings {
		var reports []ping.Report
		run.result(t, &reports)
		pings = append(pings, reports...)
	}
	for _, p := range pings {
		note := fmt.Sprintf("%d of %d lost, longest outage %.0f ms, longest pause of the sender %.0f ms, RTT at most %.1f ms, %d not sent %s",
			p.Lost, p.Sent, p.MaxOutage, p.MaxPause, p.MaxRTT, p.SendErrors, p.LastError)
		name := tr.named(familyName(p.Address) + " ping every millisecond")
		t.Logf("%s: %s", name, note)
		for _, o := range p.Outages[:min(len(p.Outages), mostOutages)] {
			t.Logf("  lost from %s to %s", o.From.Format(clock), o.To.Format(clock))
		}
		if allowed > 0 {
			record(t, report.Measure("longest outage of "+name, p.MaxOutage, "ms"))
		}
		held := p.Lost == 0 || p.MaxOutage <= float64(allowed.Milliseconds())
		record(t, report.Check(name, held && p.Received > 0, note))
	}
	for _, run := range tr.streams {
		var s stream.Report
		run.result(t, &s)
		note := fmt.Sprintf("%.0f s, %d and %d records, longest gap %.0f and %.0f ms %s",
			s.Seconds, s.Client.Records, s.Server.Records, s.Client.MaxGap, s.Server.MaxGap, s.Error)
		name := tr.named(run.name + " TCP stream")
		t.Logf("%s: %s", name, note)
		record(t, report.Check(name, !s.Broken, note))
	}
}

// named makes the name of a row unlike those before it.
func (tr *traffic) named(name string) string {
	if tr.rows == nil {
		tr.rows = map[string]int{}
	}
	tr.rows[name]++
	if n := tr.rows[name]; n > 1 {
		return fmt.Sprintf("%s (%d)", name, n)
	}
	return name
}

// result reads what a probe printed at its end.
func (r *probeRun) result(t *testing.T, into any) {
	t.Helper()
	if err := <-r.done; err != nil {
		t.Fatalf("%v: %s", err, &r.stderr)
	}
	if err := json.Unmarshal(r.stdout.Bytes(), into); err != nil {
		t.Fatalf("probe said %q: %v", r.stdout.String(), err)
	}
}

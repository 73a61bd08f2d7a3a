// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/test/lab/host"
	probe "github.com/waymark-net/waymark/test/lab/probe/bench"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// What connections take the machine from those who follow the change: at one a
// millisecond a slow machine does nothing else.
var followEvery = flag.Duration("follow-every", 2*time.Millisecond, "between the begins of two connections while a change is waited for, from 1ms")

const (
	// roundChanges is how often a round has a Service lead elsewhere.
	roundChanges = 10
	// changePause is between two changes: by default kube-proxy changes its rules
	// once a second.
	changePause = 1500 * time.Millisecond
	// followTimeout is that of each connection while a change is waited for.
	followTimeout = 500 * time.Millisecond
	// followAfter is how long more are begun after the new endpoint has answered.
	followAfter = 200 * time.Millisecond
	// followLimit bounds how long it may take until it has.
	followLimit = 10 * time.Second
)

// Metrics of a change; the counts are of connections begun after it.
const (
	metricFollow  = "change of an endpoint"
	metricBegun   = "begin of the first connection to the new endpoint"
	metricMade    = "connections after a change"
	metricOld     = "to the old endpoint"
	metricLost    = "failed after a change"
	metricLeftOut = "not begun"
	metricMissed  = "changes that were not seen"
)

// changes measures how soon connections follow a change of an endpoint.
func (b *serviceBench) changes(proxy string, services int) {
	b.t.Helper()
	for range roundChanges {
		b.sleep(changePause)
		b.change(serviceSeries{proxy: proxy, services: services})
	}
}

func (b *serviceBench) change(s serviceSeries) {
	b.t.Helper()
	b.followedAt = (b.followedAt + 1) % b.ports.followed.count
	port := b.ports.followed.port(b.followedAt)
	ended := b.follow(port)
	turn := b.lead(port)
	seen := ended()
	f, err := seen.Follows(turn)
	if err != nil {
		b.t.Errorf("%+v: %v", s, err)
		return
	}
	first, begun := f.First, f.Begun
	if !f.Seen {
		b.t.Logf("%+v: a change was not seen in %s", s, followLimit)
		b.add(s, metricMissed, 1)
		first, begun = followLimit, followLimit // or more
	}
	if f.Failed > 0 {
		b.fail(s, f.Failure)
	}
	b.add(s, metricFollow, 1e3*first.Seconds())
	b.add(s, metricBegun, 1e3*begun.Seconds())
	b.add(s, metricMade, float64(f.Made))
	b.add(s, metricOld, float64(f.Old))
	b.add(s, metricLost, float64(f.Failed))
	b.add(s, metricLeftOut, float64(seen.LeftOut))
}

// lead has the Service that is followed lead to another port.
func (b *serviceBench) lead(port int) probe.Turn {
	b.t.Helper()
	object := slice{[]string{b.paths.ends[places[2]].to.addr.String()}, int32(port)}.object("followed", 0)
	turn := probe.Turn{Asked: time.Now(), Port: uint16(port)}
	_, err := b.client.DiscoveryV1().EndpointSlices(serviceNamespace).Update(b.t.Context(), object, metav1.UpdateOptions{})
	b.must(err)
	turn.Answered = time.Now()
	return turn
}

// follow has the Pod make connections to the Service that changes, until a port
// has answered, and returns when one was answered, or none in followLimit. ended
// waits for the end of all.
func (b *serviceBench) follow(port int) (ended func() probe.FollowReport) {
	b.t.Helper()
	h, err := b.from.lab.Host(b.from.node)
	b.must(err)
	stderr, said := io.Pipe()
	var stdout bytes.Buffer
	done := make(chan error, 1)
	argv := append(slices.Clone(b.from.enter), workload.ProbePath, "follow", fmt.Sprintf("--port=%d", port), "--every="+followEvery.String(),
		"--timeout="+followTimeout.String(), "--after="+followAfter.String(), "--limit="+followLimit.String(), b.followed.String())
	go func() {
		err := h.Run(b.t.Context(), host.Cmd{Argv: argv, Stdout: &stdout, Stderr: said})
		done <- errors.Join(err, said.Close())
	}()
	lines := bufio.NewScanner(stderr)
	text := ""
	if lines.Scan() { // else it has ended
		text = lines.Text()
	}
	rest := make(chan struct{})
	go func() {
		defer close(rest)
		for lines.Scan() { // nothing that matters
		}
	}()
	return func() probe.FollowReport {
		b.t.Helper()
		if err := <-done; err != nil {
			b.t.Fatalf("%v: %s", err, text)
		}
		<-rest
		var r probe.FollowReport
		b.must(json.Unmarshal(stdout.Bytes(), &r))
		return r
	}
}

// changeRows are those of changes. What befell connections is in the note of the
// first.
func (b *serviceBench) changeRows(r *report.Report, counts []int) {
	for _, n := range counts {
		for _, q := range []float64{0.5, 0.99} {
			of := func(proxy string) float64 {
				return b.got.quantile(serviceSeries{proxy: proxy, services: n, metric: metricFollow}, q)
			}
			row := report.Measure(fmt.Sprintf("%s, %s: p%.0f", metricFollow, serviceCount(n), 100*q), of(waymark), "ms").Beside(of(kubeProxy))
			if q == 0.5 {
				row.Note = b.changeNote(waymark, n) + "; " + b.changeNote(kubeProxy, n)
			}
			r.Add(row)
		}
	}
}

func (b *serviceBench) changeNote(proxy string, services int) string {
	s := serviceSeries{proxy: proxy, services: services}
	note := []string{
		fmt.Sprintf("%s %s, begun p50 %.3g", proxy, b.spread(s, metricFollow), b.median(s, metricBegun)),
		fmt.Sprintf("of %.0f connections %.0f %s", b.sum(s, metricMade), b.sum(s, metricOld), metricOld),
		fmt.Sprintf("%.0f failed%s", b.sum(s, metricLost), b.reason(s)),
	}
	for _, metric := range []string{metricLeftOut, metricMissed} {
		if count := b.sum(s, metric); count > 0 {
			note = append(note, fmt.Sprintf("%.0f %s", count, metric))
		}
	}
	return strings.Join(note, ", ")
}

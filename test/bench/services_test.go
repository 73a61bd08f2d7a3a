// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	probe "github.com/waymark-net/waymark/test/lab/probe/bench"
	"github.com/waymark-net/waymark/test/report"
)

var serviceCounts = flag.String("services", "1,100,5000", "numbers of Services that are there, in rising order")

const (
	// atOnce is how many connections are made at once.
	atOnce = 4
	// turns are how often a round measures connections, each for a part of the
	// time: what is compared is so measured close together.
	turns = 3
	// roundChanges is how often a round has a Service lead elsewhere.
	roundChanges = 10
	// changePause is between two changes: by default kube-proxy changes its rules
	// once a second.
	changePause = 1500 * time.Millisecond
)

// servicePlaces are those of the endpoints, seen from the client.
var servicePlaces = []place{places[0], places[2]}

// endpointCounts are those of the Services that connections are made to.
var endpointCounts = []int{10, 1000}

// serviceSeries is one thing that is measured. What does not apply is empty.
type serviceSeries struct {
	proxy     string // or "direct"
	beside    string // of direct: the proxy that it was measured beside
	place     place
	services  int
	endpoints int
	metric    string
}

const direct = "direct"

// Metrics of serviceSeries.
const (
	metricConnections = "connections"
	metricFailed      = "failed connections"
	metricP50         = "latency p50"
	metricP99         = "latency p99"
	metricConnectCPU  = "CPU of 1,000 connections"
	metricFollow      = "change of an endpoint"
	metricProgram     = "from nothing"
	metricProgramCPU  = "CPU from nothing"
	metricMemory      = "memory"
	metricSwitchCPU   = "CPU of the switch from nothing"
	metricSwitch      = "memory of the switch"
)

// TestServices measures what Services cost beside connections without one, and
// beside kube-proxy on the same nodes and for the same Pods.
func TestServices(t *testing.T) {
	counts, err := parseCounts(*serviceCounts)
	if err != nil {
		t.Fatal(err)
	}
	r := begin(t, "services")
	b := newServiceBench(t)
	for _, count := range counts {
		b.onNodes(b.stopKubeProxy) // it would be busy while Services come
		b.grow(count)
		for round := range *rounds {
			order := slices.Clone(serviceProxies)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, proxy := range order {
				b.enter(proxy)
				b.connections(proxy.name, count)
				b.changes(proxy.name, count)
				if count == counts[len(counts)-1] {
					b.program(proxy, count)
				}
				t.Logf("round %d of %d: %d Services by %s are done", round+1, *rounds, count, proxy.name)
			}
		}
	}
	b.connectionRows(r, counts)
	b.otherRows(r, counts)
	write(t, r)
}

func parseCounts(text string) ([]int, error) {
	var counts []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || len(counts) > 0 && n <= counts[len(counts)-1] {
			return nil, fmt.Errorf("-services %q: want rising numbers, such as 1,100", text)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// connections measures the making of connections to Pods and to Services that
// lead to them, one after the other.
func (b *serviceBench) connections(proxy string, services int) {
	b.t.Helper()
	for _, where := range servicePlaces {
		type target struct {
			series serviceSeries
			at     netip.AddrPort
		}
		targets := []target{{
			serviceSeries{proxy: direct, beside: proxy, place: where, services: services},
			netip.AddrPortFrom(b.paths.ends[where].to.addr, firstPort),
		}}
		for _, n := range endpointCounts {
			targets = append(targets, target{
				serviceSeries{proxy: proxy, place: where, services: services, endpoints: n}, b.measured[measuredService{where, n}],
			})
		}
		for range turns {
			for _, target := range targets {
				b.connect(target.series, target.at)
			}
			slices.Reverse(targets)
		}
	}
}

func (b *serviceBench) connect(s serviceSeries, at netip.AddrPort) {
	b.t.Helper()
	stop, err := b.meter.Start()
	b.must(err)
	var found probe.ConnectReport
	b.must(b.from.client(b.t.Context(), &found, "connections", "--parallel="+strconv.Itoa(atOnce), "--duration="+(*duration/turns).String(), at.String()))
	used, err := stop()
	b.must(err)
	if found.Failed > 0 {
		b.t.Logf("%+v: %d connections, %d failed: %s", s, found.Transactions, found.Failed, found.Failure)
		if s.proxy != kubeProxy {
			b.t.Fail() // what others do wrong is in the note
		}
	}
	s.metric = metricFailed
	b.got.add(s, float64(found.Failed))
	for metric, value := range map[string]float64{
		metricConnections: found.PerSecond, metricP50: found.P50 / 1000, metricP99: found.P99 / 1000,
		metricConnectCPU: 1000 * used.Seconds() / float64(max(1, found.Transactions)),
	} {
		s.metric = metric
		b.got.add(s, value)
	}
}

// median is that of a metric in a series.
func (b *serviceBench) median(s serviceSeries, metric string) float64 {
	s.metric = metric
	return b.got.median(s)
}

// sum is that of a metric in a series.
func (b *serviceBench) sum(s serviceSeries, metric string) float64 {
	s.metric = metric
	total := 0.0
	for _, value := range b.got[s] {
		total += value
	}
	return total
}

// connectionRows are those of connections: beside the limit the rates, beside
// kube-proxy what they take.
func (b *serviceBench) connectionRows(r *report.Report, counts []int) {
	for _, where := range servicePlaces {
		for _, n := range counts {
			for _, endpoints := range endpointCounts {
				name := fmt.Sprintf("%s, %s, %d endpoints", where, serviceCount(n), endpoints)
				of := func(proxy string) serviceSeries {
					return serviceSeries{proxy: proxy, place: where, services: n, endpoints: endpoints}
				}
				limit := func(proxy string) serviceSeries {
					return serviceSeries{proxy: direct, beside: proxy, place: where, services: n}
				}
				for _, proxy := range serviceProxies {
					row := report.Measure(fmt.Sprintf("connections %s, %s", proxy.name, name), b.median(of(proxy.name), metricConnections), "1/s").
						Beside(b.median(limit(proxy.name), metricConnections))
					if failed := b.sum(of(proxy.name), metricFailed); failed > 0 {
						row.Note = fmt.Sprintf("%.0f failed", failed)
					}
					r.Add(row)
				}
				for _, m := range []struct{ metric, unit string }{{metricP50, "ms"}, {metricP99, "ms"}, {metricConnectCPU, "CPU s"}} {
					row := report.Measure(m.metric+", "+name, b.median(of(waymark), m.metric), m.unit).Beside(b.median(of(kubeProxy), m.metric))
					row.Note = fmt.Sprintf("direct %.3g %s", b.median(limit(waymark), m.metric), m.unit)
					r.Add(row)
				}
			}
		}
	}
}

func serviceCount(n int) string {
	if n == 1 {
		return "1 Service"
	}
	text := strconv.Itoa(n)
	if len(text) > 3 {
		text = text[:len(text)-3] + "," + text[len(text)-3:]
	}
	return text + " Services"
}

// otherRows are those beside kube-proxy.
func (b *serviceBench) otherRows(r *report.Report, counts []int) {
	for _, n := range counts {
		for _, q := range []float64{0.5, 0.99} {
			of := func(proxy string) float64 {
				return b.got.quantile(serviceSeries{proxy: proxy, services: n, metric: metricFollow}, q)
			}
			r.Add(report.Measure(fmt.Sprintf("%s, %s: p%.0f", metricFollow, serviceCount(n), 100*q), of(waymark), "ms").Beside(of(kubeProxy)))
		}
	}
	most := counts[len(counts)-1]
	for _, m := range []struct{ metric, unit string }{
		{metricProgram, "s"}, {metricProgramCPU, "s"}, {metricSwitchCPU, "s"}, {metricMemory, "MB"}, {metricSwitch, "MB"},
	} {
		of := func(proxy string) float64 { return b.median(serviceSeries{proxy: proxy, services: most}, m.metric) }
		r.Add(report.Measure(m.metric+", "+serviceCount(most), of(waymark), m.unit).Beside(of(kubeProxy)))
	}
}

// changes measures how soon connections follow a change of an endpoint.
func (b *serviceBench) changes(proxy string, services int) {
	b.t.Helper()
	follow := b.follow()
	last := follow.next()
	for range roundChanges {
		b.sleep(changePause)
		answered := b.lead(firstPort + firstPort + 1 - int32(last.Port))
		last = follow.next()
		took := max(0, last.Sent.Sub(answered))
		b.got.add(serviceSeries{proxy: proxy, services: services, metric: metricFollow}, 1e3*took.Seconds())
	}
	follow.stop()
}

// program measures how long it takes from an empty node to one on which the
// Services work.
func (b *serviceBench) program(proxy serviceProxy, services int) {
	b.t.Helper()
	switchBefore := b.process(switchProgram)
	b.must(proxy.empty(b))
	emptied := time.Now()
	swept := b.sweep(b.sample())
	started := b.started(proxy.program, emptied)
	answered := swept()
	after, switchAfter := b.process(proxy.program), b.process(switchProgram)
	s := serviceSeries{proxy: proxy.name, services: services}
	for metric, value := range map[string]float64{
		metricProgram:    answered.Sub(started).Seconds(),
		metricProgramCPU: after.cpu.Seconds(),
		metricSwitchCPU:  (switchAfter.cpu - switchBefore.cpu).Seconds(),
		metricMemory:     after.resident,
		metricSwitch:     switchAfter.resident,
	} {
		s.metric = metric
		b.got.add(s, value)
	}
}

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

	"github.com/waymark-net/waymark/test/bench/measure"
	probe "github.com/waymark-net/waymark/test/lab/probe/bench"
	"github.com/waymark-net/waymark/test/report"
)

var serviceCounts = flag.String("services", "1,100,5000", "numbers of Services that are there, in rising order")

const (
	// atOnce is how many connections are made at once.
	atOnce = 4
	// turns are how often a round measures connections to a Service, each for a
	// part of the time, and before and after each those to the Pod itself: whatever
	// the machine does besides meets both.
	turns = 8
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
	metricTried       = "connections tried"
	metricFailed      = "failed connections"
	metricRatio       = "ratio to direct"
	metricP50         = "latency p50"
	metricP99         = "latency p99"
	metricConnectCPU  = "CPU of 1,000 connections"
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
	b.changeRows(r, counts)
	b.programRows(r, counts[len(counts)-1])
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
		limit := serviceSeries{proxy: direct, beside: proxy, place: where, services: services}
		own := func(n int) serviceSeries {
			return serviceSeries{proxy: proxy, place: where, services: services, endpoints: endpointCounts[n]}
		}
		order := measure.Alternate(len(endpointCounts), turns)
		found := map[string][]float64{} // by metric, in this order
		for _, n := range order {
			s, at := limit, b.direct(where)
			if n != measure.Limit {
				s, at = own(n), b.measured[measuredService{where, endpointCounts[n]}]
			}
			for metric, value := range b.connect(s, at) {
				found[metric] = append(found[metric], value)
			}
		}
		for n, endpoints := range endpointCounts {
			limit.endpoints = endpoints
			for metric, all := range found {
				values, limits := measure.Beside(order, all, n)
				b.add(own(n), metric, values...)
				b.add(limit, metric, limits...)
				if metric == metricConnections {
					b.add(own(n), metricRatio, measure.Ratios(values, limits)...)
				}
			}
		}
	}
}

// connect makes connections to one target and returns what was found by metric.
// Those that failed are counted in the series.
func (b *serviceBench) connect(s serviceSeries, at netip.AddrPort) map[string]float64 {
	b.t.Helper()
	stop, err := b.meter.Start()
	b.must(err)
	var found probe.ConnectReport
	b.must(b.from.client(b.t.Context(), &found, "connections", "--parallel="+strconv.Itoa(atOnce), "--duration="+(*duration/turns).String(), at.String()))
	used, err := stop()
	b.must(err)
	b.add(s, metricTried, float64(found.Transactions+found.Failed))
	b.add(s, metricFailed, float64(found.Failed))
	if found.Failed > 0 {
		b.t.Logf("%+v: %d connections, %d failed: %s", s, found.Transactions, found.Failed, found.Failure)
		b.fail(s, found.Failure)
	}
	p50, p99 := found.P50/1e3, found.P99/1e3
	if found.Transactions == 0 { // none was answered so soon
		p50, p99 = 1e3*found.Seconds, 1e3*found.Seconds
	}
	return map[string]float64{
		metricConnections: found.PerSecond, metricP50: p50, metricP99: p99,
		metricConnectCPU: 1000 * used.Seconds() / float64(max(1, found.Transactions)),
	}
}

func (b *serviceBench) add(s serviceSeries, metric string, values ...float64) {
	s.metric = metric
	b.got.add(s, values...)
}

// fail notes why a connection failed; one of each series is enough.
func (b *serviceBench) fail(s serviceSeries, failure string) {
	if b.failures[s] == "" {
		b.failures[s] = failure
	}
}

// reason is why a connection of a series failed, in brackets, if any did.
func (b *serviceBench) reason(s serviceSeries) string {
	if b.failures[s] == "" {
		return ""
	}
	return " (" + b.failures[s] + ")"
}

// failed tells how many connections of a series failed, if any did.
func (b *serviceBench) failed(s serviceSeries) string {
	count := b.sum(s, metricFailed)
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("; %s: %.0f of %.0f failed%s", s.proxy, count, b.sum(s, metricTried), b.reason(s))
}

// median is that of a metric in a series.
func (b *serviceBench) median(s serviceSeries, metric string) float64 {
	s.metric = metric
	return b.got.median(s)
}

// spread tells where the half in the middle is.
func (b *serviceBench) spread(s serviceSeries, metric string) string {
	s.metric = metric
	low, high := measure.Quartiles(b.got[s])
	return fmt.Sprintf("%.3g to %.3g", low, high)
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
// kube-proxy what they take. The notes have the quartiles.
func (b *serviceBench) connectionRows(r *report.Report, counts []int) {
	for _, where := range servicePlaces {
		for _, n := range counts {
			for _, endpoints := range endpointCounts {
				name := fmt.Sprintf("%s, %s, %d endpoints", where, serviceCount(n), endpoints)
				own := func(proxy string) serviceSeries {
					return serviceSeries{proxy: proxy, place: where, services: n, endpoints: endpoints}
				}
				limit := func(proxy string) serviceSeries {
					return serviceSeries{proxy: direct, beside: proxy, place: where, services: n, endpoints: endpoints}
				}
				for _, proxy := range serviceProxies {
					r.Add(b.rateRow(fmt.Sprintf("connections %s, %s", proxy.name, name), own(proxy.name), limit(proxy.name)))
				}
				for _, m := range []struct{ metric, unit string }{{metricP50, "ms"}, {metricP99, "ms"}, {metricConnectCPU, "CPU s"}} {
					row := report.Measure(m.metric+", "+name, b.median(own(waymark), m.metric), m.unit).Beside(b.median(own(kubeProxy), m.metric))
					row.Note = fmt.Sprintf("%s, %s %s, %s %.3g (%s)", b.spread(own(waymark), m.metric), kubeProxy, b.spread(own(kubeProxy), m.metric),
						direct, b.median(limit(waymark), m.metric), b.spread(limit(waymark), m.metric))
					r.Add(row)
				}
			}
		}
	}
}

func (b *serviceBench) rateRow(name string, own, limit serviceSeries) report.Row {
	row := report.Measure(name, b.median(own, metricConnections), "1/s").Beside(b.median(limit, metricConnections))
	row.Note = fmt.Sprintf("%s, %s %s; ratios %.2f (%s)", b.spread(own, metricConnections), direct, b.spread(limit, metricConnections),
		b.median(own, metricRatio), b.spread(own, metricRatio))
	limit.endpoints = 0 // counted once, beside all Services
	row.Note += b.failed(own) + b.failed(limit)
	return row
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

// programRows are those of the start from nothing.
func (b *serviceBench) programRows(r *report.Report, services int) {
	for _, m := range []struct{ metric, unit string }{
		{metricProgram, "s"}, {metricProgramCPU, "s"}, {metricSwitchCPU, "s"}, {metricMemory, "MB"}, {metricSwitch, "MB"},
	} {
		of := func(proxy string) float64 { return b.median(serviceSeries{proxy: proxy, services: services}, m.metric) }
		r.Add(report.Measure(m.metric+", "+serviceCount(services), of(waymark), m.unit).Beside(of(kubeProxy)))
	}
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
		b.add(s, metric, value)
	}
}

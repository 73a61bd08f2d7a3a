// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/report"
)

// TestServiceRows needs no lab.
func TestServiceRows(t *testing.T) {
	b := &serviceBench{t: t, got: samples[serviceSeries]{}, failures: map[serviceSeries]string{}}
	where := places[2]
	for _, proxy := range serviceProxies {
		own := serviceSeries{proxy: proxy.name, place: where, services: 5000, endpoints: 10}
		limit := serviceSeries{proxy: direct, beside: proxy.name, place: where, services: 5000, endpoints: 10}
		b.add(own, metricConnections, 90, 95, 100, 110)
		b.add(limit, metricConnections, 100, 100, 100, 200)
		b.add(own, metricRatio, 0.9, 0.95, 1, 0.55)
		b.add(own, metricP50, 3, 4)
		b.add(limit, metricP50, 2)
		b.add(own, metricTried, 100, 100)
		b.add(own, metricFailed, 0, 2)
		b.fail(own, "refused")
		b.fail(own, "too late")
		b.add(serviceSeries{proxy: proxy.name, services: 5000}, metricFollow, 10, 20, 30)
		b.add(serviceSeries{proxy: proxy.name, services: 5000}, metricBegun, 9)
		b.add(serviceSeries{proxy: proxy.name, services: 5000}, metricMade, 40, 2)
		b.add(serviceSeries{proxy: proxy.name, services: 5000}, metricOld, 4, 1)
	}
	limit := serviceSeries{proxy: direct, beside: kubeProxy, place: where, services: 5000}
	b.add(limit, metricTried, 50)
	b.add(limit, metricFailed, 1)
	b.add(serviceSeries{proxy: kubeProxy, services: 5000}, metricMissed, 1)
	b.add(serviceSeries{proxy: kubeProxy, services: 5000}, metricLost, 3)
	b.fail(serviceSeries{proxy: kubeProxy, services: 5000}, "reset")
	var r report.Report
	b.connectionRows(&r, []int{5000})
	b.changeRows(&r, []int{5000})
	got := map[string]report.Row{}
	for _, row := range r.Rows {
		got[row.Case] = row
	}
	const of = "across racks, 5,000 Services, 10 endpoints"
	want := map[string]report.Row{}
	for _, row := range []report.Row{
		noted(report.Measure("connections Waymark, "+of, 97.5, "1/s").Beside(100),
			"90 to 100, direct 100 to 100; ratios 0.93 (0.55 to 0.95); Waymark: 2 of 200 failed (refused)"),
		noted(report.Measure("connections kube-proxy, "+of, 97.5, "1/s").Beside(100),
			"90 to 100, direct 100 to 100; ratios 0.93 (0.55 to 0.95); kube-proxy: 2 of 200 failed (refused); direct: 1 of 50 failed"),
		noted(report.Measure("latency p50, "+of, 3.5, "ms").Beside(3.5), "3 to 4, kube-proxy 3 to 4, direct 2 (2 to 2)"),
		noted(report.Measure("change of an endpoint, 5,000 Services: p50", 20, "ms").Beside(20),
			"Waymark 10 to 30, begun p50 9, of 42 connections 5 to the old endpoint, 0 failed; "+
				"kube-proxy 10 to 30, begun p50 9, of 42 connections 5 to the old endpoint, 3 failed (reset), 1 changes that were not seen"),
		report.Measure("change of an endpoint, 5,000 Services: p99", 30, "ms").Beside(30),
	} {
		want[row.Case] = row
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			delete(got, name) // of what has no samples here
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func noted(row report.Row, note string) report.Row {
	row.Note = note
	return row
}

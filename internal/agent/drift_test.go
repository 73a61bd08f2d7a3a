// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/ovs/openflow"
)

// TestDriftMetrics: every kind is there from the beginning, and one audit is one
// repair of each kind that it found.
func TestDriftMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	a := &Agent{metrics: newMetrics(registry)}
	if n := testutil.CollectAndCount(a.metrics.repairs); n != len(drift.Kinds()) {
		t.Errorf("%d kinds, want %d", n, len(drift.Kinds()))
	}
	a.onFlowRepair(openflow.Repair{Flows: 7, Meters: 1, Wrong: 20 * time.Millisecond})
	a.onFlowRepair(openflow.Repair{Flows: 1})
	a.metrics.repaired(drift.Repair{Kind: drift.Routes, Number: 2, Wrong: time.Second})
	for kind, want := range map[drift.Kind]float64{drift.Flows: 8, drift.Groups: 0, drift.Meters: 1, drift.Routes: 2} {
		if got := testutil.ToFloat64(a.metrics.repairs.WithLabelValues(string(kind))); got != want {
			t.Errorf("%s: %v repairs, want %v", kind, got, want)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); f.GetName() == "waymark_drift_seconds" && h.GetSampleCount() > 0 {
				got[m.GetLabel()[0].GetValue()] = h.GetSampleCount()
			}
		}
	}
	if len(got) != 3 || got["flows"] != 2 || got["meters"] != 1 || got["routes"] != 1 {
		t.Errorf("times of repairs: %v", got)
	}
}

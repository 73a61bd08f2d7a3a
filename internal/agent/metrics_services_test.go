// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/waymark-net/waymark/internal/refuse"
)

func TestRefusalMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(refusalCollectors(
		func() refuse.Stats { return refuse.Stats{Resets: 1, Unreachables: 2, Unanswered: 3, Failed: 4} },
		func() uint64 { return 5 },
	)...)
	want := `
# HELP waymark_service_refused_packets_total Packets to Services without endpoints that the switch reported, by what became of them: answered by a TCP reset or an ICMP error, not answered because nobody may, failed because they could not be read or the answer not be sent, lost in a full queue.
# TYPE waymark_service_refused_packets_total counter
waymark_service_refused_packets_total{outcome="failed"} 4
waymark_service_refused_packets_total{outcome="lost"} 5
waymark_service_refused_packets_total{outcome="reset"} 1
waymark_service_refused_packets_total{outcome="unanswered"} 3
waymark_service_refused_packets_total{outcome="unreachable"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

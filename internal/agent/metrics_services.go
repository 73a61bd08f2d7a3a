// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-net/waymark/internal/refuse"
)

// refusalCollectors are the metrics of packets to Services without endpoints.
// lost counts those that there was no room for.
func refusalCollectors(stats func() refuse.Stats, lost func() uint64) []prometheus.Collector {
	counter := func(outcome string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "waymark_service_refused_packets_total",
			Help: "Packets to Services without endpoints that the switch reported, by what became of them: answered by a TCP reset or " +
				"an ICMP error, not answered because nobody may, failed because they could not be read or the answer not be sent, lost in a full queue.",
			ConstLabels: prometheus.Labels{"outcome": outcome},
		}, func() float64 { return float64(value()) })
	}
	return []prometheus.Collector{
		counter("reset", func() uint64 { return stats().Resets }),
		counter("unreachable", func() uint64 { return stats().Unreachables }),
		counter("unanswered", func() uint64 { return stats().Unanswered }),
		counter("failed", func() uint64 { return stats().Failed }),
		counter("lost", lost),
	}
}

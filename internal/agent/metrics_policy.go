// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/policy/stream"
)

// policySources are what the metrics of policies are read from when they are
// asked for.
type policySources struct {
	status func() stream.Status
	totals func() enforce.Totals
	stats  func() enforce.Stats
	// lost counts denied packets that there was no room for, and malformed those
	// of the switch that could not be read, whatever they are.
	lost, malformed func() uint64
}

func policyCollectors(s policySources) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	counter := func(name, help string, labels prometheus.Labels, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value()) })
	}
	denied := func(logged string, value func() uint64) prometheus.Collector {
		return counter("waymark_policy_denied_packets_total",
			"Denied packets that the switch reported, by whether they were logged. Others are denied in the switch alone.",
			prometheus.Labels{"logged": logged}, value)
	}
	lost := func(reason string, value func() uint64) prometheus.Collector {
		return counter("waymark_policy_packets_lost_total",
			"Packets that the switch reported and that were not looked at, by reason.", prometheus.Labels{"reason": reason}, value)
	}
	return []prometheus.Collector{
		gauge("waymark_policy_controller_connected", "1 if a controller keeps the policies of the node up to date, else 0.", func() float64 {
			if s.status().Connected {
				return 1
			}
			return 0
		}),
		gauge("waymark_policy_rules", "Rules of policies in the switch.", func() float64 { return float64(s.totals().Rules) }),
		gauge("waymark_policy_held_pods", "Interfaces of Pods that are cut off because their policies are not known.",
			func() float64 { return float64(s.totals().Held) }),
		counter("waymark_policy_connections_cut_total", "Segments of denied TCP connections of which both ends were told that they are over.", nil,
			func() uint64 { return s.stats().Cut }),
		denied("true", func() uint64 { return s.stats().Logged }),
		denied("false", func() uint64 { return s.stats().NotLogged }),
		lost("queue", s.lost),
		lost("malformed", s.malformed),
	}
}

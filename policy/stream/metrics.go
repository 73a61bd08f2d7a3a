// SPDX-License-Identifier: Apache-2.0

package stream

import "github.com/prometheus/client_golang/prometheus"

type serverMetrics struct {
	updates, bytes, resyncs, behind prometheus.Counter
	refused                         *prometheus.CounterVec
}

func newServerMetrics(r prometheus.Registerer, hub *Hub) *serverMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "waymark_policy_stream_" + name, Help: help})
	}
	gauge := func(name, help string, value func() int) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waymark_policy_stream_" + name, Help: help},
			func() float64 { return float64(value()) })
	}
	m := &serverMetrics{
		updates: counter("updates_total", "Updates sent to agents."),
		bytes:   counter("bytes_total", "Bytes of updates sent to agents."),
		resyncs: counter("resyncs_total", "Subscriptions of agents that had nothing and were sent everything."),
		behind:  counter("behind_total", "Agents served although they had seen more than this replica."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waymark_policy_stream_refused_total",
			Help: "Subscriptions refused, by reason: unauthenticated, wrong_node, malformed, not_judged (the API server did not judge the token), not_ready.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"unauthenticated", "wrong_node", "malformed", "not_judged", "not_ready"} {
		m.refused.WithLabelValues(reason)
	}
	r.MustRegister(m.updates, m.bytes, m.resyncs, m.behind, m.refused,
		gauge("subscribers", "Agents that are subscribed to this replica.", func() int { n, _ := hub.counts(); return n }),
		gauge("waiting_objects", "Objects that wait to be sent to agents, summed over agents.", func() int { _, n := hub.counts(); return n }))
	return m
}

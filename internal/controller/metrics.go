// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-net/waymark/internal/kube"
)

type metrics struct {
	configValid, leader, nodes prometheus.Gauge
	sessions                   *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		configValid: gauge("waymark_config_valid", "1 if the configuration document in the ConfigMap is valid, else 0."),
		leader:      gauge("waymark_controller_leader", "1 if this replica writes, else 0."),
		nodes:       gauge("waymark_cluster_nodes", "Nodes of the cluster."),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "waymark_cluster_bgp_sessions",
			Help: "BGP sessions of all nodes by peer and state, as the nodes report them; the same in every replica.",
		}, []string{"peer", "state"}),
	}
	r.MustRegister(m.configValid, m.leader, m.nodes, m.sessions)
	return m
}

func (m *metrics) set(s *kube.Snapshot, configValid, leader bool) {
	m.configValid.Set(number(configValid))
	m.leader.Set(number(leader))
	m.nodes.Set(float64(len(s.Nodes)))
	m.sessions.Reset()
	for i := range s.Sessions {
		m.sessions.WithLabelValues(s.Sessions[i].Status.Peer, string(s.Sessions[i].Status.State)).Inc()
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

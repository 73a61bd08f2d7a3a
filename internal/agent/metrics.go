// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/drain"
	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/kernel"
)

// metrics are the agent's own; the CNI server registers its own beside them.
type metrics struct {
	configValid  prometheus.Gauge
	routeChanges *prometheus.CounterVec
	paths        *prometheus.GaugeVec
	pathSince    *prometheus.GaugeVec
	problems     prometheus.Gauge
	kubeProxy    prometheus.Gauge
	drain        *prometheus.GaugeVec
	repairs      *prometheus.CounterVec
	wrong        *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		configValid: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "waymark_config_valid",
			Help: "1 if the configuration document in the ConfigMap is valid and in force, else 0.",
		}),
		routeChanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waymark_kernel_route_changes_total",
			Help: "Routes written to or removed from the kernel.",
		}, []string{"change"}),
		paths: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "waymark_paths",
			Help: "Remote Pod CIDRs by family and kind of path.",
		}, []string{"family", "kind"}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "waymark_node_problems",
			Help: "Problems that the node's condition reports.",
		}),
		kubeProxy: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "waymark_service_kube_proxy_found",
			Help: "1 if rules of kube-proxy are on the node although Waymark serves all of Services, else 0.",
		}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waymark_drift_repairs_total",
			Help: "Things that something else had changed and that were put right, by kind.",
		}, []string{"kind"}),
		wrong: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "waymark_drift_seconds",
			Help: "Time from when drift was noticed until it was repaired, by kind, one a repair however many things it put right. " +
				"What nobody tells of was wrong before that for up to the period in which it is looked for: 500 ms for sysctls of the node, " +
				"5 s for groups and meters, 30 s for rules of iptables and for sysctls and routes of Pods.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"kind"}),
	}
	m.drain = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "waymark_bgp_drain",
		Help: "1 for the phase in which the node announces addresses of Services, else 0: None as ever, Leaving as what is to be used last, Withdrawn not at all.",
	}, []string{"phase"})
	m.pathSince = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "waymark_path_since_seconds",
		Help: "Since when the Pods of a node are reached by this path, in seconds since 1970. If that was before the agent started, the time when it did.",
	}, []string{"node", "family", "path"})
	for _, k := range drift.Kinds() {
		m.repairs.WithLabelValues(string(k))
		m.wrong.WithLabelValues(string(k))
	}
	r.MustRegister(m.configValid, m.routeChanges, m.paths, m.problems, m.kubeProxy, m.drain, m.pathSince, m.repairs, m.wrong)
	return m
}

// repaired counts a repair.
func (m *metrics) repaired(r drift.Repair) {
	m.repairs.WithLabelValues(string(r.Kind)).Add(float64(r.Number))
	m.wrong.WithLabelValues(string(r.Kind)).Observe(r.Wrong.Seconds())
	klog.Background().Info("Drift repaired", "kind", r.Kind, "number", r.Number, "wrong", r.Wrong)
}

func (m *metrics) routes(r kernel.RouteResult) {
	m.routeChanges.WithLabelValues("add").Add(float64(len(r.Added)))
	m.routeChanges.WithLabelValues("replace").Add(float64(len(r.Replaced)))
	m.routeChanges.WithLabelValues("remove").Add(float64(len(r.Removed)))
}

func (m *metrics) plan(p *Plan, phase drain.Phase) {
	for _, d := range drain.Phases() {
		m.drain.WithLabelValues(string(d)).Set(b2f(d == phase))
	}
	m.paths.Reset()
	for _, path := range p.Paths {
		m.paths.WithLabelValues(path.Family.String(), string(path.Kind)).Inc()
	}
}

// since tells the path of each node and family, and since when it is.
func (m *metrics) since(paths []routing.Path, states map[routing.ProofKey]pathState) {
	m.pathSince.Reset()
	for _, p := range paths {
		state := states[routing.ProofKey{Node: p.Node, Family: p.Family}]
		m.pathSince.WithLabelValues(p.Node, p.Family.String(), string(p.Kind)).Set(float64(state.since.Unix()))
	}
}

// flowCollectors expose the counters of the OpenFlow target. That
// waymark_openflow_flow_mods_total stays 0 after a restart is how an operator
// sees that the flows of the earlier run were adopted.
func flowCollectors(stats func() openflow.Stats) []prometheus.Collector {
	mods := func(change string, value func(openflow.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name:        "waymark_openflow_flow_mods_total",
			Help:        "Flow mods that the switch took.",
			ConstLabels: prometheus.Labels{"change": change},
		}, func() float64 { return float64(value(stats())) })
	}
	counter := func(name, help string, value func(openflow.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(value(stats())) })
	}
	return []prometheus.Collector{
		mods("add", func(s openflow.Stats) uint64 { return s.FlowAdds }),
		mods("modify", func(s openflow.Stats) uint64 { return s.FlowModifies }),
		mods("delete", func(s openflow.Stats) uint64 { return s.FlowDeletes }),
		counter("waymark_openflow_audits_total", "Comparisons of the switch with what it should hold.",
			func(s openflow.Stats) uint64 { return s.Audits }),
		counter("waymark_openflow_repairs_total", "Flows and groups that something else had changed.",
			func(s openflow.Stats) uint64 { return s.Repairs }),
		counter("waymark_openflow_connects_total", "Connections to the switch.",
			func(s openflow.Stats) uint64 { return s.Connects }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "waymark_openflow_flows", Help: "Flows that are wanted."},
			func() float64 { return float64(stats().Flows) }),
	}
}

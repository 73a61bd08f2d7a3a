// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-net/waymark/policy/compute"
)

// policyMetrics say what policies are computed from and how long that takes.
type policyMetrics struct {
	duration prometheus.Histogram
	objects  *prometheus.GaugeVec
}

func newPolicyMetrics(r prometheus.Registerer, withProblems func() int) *policyMetrics {
	m := &policyMetrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "waymark_policy_compute_seconds",
			Help:    "How long it takes to take in what changed and to find out which nodes need what.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // to 6.5 s
		}),
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "waymark_policy_objects",
			Help: "What policies are computed from. Identities are kinds of Pods that no policy can tell apart, scopes different selectors of namespaces and nodes.",
		}, []string{"kind"}),
	}
	r.MustRegister(m.duration, m.objects, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "waymark_policy_not_understood",
		Help: "Policies of which not all was understood, which deny more than was meant, perhaps.",
	}, func() float64 { return float64(withProblems()) }))
	return m
}

func (m *policyMetrics) computed(took time.Duration, s compute.Size) {
	m.duration.Observe(took.Seconds())
	for kind, n := range map[string]int{
		"pods": s.Pods, "identities": s.Identities, "namespaces": s.Namespaces, "nodes": s.Nodes, "policies": s.Policies, "scopes": s.Scopes,
	} {
		m.objects.WithLabelValues(kind).Set(float64(n))
	}
}

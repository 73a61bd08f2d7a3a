// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-net/waymark/internal/cniapi"
)

type metrics struct {
	seconds *prometheus.HistogramVec
	repairs *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "waymark_cni_request_seconds",
			Help:    "Time to answer a CNI request, by command and CNI error code (0: success).",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"command", "code"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waymark_cni_repairs_total",
			Help: "Attachments that were collected or repaired outside of CNI requests, by what was done.",
		}, []string{"action"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.seconds, m.repairs} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) answered(command cniapi.Command, code uint, took time.Duration) {
	m.seconds.WithLabelValues(string(command), strconv.FormatUint(uint64(code), 10)).Observe(took.Seconds())
}

func (m *metrics) repaired(action verdict) { m.repairs.WithLabelValues(string(action)).Inc() }

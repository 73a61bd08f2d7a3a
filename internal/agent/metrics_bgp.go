// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-net/waymark/routing"
)

// newSpeakerGauge says whether there is a routing speaker.
func newSpeakerGauge(away func() error) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "waymark_speaker_connected",
		Help: "1 if the agent is connected to the node's routing speaker, else 0.",
	}, func() float64 { return b2f(away() == nil) })
}

// bgpCollector exposes the sessions of the BGP speaker as they are when they
// are asked for, so that one that is gone leaves no series behind.
type bgpCollector struct {
	sessions func() []routing.SessionStatus

	up, prefixes, filtered, bfdUp, bfdDowns *prometheus.Desc
}

func newBGPCollector(sessions func() []routing.SessionStatus) *bgpCollector {
	return &bgpCollector{
		sessions: sessions,
		up: prometheus.NewDesc("waymark_bgp_session_up",
			"1 if the session with a BGPPeer is established, else 0.", []string{"peer"}, nil),
		prefixes: prometheus.NewDesc("waymark_bgp_prefixes",
			"Prefixes of a session now: received, accepted of those, and advertised.", []string{"peer", "family", "kind"}, nil),
		filtered: prometheus.NewDesc("waymark_bgp_prefixes_filtered",
			"Received prefixes that are not used now, by reason.", []string{"peer", "family", "reason"}, nil),
		bfdUp: prometheus.NewDesc("waymark_bfd_session_up",
			"1 if BFD with a BGPPeer that has it is up, else 0.", []string{"peer"}, nil),
		bfdDowns: prometheus.NewDesc("waymark_bfd_downs_total",
			"How often BFD with a BGPPeer went down after it had been up.", []string{"peer"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *bgpCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	out <- c.prefixes
	out <- c.filtered
	out <- c.bfdUp
	out <- c.bfdDowns
}

// Collect implements prometheus.Collector.
func (c *bgpCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	for _, s := range c.sessions() {
		up := 0
		if s.State == routing.SessionEstablished {
			up = 1
		}
		gauge(c.up, up, s.Peer)
		if b := s.BFD; b != nil {
			bfdUp := 0
			if b.State == routing.BFDUp {
				bfdUp = 1
			}
			gauge(c.bfdUp, bfdUp, s.Peer)
			out <- prometheus.MustNewConstMetric(c.bfdDowns, prometheus.CounterValue, float64(b.Downs), s.Peer)
		}
		for _, f := range s.Families {
			family := f.Family.String()
			gauge(c.prefixes, f.Received, s.Peer, family, "received")
			gauge(c.prefixes, f.Accepted, s.Peer, family, "accepted")
			gauge(c.prefixes, f.Advertised, s.Peer, family, "advertised")
			for reason, n := range f.Filtered {
				gauge(c.filtered, n, s.Peer, family, string(reason))
			}
		}
	}
}

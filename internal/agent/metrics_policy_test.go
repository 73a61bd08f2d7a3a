// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/policy/stream"
)

func TestPolicyMetrics(t *testing.T) {
	connected := true
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(policyCollectors(policySources{
		status: func() stream.Status { return stream.Status{Connected: connected} },
		totals: func() enforce.Totals { return enforce.Totals{Rules: 5, Held: 2} },
		stats:  func() enforce.Stats { return enforce.Stats{Logged: 3, NotLogged: 4, Cut: 6} },
		lost:   func() uint64 { return 7 }, malformed: func() uint64 { return 8 },
	})...)
	want := `
# HELP waymark_policy_connections_cut_total Segments of denied TCP connections of which both ends were told that they are over.
# TYPE waymark_policy_connections_cut_total counter
waymark_policy_connections_cut_total 6
# HELP waymark_policy_controller_connected 1 if a controller keeps the policies of the node up to date, else 0.
# TYPE waymark_policy_controller_connected gauge
waymark_policy_controller_connected 1
# HELP waymark_policy_denied_packets_total Denied packets that the switch reported, by whether they were logged. Others are denied in the switch alone.
# TYPE waymark_policy_denied_packets_total counter
waymark_policy_denied_packets_total{logged="false"} 4
waymark_policy_denied_packets_total{logged="true"} 3
# HELP waymark_policy_held_pods Interfaces of Pods that are cut off because their policies are not known.
# TYPE waymark_policy_held_pods gauge
waymark_policy_held_pods 2
# HELP waymark_policy_packets_lost_total Packets that the switch reported and that were not looked at, by reason.
# TYPE waymark_policy_packets_lost_total counter
waymark_policy_packets_lost_total{reason="malformed"} 8
waymark_policy_packets_lost_total{reason="queue"} 7
# HELP waymark_policy_rules Rules of policies in the switch.
# TYPE waymark_policy_rules gauge
waymark_policy_rules 5
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	connected = false
	gone := "# HELP waymark_policy_controller_connected 1 if a controller keeps the policies of the node up to date, else 0.\n" +
		"# TYPE waymark_policy_controller_connected gauge\nwaymark_policy_controller_connected 0\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(gone), "waymark_policy_controller_connected"); err != nil {
		t.Error(err)
	}
}

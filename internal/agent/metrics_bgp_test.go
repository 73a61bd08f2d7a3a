// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/waymark-net/waymark/routing"
)

func TestBGPCollector(t *testing.T) {
	sessions := []routing.SessionStatus{
		{
			Peer: "tora", State: routing.SessionEstablished,
			Families: []routing.FamilyStatus{{
				Family: routing.IPv4, Negotiated: true, Received: 9, Accepted: 5, Advertised: 1,
				Filtered: map[routing.FilterReason]int{routing.FilterDefault: 1, routing.FilterOutside: 3},
			}},
		},
		{Peer: "torb", State: routing.SessionActive, BFD: &routing.BFDStatus{State: routing.BFDUp, Downs: 2}},
	}
	c := newBGPCollector(func() []routing.SessionStatus { return sessions })
	want := `
# HELP waymark_bfd_downs_total How often BFD with a BGPPeer went down after it had been up.
# TYPE waymark_bfd_downs_total counter
waymark_bfd_downs_total{peer="torb"} 2
# HELP waymark_bfd_session_up 1 if BFD with a BGPPeer that has it is up, else 0.
# TYPE waymark_bfd_session_up gauge
waymark_bfd_session_up{peer="torb"} 1
# HELP waymark_bgp_prefixes Prefixes of a session now: received, accepted of those, and advertised.
# TYPE waymark_bgp_prefixes gauge
waymark_bgp_prefixes{family="IPv4",kind="accepted",peer="tora"} 5
waymark_bgp_prefixes{family="IPv4",kind="advertised",peer="tora"} 1
waymark_bgp_prefixes{family="IPv4",kind="received",peer="tora"} 9
# HELP waymark_bgp_prefixes_filtered Received prefixes that are not used now, by reason.
# TYPE waymark_bgp_prefixes_filtered gauge
waymark_bgp_prefixes_filtered{family="IPv4",peer="tora",reason="DefaultRoute"} 1
waymark_bgp_prefixes_filtered{family="IPv4",peer="tora",reason="OutsideCluster"} 3
# HELP waymark_bgp_session_up 1 if the session with a BGPPeer is established, else 0.
# TYPE waymark_bgp_session_up gauge
waymark_bgp_session_up{peer="tora"} 1
waymark_bgp_session_up{peer="torb"} 0
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	sessions = sessions[1:]
	if n := testutil.CollectAndCount(c); n != 3 {
		t.Errorf("%d series after a session is gone, want three", n)
	}
}

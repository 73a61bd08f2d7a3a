// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/drain"
	"github.com/waymark-net/waymark/routing"
)

// TestPlanServices: addresses of Services are announced beside the Pod CIDRs, which
// a drain leaves alone.
func TestPlanServices(t *testing.T) {
	pods := []string{"10.10.1.0/24", "fd10:1::/64"}
	served := []string{"10.96.0.1/32", "2001:db8:f::1/128"}
	for _, test := range []struct {
		name      string
		phase     drain.Phase
		services  []string
		mode      routing.Mode
		want      []string
		shutdown  bool
		elsewhere []string
	}{
		{"as ever", drain.None, served, routing.ModeNoEncap, append(pods, served...), false, nil},
		{"leaving", drain.Leaving, served, routing.ModeNoEncap, append(pods, served...), true, nil},
		{"withdrawn", drain.Withdrawn, served, routing.ModeNoEncap, pods, false, nil},
		{"no BGP", drain.None, served, routing.ModeEncap, nil, false, nil},
		{"a node's and a Pod's", drain.None, []string{"192.0.2.2/32", "10.10.3.7/32", "10.96.0.1/32"}, routing.ModeNoEncap,
			append(pods, "10.96.0.1/32"), false, []string{"192.0.2.2", "10.10.3.7"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world(func(w *World) {
				w.Config.Mode, w.Drain = test.mode, test.phase
				w.Config.BGP.Enabled = test.mode != routing.ModeEncap
				w.Peers = []routing.Peer{{Name: "tor", Address: addr("192.0.2.254"), ASN: 65001}}
				w.ServiceAddresses = []netip.Addr{addr("10.96.0.1")}
				for _, p := range pods {
					w.Advertisements = append(w.Advertisements, routing.Advertisement{Prefix: prefix(p), NextHops: w.Local.Addresses})
				}
				for _, p := range test.services {
					w.ServiceAdvertisements = append(w.ServiceAdvertisements, routing.Advertisement{Prefix: prefix(p), NextHops: w.Local.Addresses})
				}
			})
			p, err := MakePlan(w)
			if err != nil {
				t.Fatal(err)
			}
			var got, elsewhere []string
			for i, a := range p.BGP.Advertisements {
				got = append(got, a.Prefix.String())
				if a.GracefulShutdown != (test.shutdown && i >= len(pods)) {
					t.Errorf("%s: graceful shutdown %t", a.Prefix, a.GracefulShutdown)
				}
			}
			for _, a := range p.NotAnnounced {
				elsewhere = append(elsewhere, a.String())
			}
			if diff := cmp.Diff([][]string{test.want, test.elsewhere}, [][]string{got, elsewhere}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

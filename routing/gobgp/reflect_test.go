// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v4/api"

	"github.com/waymark-net/waymark/routing"
)

// policyLines renders sets and the statements of reflection as text.
func policyLines(a announcements) []string {
	var out []string
	policies := a.policies()
	for _, s := range policies.DefinedSets {
		if !strings.HasPrefix(s.Name, reflectName) {
			continue
		}
		members := slices.Clone(s.List)
		for _, p := range s.Prefixes {
			members = append(members, fmt.Sprintf("%s %d-%d", p.IpPrefix, p.MaskLengthMin, p.MaskLengthMax))
		}
		out = append(out, s.Name+": "+strings.Join(members, ", "))
	}
	for _, p := range policies.Policies {
		for _, s := range p.Statements {
			if c := s.Conditions; c.RouteType == api.Conditions_ROUTE_TYPE_INTERNAL {
				line := p.Name + " accepts internal"
				if c.PrefixSet != nil {
					line += " in " + c.PrefixSet.Name
				}
				if c.NeighborSet != nil {
					line += " " + strings.TrimPrefix(c.NeighborSet.Type.String(), "TYPE_") + " " + c.NeighborSet.Name
				}
				out = append(out, line)
			}
		}
	}
	return out
}

func TestReflection(t *testing.T) {
	peer := func(name string, r routing.Reflection) routing.Peer {
		return routing.Peer{Name: name, Node: name, Address: ip("192.0.2." + name[1:]), ASN: 64512, Reflection: r}
	}
	client := peer("n2", routing.Reflection{Client: true, PassOn: true})
	above := peer("n3", routing.Reflection{PassOn: true})
	fellow := peer("n4", routing.Reflection{})
	router := routing.Peer{Name: "tor", Address: ip("2001:db8::1"), ASN: 64512}
	scope := routing.ImportScope{
		ClusterCIDRs: []netip.Prefix{pfx("10.10.1.0/24"), pfx("fd10:0:0:2::/64"), pfx("10.10.3.0/24"), pfx("10.10.2.0/24"), pfx("10.10.2.0/24")},
		Local:        routing.Node{PodCIDRs: []netip.Prefix{pfx("10.10.1.0/24")}},
	}
	tests := map[string]struct {
		peers []routing.Peer
		scope routing.ImportScope
		want  []string
		told  []string
	}{
		"a mesh passes nothing on":   {peers: []routing.Peer{above, fellow, router}, scope: scope},
		"a reflector knows no nodes": {peers: []routing.Peer{client}, want: []string{"waymark-export accepts internal"}, told: []string{"192.0.2.2"}},
		"clients alone": {peers: []routing.Peer{client, above}, scope: scope, told: []string{"192.0.2.2", "192.0.2.3"}, want: []string{
			"waymark-reflect-IPv4: 10.10.2.0/24 24-32, 10.10.3.0/24 24-32",
			"waymark-reflect-IPv6: fd10:0:0:2::/64 64-128",
			"waymark-import accepts internal in waymark-reflect-IPv4",
			"waymark-import accepts internal in waymark-reflect-IPv6",
			"waymark-export accepts internal",
		}},
		"others are left out": {peers: []routing.Peer{client, above, fellow, router}, scope: scope, told: []string{"192.0.2.2", "192.0.2.3"}, want: []string{
			"waymark-reflect: 192.0.2.4/32, 2001:db8::1/128",
			"waymark-reflect-IPv4: 10.10.2.0/24 24-32, 10.10.3.0/24 24-32",
			"waymark-reflect-IPv6: fd10:0:0:2::/64 64-128",
			"waymark-import accepts internal in waymark-reflect-IPv4 INVERT waymark-reflect",
			"waymark-import accepts internal in waymark-reflect-IPv6 INVERT waymark-reflect",
			"waymark-export accepts internal INVERT waymark-reflect",
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := announce(routing.BGPConfig{Speaker: routing.SpeakerConfig{ASN: 64512}, Scope: tc.scope}, tc.peers, newTags())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, policyLines(got)); diff != "" {
				t.Errorf("policies (-want +got):\n%s", diff)
			}
			var told []string
			for a, passOn := range got.reflection.to {
				if passOn {
					told = append(told, a.String())
				}
			}
			slices.Sort(told)
			if diff := cmp.Diff(tc.told, told); diff != "" {
				t.Errorf("told of other nodes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReflectorPeer(t *testing.T) {
	p := routing.Peer{Name: "mesh.n2", Address: ip("192.0.2.2"), ASN: 64512, Passive: true,
		Reflection: routing.Reflection{Client: true, ClusterID: ip("192.0.2.100")}}
	c := routing.SpeakerConfig{ASN: 64512, GracefulRestart: routing.GracefulRestart{Enabled: true}}
	got := apiPeer(c, p, true)
	if !got.Transport.PassiveMode || !got.RouteReflector.RouteReflectorClient ||
		got.RouteReflector.RouteReflectorClusterId != "192.0.2.100" || got.GracefulRestart.DeferralTime != reflectorDeferral {
		t.Errorf("peer %v", got)
	}
	if err := checkPeer(routing.SpeakerConfig{ASN: 64513}, p); err == nil ||
		err.Error() != "route reflection is for iBGP: the peer is in AS 64512, we are in 64513" {
		t.Errorf("a client of another AS: %v", err)
	}
}

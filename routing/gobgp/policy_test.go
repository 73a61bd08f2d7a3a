// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v4/api"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/waymark-net/waymark/routing"
)

func standard(a, b uint32) routing.Community {
	return routing.Community{Parts: [3]uint32{a, b}}
}

func large(a, b, c uint32) routing.Community {
	return routing.Community{Large: true, Parts: [3]uint32{a, b, c}}
}

// announced is what a peer address is told of a prefix.
type announced struct {
	Prefix, Peer string
	Actions      *api.Actions
}

// listed reads the policies as the speaker does: a statement holds for paths with
// its tag towards its neighbours, and the first one that does counts.
func listed(t *testing.T, a announcements) []announced {
	t.Helper()
	neighbours, tags := map[string][]string{}, map[string]string{}
	for _, s := range a.sets {
		if s.DefinedType == api.DefinedType_DEFINED_TYPE_NEIGHBOR {
			neighbours[s.Name] = s.List
		} else {
			tags[s.Name] = s.List[0]
		}
	}
	var out []announced
	for _, prefix := range slices.SortedFunc(maps.Keys(a.paths), netip.Prefix.Compare) {
		heard := map[string]bool{}
		for _, s := range a.statements {
			if len(neighbours[s.Name]) == 0 {
				t.Errorf("statement %s would match every peer", s.Name)
			}
			if tags[s.Name] != communityText(a.paths[prefix].tag) {
				continue
			}
			for _, n := range neighbours[s.Name] {
				if !heard[n] {
					out = append(out, announced{prefix.String(), n, s.Actions})
				}
				heard[n] = true
			}
		}
	}
	return out
}

func TestAnnounce(t *testing.T) {
	const ours = 4200000001
	ebgp := routing.Peer{Name: "ebgp", Address: ip("192.0.2.2"), ASN: 65002}
	ibgp := routing.Peer{Name: "ibgp", Address: ip("192.0.2.3"), ASN: ours}
	local := routing.Peer{Name: "local", Address: ip("192.0.2.4"), ASN: 65002, LocalASN: 65009}
	inside := routing.Peer{Name: "inside", Address: ip("192.0.2.5"), ASN: 65009, LocalASN: 65009}
	with := func(p routing.Peer, e routing.ExportRule) routing.Peer {
		p.Export = e
		return p
	}
	accept := func(mod func(*api.Actions)) *api.Actions {
		a := &api.Actions{
			RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
			Community:   &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE}, // the tag goes
		}
		mod(a)
		return a
	}
	plain := accept(func(*api.Actions) {})
	prepend := func(asn, n uint32) *api.Actions {
		return accept(func(a *api.Actions) { a.AsPrepend = &api.AsPrependAction{Asn: asn, Repeat: n} })
	}
	v4, v6 := advertise("10.10.1.0/24", "192.0.2.1", "2001:db8::1"), advertise("fd10:0:0:1::/64", "2001:db8::1")
	said := func(a routing.Attributes) []routing.Advertisement {
		ad := v4
		ad.Attributes = a
		return []routing.Advertisement{ad}
	}
	tests := map[string]struct {
		ads   []routing.Advertisement
		peers []routing.Peer
		want  []announced
	}{
		"nothing special": {
			ads: []routing.Advertisement{v4, v6}, peers: []routing.Peer{ebgp, ibgp},
			want: []announced{
				{"10.10.1.0/24", "192.0.2.2/32", plain}, {"10.10.1.0/24", "192.0.2.3/32", plain},
				{"fd10:0:0:1::/64", "192.0.2.2/32", plain}, {"fd10:0:0:1::/64", "192.0.2.3/32", plain},
			},
		},
		"everything": {
			ads: said(routing.Attributes{
				Communities: []routing.Community{standard(65535, 65281), large(4200000000, 1, 2)}, LocalPref: 150, MED: new(uint32(1<<32 - 1)), Prepend: 2}),
			peers: []routing.Peer{ebgp},
			want: []announced{{"10.10.1.0/24", "192.0.2.2/32", accept(func(a *api.Actions) {
				a.Community = &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE, Communities: []string{"65535:65281"}}
				a.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE, Communities: []string{"4200000000:1:2"}}
				a.LocalPref = &api.LocalPrefAction{Value: 150}
				a.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: 1<<32 - 1}
				a.AsPrepend = &api.AsPrependAction{Asn: ours, Repeat: 2}
			})}},
		},
		"MED 0 is sent": {
			ads: said(routing.Attributes{MED: new(uint32(0))}), peers: []routing.Peer{ebgp},
			want: []announced{{"10.10.1.0/24", "192.0.2.2/32", accept(func(a *api.Actions) { a.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE} })}},
		},
		"the ASN towards the peer is prepended, within the AS none": {
			ads: said(routing.Attributes{Prepend: 3}), peers: []routing.Peer{ebgp, ibgp, inside, local},
			want: []announced{
				{"10.10.1.0/24", "192.0.2.2/32", prepend(ours, 3)},
				{"10.10.1.0/24", "192.0.2.3/32", plain}, {"10.10.1.0/24", "192.0.2.5/32", plain},
				{"10.10.1.0/24", "192.0.2.4/32", prepend(65009, 3)},
			},
		},
		"a peer has its own way": {
			ads: said(routing.Attributes{Prepend: 3}),
			peers: []routing.Peer{
				with(ebgp, routing.ExportRule{Prepend: new(0)}),
				with(local, routing.ExportRule{Prepend: new(1)}),
			},
			want: []announced{{"10.10.1.0/24", "192.0.2.2/32", plain}, {"10.10.1.0/24", "192.0.2.4/32", prepend(65009, 1)}},
		},
		"a prefix that a peer is not told": {
			ads: []routing.Advertisement{v4, v6},
			peers: []routing.Peer{
				with(ebgp, routing.ExportRule{Prefixes: []routing.PrefixRule{{Prefix: pfx("10.10.0.0/16"), LE: 24}}}),
				with(ibgp, routing.ExportRule{Prefixes: []routing.PrefixRule{{Prefix: pfx("fd10::/16"), LE: 64}}}),
			},
			want: []announced{{"10.10.1.0/24", "192.0.2.2/32", plain}, {"fd10:0:0:1::/64", "192.0.2.3/32", plain}},
		},
		"several for one prefix: the first counts": {
			ads: append(said(routing.Attributes{Prepend: 1}), v4), peers: []routing.Peer{ebgp, ibgp},
			want: []announced{{"10.10.1.0/24", "192.0.2.2/32", prepend(ours, 1)}, {"10.10.1.0/24", "192.0.2.3/32", plain}},
		},
		"graceful shutdown, whatever else is said": {
			ads:   said(routing.Attributes{GracefulShutdown: true, LocalPref: 150, Communities: []routing.Community{standard(64512, 1)}}),
			peers: []routing.Peer{with(ibgp, routing.ExportRule{LocalPref: 200, MED: new(uint32(7))})},
			want: []announced{{"10.10.1.0/24", "192.0.2.3/32", accept(func(a *api.Actions) {
				a.Community.Communities = []string{"64512:1", "65535:0"}
				a.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: 7}
			})}},
		},
		"another next hop": {
			ads:   []routing.Advertisement{v4},
			peers: []routing.Peer{ebgp, {Name: "v6", Address: ip("2001:db8::2"), ASN: 65002, ExtendedNextHop: true}},
			want: []announced{
				{"10.10.1.0/24", "192.0.2.2/32", plain},
				{"10.10.1.0/24", "2001:db8::2/128", accept(func(a *api.Actions) { a.Nexthop = &api.NexthopAction{Address: "2001:db8::1"} })},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := announce(routing.BGPConfig{Speaker: routing.SpeakerConfig{ASN: ours}, Advertisements: tc.ads}, tc.peers, newTags())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, listed(t, got), protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnnounceNobody: an advertisement for nobody here is no path.
func TestAnnounceNobody(t *testing.T) {
	peer := routing.Peer{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}
	elsewhere := advertise("10.10.1.0/24", "192.0.2.1")
	elsewhere.Peers = []string{"elsewhere"}
	filtered := peer
	filtered.Export.Prefixes = []routing.PrefixRule{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	for name, tc := range map[string]struct {
		ad   routing.Advertisement
		peer routing.Peer
	}{
		"for another peer":       {elsewhere, peer},
		"not in the peer's list": {advertise("10.10.1.0/24", "192.0.2.1"), filtered},
	} {
		got, err := announce(routing.BGPConfig{Speaker: routing.SpeakerConfig{ASN: 65001}, Advertisements: []routing.Advertisement{tc.ad}}, []routing.Peer{tc.peer}, newTags())
		if err != nil || len(got.paths) != 0 || len(got.statements) != 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestTags: paths that are told alike have one tag, and another when that changes.
func TestTags(t *testing.T) {
	peers := []routing.Peer{{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}, {Name: "tor2", Address: ip("192.0.2.3"), ASN: 65002}}
	var ads []routing.Advertisement
	for i := range 5000 {
		ads = append(ads, advertise(fmt.Sprintf("10.96.%d.%d/32", i/250, i%250), "192.0.2.1"))
	}
	known := newTags()
	tagsOf := func() (out []uint32) {
		t.Helper()
		got, err := announce(routing.BGPConfig{Speaker: routing.SpeakerConfig{ASN: 65001}, Advertisements: ads}, peers, known)
		if err != nil {
			t.Fatal(err)
		}
		count := map[uint32]bool{}
		for _, p := range got.paths {
			count[p.tag] = true
		}
		if len(got.paths) != len(ads) || len(got.statements) != len(count) {
			t.Errorf("%d paths, %d statements", len(got.paths), len(got.statements))
		}
		return slices.Sorted(maps.Keys(count))
	}
	var got [][]uint32
	got = append(got, tagsOf(), tagsOf())
	ads[7].GracefulShutdown = true
	got = append(got, tagsOf())
	ads[7].GracefulShutdown = false
	got = append(got, tagsOf())
	peers = peers[:1]
	got = append(got, tagsOf())
	const n = firstTag
	if diff := cmp.Diff([][]uint32{{n + 1}, {n + 1}, {n + 1, n + 2}, {n + 1}, {n + 3}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// BenchmarkAnnounce is what every Set costs before anything changes.
func BenchmarkAnnounce(b *testing.B) {
	peers := []routing.Peer{{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}, {Name: "tor2", Address: ip("192.0.2.3"), ASN: 65002}}
	var ads []routing.Advertisement
	for i := range 5000 {
		ads = append(ads, advertise(fmt.Sprintf("10.96.%d.%d/32", i/250, i%250), "192.0.2.1"))
	}
	known := newTags()
	for b.Loop() {
		if _, err := announce(routing.BGPConfig{Speaker: routing.SpeakerConfig{ASN: 65001}, Advertisements: ads}, peers, known); err != nil {
			b.Fatal(err)
		}
	}
}

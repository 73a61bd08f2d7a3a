// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/waymark-net/waymark/routing"
)

func TestCheckPeer(t *testing.T) {
	good := routing.Peer{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}
	tests := map[string]struct {
		mod  func(*routing.Peer)
		want string
	}{
		"good":                {mod: func(*routing.Peer) {}},
		"no address":          {mod: func(p *routing.Peer) { p.Address = netip.Addr{} }, want: "is not a unicast address"},
		"multicast":           {mod: func(p *routing.Peer) { p.Address = ip("224.0.0.5") }, want: "address 224.0.0.5 is not a unicast address"},
		"mapped":              {mod: func(p *routing.Peer) { p.Address = ip("::ffff:192.0.2.2") }, want: "is not a unicast address"},
		"link-local":          {mod: func(p *routing.Peer) { p.Address = ip("fe80::1%eth0") }, want: "address fe80::1%eth0 is link-local"},
		"no ASN":              {mod: func(p *routing.Peer) { p.ASN = 0 }, want: "ASN is 0"},
		"source of the other": {mod: func(p *routing.Peer) { p.SourceAddress = ip("2001:db8::1") }, want: "source address 2001:db8::1 is not of the family"},
		"multihop and GTSM":   {mod: func(p *routing.Peer) { p.MultihopTTL, p.GTSMHops = 2, 2 }, want: "multihop and GTSM exclude each other"},
		"multihop in the AS":  {mod: func(p *routing.Peer) { p.MultihopTTL, p.ASN = 2, 65001 }, want: "multihop is for eBGP"},
		"hold time":           {mod: func(p *routing.Peer) { p.Timers.Hold = 2 * time.Second }, want: "hold time 2s is not 3 s to 65535 s"},
		"long password":       {mod: func(p *routing.Peer) { p.Password = strings.Repeat("x", 81) }, want: "password is longer than 80 bytes"},
		"unknown family":      {mod: func(p *routing.Peer) { p.Families = []routing.Family{5} }, want: "unknown family 5"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := good
			tc.mod(&p)
			err := checkPeer(routing.SpeakerConfig{ASN: 65001}, p)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("checkPeer: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAPIPeer(t *testing.T) {
	family := func(f routing.Family, gr bool) *api.AfiSafi {
		return &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: apiFamily(f), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: gr}},
		}
	}
	speaker := routing.SpeakerConfig{ASN: 65001, GracefulRestart: routing.GracefulRestart{Enabled: true}}
	defaults := &api.Timers{Config: &api.TimersConfig{HoldTime: 90, KeepaliveInterval: 30, ConnectRetry: 10, IdleHoldTimeAfterReset: 5}}
	tests := map[string]struct {
		peer       routing.Peer
		restarting bool
		want       *api.Peer
	}{
		"defaults": {
			peer: routing.Peer{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}, restarting: true,
			want: &api.Peer{
				Conf:            &api.PeerConf{NeighborAddress: "192.0.2.2", Description: "tor", PeerAsn: 65002, LocalAsn: 65001, AllowOwnAsn: 255},
				Timers:          defaults,
				Transport:       &api.Transport{},
				GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: 120, DeferralTime: 5, NotificationEnabled: true, LocalRestarting: true},
				AfiSafis:        []*api.AfiSafi{family(routing.IPv4, true), family(routing.IPv6, true)},
			},
		},
		"everything": {
			peer: routing.Peer{
				Name: "tor", Address: ip("2001:db8::2"), ASN: 65002, LocalASN: 65009, Port: 1790, Password: "pw", SourceAddress: ip("2001:db8::1"),
				MultihopTTL: 4, Families: []routing.Family{routing.IPv6, routing.IPv6},
				Timers:          routing.Timers{Hold: 30 * time.Second, Keepalive: 5 * time.Second, ConnectRetry: 7 * time.Second},
				GracefulRestart: &routing.GracefulRestart{},
			},
			want: &api.Peer{
				Conf:         &api.PeerConf{NeighborAddress: "2001:db8::2", Description: "tor", PeerAsn: 65002, LocalAsn: 65009, AllowOwnAsn: 255, AuthPassword: "pw"},
				Timers:       &api.Timers{Config: &api.TimersConfig{HoldTime: 30, KeepaliveInterval: 5, ConnectRetry: 7, IdleHoldTimeAfterReset: 5}},
				Transport:    &api.Transport{RemotePort: 1790, LocalAddress: "2001:db8::1"},
				EbgpMultihop: &api.EbgpMultihop{Enabled: true, MultihopTtl: 4},
				AfiSafis:     []*api.AfiSafi{family(routing.IPv6, false)},
			},
		},
		"GTSM and a long restart time": {
			peer: routing.Peer{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002, GTSMHops: 1,
				GracefulRestart: &routing.GracefulRestart{Enabled: true, RestartTime: 3 * time.Hour}},
			want: &api.Peer{
				Conf:            &api.PeerConf{NeighborAddress: "192.0.2.2", Description: "tor", PeerAsn: 65002, LocalAsn: 65001, AllowOwnAsn: 255},
				Timers:          defaults,
				Transport:       &api.Transport{},
				TtlSecurity:     &api.TtlSecurity{Enabled: true, TtlMin: 255},
				GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: 4095, DeferralTime: 5, NotificationEnabled: true},
				AfiSafis:        []*api.AfiSafi{family(routing.IPv4, true), family(routing.IPv6, true)},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, apiPeer(speaker, tc.peer, tc.restarting), protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNextHop(t *testing.T) {
	both, four, six := []string{"192.0.2.1", "2001:db8::1"}, []string{"192.0.2.1"}, []string{"2001:db8::1"}
	tests := []struct {
		prefix   string
		hops     []string
		extended bool
		want     netip.Addr
	}{
		{"10.10.1.0/24", both, false, ip("192.0.2.1")},
		{"10.10.1.0/24", both, true, ip("2001:db8::1")},
		{"10.10.1.0/24", four, true, ip("192.0.2.1")},
		{"10.10.1.0/24", six, false, ip("2001:db8::1")},
		{"fd10::/64", both, false, ip("2001:db8::1")},
		{"fd10::/64", four, false, netip.Addr{}},
		{"10.10.1.0/24", nil, false, netip.Addr{}},
	}
	for _, tc := range tests {
		if got := nextHop(advertise(tc.prefix, tc.hops...), tc.extended); got != tc.want {
			t.Errorf("next hop of %s among %v, extended %v: %s", tc.prefix, tc.hops, tc.extended, got)
		}
	}
}

func TestAnnounceErrors(t *testing.T) {
	peers := []routing.Peer{{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}}
	tests := map[string]struct {
		ad   routing.Advertisement
		want string
	}{
		"no prefix":   {routing.Advertisement{}, "not a prefix"},
		"no next hop": {advertise("fd10::/64", "192.0.2.1"), "the node has no address that can be the next hop"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := announce(routing.BGPConfig{
				Speaker:        routing.SpeakerConfig{ASN: 65001},
				Advertisements: []routing.Advertisement{tc.ad, advertise("10.10.2.0/24", "192.0.2.1")},
			}, peers, newTags())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			want := map[netip.Prefix]ownPath{pfx("10.10.2.0/24"): {hop: ip("192.0.2.1"), tag: firstTag + 1}}
			if diff := cmp.Diff(want, got.paths, compareValues, cmp.AllowUnexported(ownPath{})); diff != "" {
				t.Errorf("the good one (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNotificationWords(t *testing.T) {
	for _, tc := range []struct {
		code, subcode uint8
		want          string
	}{
		{2, 2, "OPEN rejected: Bad Peer AS"}, {4, 0, "hold timer expired"}, {6, 2, "Cease: administrative shutdown"},
		{6, 99, "Cease (subcode 99)"}, {99, 1, "error 99/1"},
	} {
		if got := notificationWords(tc.code, tc.subcode); got != tc.want {
			t.Errorf("notification %d/%d: %q", tc.code, tc.subcode, got)
		}
	}
}

func TestDialWords(t *testing.T) {
	peer := routing.Peer{Address: ip("192.0.2.2"), SourceAddress: ip("192.0.2.9")}
	for err, want := range map[string]string{
		"dial tcp: connect: connection refused":           "connection refused by 192.0.2.2 port 179",
		"dial tcp: i/o timeout":                           "no answer from 192.0.2.2 port 179: unreachable, or the peer wants a password (TCP MD5)",
		"dial tcp: connect: no route to host":             "no route to 192.0.2.2 port 179",
		"dial tcp: connect: network is unreachable":       "network of 192.0.2.2 port 179 is unreachable",
		"dial tcp: bind: cannot assign requested address": "source address 192.0.2.9 is not an address of this node",
		"dial tcp: something else":                        "connection to 192.0.2.2 port 179 failed: dial tcp: something else",
	} {
		if got := dialWords(peer, err); got != want {
			t.Errorf("%s: %q", err, got)
		}
	}
}

// FuzzReceivedRoute reads the routes of any UPDATE that GoBGP parses.
func FuzzReceivedRoute(f *testing.F) {
	for _, m := range malformed {
		f.Add(m.messages[0])
	}
	for _, m := range mutations(1, 20) {
		f.Add(m)
	}
	filter := routing.NewImportFilter(conf(end{"192.0.2.1", 65001, 0}).Scope)
	peer := routing.Peer{Name: "tor", Address: ip("192.0.2.2"), ASN: 65002}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := bgp.ParseBGPMessage(data)
		if m == nil || err != nil && m.Body == nil {
			return
		}
		u, ok := m.Body.(*bgp.BGPUpdate)
		if !ok {
			return
		}
		nlri := u.NLRI
		for _, a := range u.PathAttributes {
			if mp, ok := a.(*bgp.PathAttributeMpReachNLRI); ok {
				nlri = append(nlri, mp.Value...)
			}
		}
		var routes []routing.ReceivedRoute
		for _, n := range nlri {
			path := &apiutil.Path{Nlri: n.NLRI, Attrs: u.PathAttributes}
			if r, ok := receivedRoute(path, peer, 65001); ok {
				routes = append(routes, r)
			}
		}
		used, _ := routing.Import(routes, filter, routing.ImportRule{})
		for _, l := range routing.SelectRoutes(used, 8) {
			if !l.Prefix.IsValid() || len(l.NextHops) == 0 || !l.NextHops[0].Addr.IsValid() {
				t.Fatalf("learned %+v", l)
			}
		}
	})
}

// FuzzProbeAnswer listens to any answer to our OPEN message.
func FuzzProbeAnswer(f *testing.F) {
	f.Add(open(1, true))
	f.Add(append(open(2, false), message(3, 2, 2)...))
	f.Fuzz(func(_ *testing.T, data []byte) { listen(bytes.NewReader(data)) })
}

func TestProbeAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		answer []byte
		want   finding
	}{
		"silence":         {nil, finding{}},
		"OPEN":            {open(1, true), finding{asn: 65002}},
		"OPEN, refusal":   {append(open(1, false), message(3, 2, 2)...), finding{asn: 65002, refusal: "OPEN rejected: Bad Peer AS"}},
		"refusal":         {message(3, 6, 5), finding{refusal: "Cease: connection rejected"}},
		"OPEN, keepalive": {append(open(1, true), message(4)...), finding{asn: 65002}},
		"garbage":         {[]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2"), finding{}},
	} {
		if got := listen(bytes.NewReader(tc.answer)); got != tc.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

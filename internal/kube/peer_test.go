// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

var compareNet = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func node(name string, labels map[string]string, cidrs ...string) *Node {
	n := &Node{Node: routing.Node{Name: name, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}}, Labels: labels}
	for _, c := range cidrs {
		n.PodCIDRs = append(n.PodCIDRs, netip.MustParsePrefix(c))
	}
	return n
}

func bgpPeer(name string, spec v1alpha1.BGPPeerSpec) v1alpha1.BGPPeer {
	return v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
}

func TestPeersEverything(t *testing.T) {
	s := &Snapshot{
		PeerObjects: []v1alpha1.BGPPeer{bgpPeer("tor", v1alpha1.BGPPeerSpec{
			NodeSelector: &v1alpha1.NodeSelector{
				MatchLabels:      map[string]string{"rack": "a"},
				MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "bgp", Operator: "NotIn", Values: []string{"no"}}},
			},
			Address: "2001:db8::1", Port: 1179, ASN: 4200000000, LocalASN: new(int64(64513)), SourceAddress: "2001:db8::11",
			PasswordSecretRef: &v1alpha1.SecretKeyRef{Name: "tor", Key: "md5"},
			GTSM:              &v1alpha1.GTSM{MaxHops: 2},
			Timers:            &v1alpha1.BGPTimers{HoldTime: "9s", KeepaliveTime: "3s", ConnectRetryTime: "1m"},
			GracefulRestart:   &v1alpha1.BGPGracefulRestart{RestartTime: "30s"},
			BFD:               &v1alpha1.BFD{TransmitInterval: "1s500ms", DetectMultiplier: 5},
			Families:          []v1alpha1.Family{"ipv6", "ipv4"},
			Import: &v1alpha1.BGPImport{
				AllowDefaultRoute: true, MaxPrefixes: 5,
				Prefixes: []v1alpha1.PrefixMatch{
					{CIDR: "0.0.0.0/0", GE: new(int32(0)), LE: new(int32(24))},
					{CIDR: "2001:db8::/32", GE: new(int32(48))},
					{CIDR: "10.0.0.0/8", LE: new(int32(16))},
					{CIDR: "10.1.0.0/16"},
				},
				Deny:            []v1alpha1.PrefixMatch{{CIDR: "10.2.0.0/16", LE: new(int32(32))}},
				LocalPreference: new(int64(4294967295)),
			},
			Export: &v1alpha1.BGPExport{
				Prefixes:    []v1alpha1.PrefixMatch{{CIDR: "10.10.0.0/16", GE: new(int32(20)), LE: new(int32(24))}},
				Communities: []v1alpha1.Community{"64512:7", "4200000000:1:2", "graceful-shutdown"},
				MED:         new(int64(0)), LocalPreference: new(int64(50)), ASPathPrepend: new(int32(0)),
			},
		})},
		secrets: map[string]secret{"tor": {found: true, data: map[string][]byte{"md5": []byte("s3cret")}}},
	}
	bgp := config.Default().BGP
	got, problems := s.Peers(node("n1", map[string]string{"rack": "a"}), bgp)
	want := []routing.Peer{{
		Name: "tor", Address: netip.MustParseAddr("2001:db8::1"), Port: 1179, ASN: 4200000000, LocalASN: 64513,
		Password: "s3cret", SourceAddress: netip.MustParseAddr("2001:db8::11"), GTSMHops: 2,
		Timers:          routing.Timers{Hold: 9 * time.Second, Keepalive: 3 * time.Second, ConnectRetry: time.Minute},
		GracefulRestart: &routing.GracefulRestart{Enabled: true, RestartTime: 30 * time.Second},
		BFD:             &routing.BFD{MinTx: 1500 * time.Millisecond, MinRx: 300 * time.Millisecond, Multiplier: 5},
		Families:        []routing.Family{routing.IPv6, routing.IPv4},
		Import: routing.ImportRule{
			AllowDefaultRoute: true, MaxPrefixes: 5,
			Prefixes: []routing.PrefixRule{
				{Prefix: netip.MustParsePrefix("0.0.0.0/0"), LE: 24},
				{Prefix: netip.MustParsePrefix("2001:db8::/32"), GE: 48, LE: 128},
				{Prefix: netip.MustParsePrefix("10.0.0.0/8"), LE: 16},
				{Prefix: netip.MustParsePrefix("10.1.0.0/16")},
			},
			Deny:      []routing.PrefixRule{{Prefix: netip.MustParsePrefix("10.2.0.0/16"), LE: 32}},
			LocalPref: 4294967295,
		},
		Export: routing.ExportRule{
			Prefixes:    []routing.PrefixRule{{Prefix: netip.MustParsePrefix("10.10.0.0/16"), GE: 20, LE: 24}},
			Communities: communities(t, "64512:7", "4200000000:1:2", "graceful-shutdown"),
			MED:         new(uint32(0)), LocalPref: 50, Prepend: new(0),
		},
	}}
	if diff := cmp.Diff(want, got, compareNet); diff != "" || len(problems) > 0 {
		t.Errorf("peers (-want +got):\n%s\nproblems: %v", diff, problems)
	}
	for _, labels := range []map[string]string{nil, {"rack": "b"}, {"rack": "a", "bgp": "no"}} {
		if peers, problems := s.Peers(node("n2", labels), bgp); len(peers)+len(problems) > 0 {
			t.Errorf("labels %v: peers %v, problems %v; want none", labels, peers, problems)
		}
	}
}

func TestPeerProblems(t *testing.T) {
	withSecret := func(name, key string) v1alpha1.BGPPeerSpec {
		return v1alpha1.BGPPeerSpec{Address: "192.0.2.1", ASN: 64512, PasswordSecretRef: &v1alpha1.SecretKeyRef{Name: name, Key: key}}
	}
	tests := []struct {
		name    string
		spec    v1alpha1.BGPPeerSpec
		reason  string
		message string
	}{
		{"interface", v1alpha1.BGPPeerSpec{Interface: "eth1", ASN: 64512}, ReasonUnsupported,
			"interface eth1: unnumbered peering is not supported by this version, give address instead"},
		{"own address", v1alpha1.BGPPeerSpec{Address: "192.0.2.11", ASN: 64512}, ReasonOwnAddress, "address 192.0.2.11 is this node's own"},
		{"address taken", v1alpha1.BGPPeerSpec{Address: "192.0.2.254", ASN: 64512}, ReasonDuplicate,
			"BGPPeer a-good already has address 192.0.2.254 on this node"},
		{"many", v1alpha1.BGPPeerSpec{Address: "router", SourceAddress: "::ffff:1.2.3.4", ASN: 23456, Families: []v1alpha1.Family{"ipx"},
			EBGPMultihop: new(int32(256)), Timers: &v1alpha1.BGPTimers{HoldTime: "9"},
			BFD:    &v1alpha1.BFD{TransmitInterval: "49ms", ReceiveInterval: "11s", DetectMultiplier: 1},
			Import: &v1alpha1.BGPImport{Prefixes: []v1alpha1.PrefixMatch{{CIDR: "10.0.0.1/8"}}, Deny: []v1alpha1.PrefixMatch{{CIDR: "10"}}, LocalPreference: new(int64(0))},
			Export: &v1alpha1.BGPExport{Prefixes: []v1alpha1.PrefixMatch{{CIDR: "::1/64"}}, Communities: []v1alpha1.Community{"llgr-stale"},
				MED: new(int64(-1)), LocalPreference: new(int64(1 << 32)), ASPathPrepend: new(int32(11))}}, ReasonInvalid,
			"asn: 23456: must be a usable AS number\n" +
				"address: router: must be an IPv4 or IPv6 address\n" +
				"sourceAddress: ::ffff:1.2.3.4: must be an IPv4 or IPv6 address\n" +
				"ebgpMultihop: 256: must be 1..255\n" +
				"timers.holdTime: 9: must be a duration such as 90s\n" +
				"bfd.transmitInterval: 49ms: must be 50ms..10s\n" +
				"bfd.receiveInterval: 11s: must be 50ms..10s\n" +
				"bfd.detectMultiplier: 1: must be 2..255\n" +
				"families: ipx: must be ipv4 or ipv6\n" +
				"import.prefixes[0].cidr: 10.0.0.1/8: must be a CIDR without host bits\n" +
				"import.deny[0].cidr: 10: must be a CIDR without host bits\n" +
				"import.localPreference: 0: must be 1..4294967295\n" +
				"export.prefixes[0].cidr: ::1/64: must be a CIDR without host bits\n" +
				"export.communities: community \"llgr-stale\": nodes do not offer long-lived graceful restart, " +
				"without which a route with llgr-stale must not be announced (RFC 9494)\n" +
				"export.localPreference: 4294967296: must be 1..4294967295\n" +
				"export.med: -1: must be 0..4294967295\n" +
				"export.asPathPrepend: 11: must be 0..10"},
		{"BFD slower than BGP", v1alpha1.BGPPeerSpec{Address: "192.0.2.1", ASN: 64512, Timers: &v1alpha1.BGPTimers{HoldTime: "9s"},
			BFD: &v1alpha1.BFD{ReceiveInterval: "3s"}}, ReasonInvalid,
			"bfd: 9s: must be less than the hold time, 9s: it is detectMultiplier times the longer interval"},
		{"selector", v1alpha1.BGPPeerSpec{Address: "192.0.2.1", ASN: 64512, NodeSelector: &v1alpha1.NodeSelector{
			MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "a", Operator: "Equals"}}}}, ReasonInvalid,
			`nodeSelector: "Equals" is not a valid label selector operator`},
		{"secret unknown", withSecret("none", "k"), ReasonSecretMissing, "Secret kube-system/none was not read yet"},
		{"secret missing", withSecret("missing", "k"), ReasonSecretMissing, "Secret kube-system/missing does not exist"},
		{"secret unreadable", withSecret("forbidden", "k"), ReasonSecretMissing, "Secret kube-system/forbidden cannot be read: forbidden"},
		{"no such key", withSecret("tor", "k"), ReasonSecretMissing, "Secret kube-system/tor has no key k"},
		{"empty password", withSecret("tor", ""), ReasonInvalid, "key password of Secret kube-system/tor must hold 1 to 80 bytes, it holds 0"},
		{"long password", withSecret("tor", "long"), ReasonInvalid, "key long of Secret kube-system/tor must hold 1 to 80 bytes, it holds 81"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &Snapshot{
				PeerObjects: []v1alpha1.BGPPeer{
					bgpPeer("a-good", v1alpha1.BGPPeerSpec{Address: "192.0.2.254", ASN: 64512}),
					bgpPeer("bad", test.spec),
				},
				secrets: map[string]secret{
					"missing": {}, "forbidden": {err: errors.New("forbidden")},
					"tor": {found: true, data: map[string][]byte{"password": nil, "long": []byte(strings.Repeat("x", 81))}},
				},
			}
			peers, problems := s.Peers(node("n1", nil), config.Default().BGP)
			if len(peers) != 1 || peers[0].Name != "a-good" {
				t.Errorf("peers %v, want a-good only", peers)
			}
			want := []PeerProblem{{Peer: "bad", Reason: test.reason, Message: test.message}}
			if diff := cmp.Diff(want, problems, cmpopts.IgnoreFields(PeerProblem{}, "Address", "ASN")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

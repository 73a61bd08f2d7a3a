// SPDX-License-Identifier: Apache-2.0

package routing

import "testing"

func TestBFDMultihop(t *testing.T) {
	links := []Link{{Name: "eth0", Prefixes: prefixes("192.0.2.11/24", "2001:db8::/64")}}
	for _, test := range []struct {
		name  string
		peer  Peer
		links []Link
		want  bool
	}{
		{"eBGP", Peer{Address: ip("192.0.2.1"), ASN: 65002}, links, false},
		{"eBGP to elsewhere must be on-link", Peer{Address: ip("198.51.100.1"), ASN: 65002}, links, false},
		{"eBGP multihop", Peer{Address: ip("192.0.2.1"), ASN: 65002, MultihopTTL: 1}, links, true},
		{"GTSM of the link", Peer{Address: ip("192.0.2.1"), ASN: 65002, GTSMHops: 1}, links, true},
		{"GTSM of some hops", Peer{Address: ip("192.0.2.1"), ASN: 65002, GTSMHops: 2}, links, true},
		{"iBGP on-link", Peer{Address: ip("2001:db8::1"), ASN: 65001}, links, false},
		{"iBGP elsewhere", Peer{Address: ip("198.51.100.1"), ASN: 65001}, links, true},
		{"iBGP by GTSM on-link", Peer{Address: ip("198.51.100.1"), ASN: 65001, GTSMHops: 1}, links, false},
		{"iBGP by the peer's local ASN", Peer{Address: ip("198.51.100.1"), ASN: 65002, LocalASN: 65002}, links, true},
		{"eBGP by the peer's local ASN", Peer{Address: ip("198.51.100.1"), ASN: 65001, LocalASN: 65002}, links, false},
		{"links unknown", Peer{Address: ip("198.51.100.1"), ASN: 65001}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := BFDMultihop(test.peer, 65001, test.links); got != test.want {
				t.Errorf("multihop: %v, want %v", got, test.want)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/waymark-net/waymark/routing"
)

// announcer is a bare GoBGP server that says whatever a test wants.
func announcer(t *testing.T, self, node end) *server.BgpServer {
	t.Helper()
	ctx := context.Background()
	s := server.NewBgpServer()
	go s.Serve()
	t.Cleanup(s.Stop)
	err := s.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: self.asn, RouterId: self.addr, ListenPort: int32(self.port), ListenAddresses: []string{self.addr},
	}})
	if err != nil {
		t.Fatal(err)
	}
	peer := apiPeer(routing.SpeakerConfig{ASN: self.asn}, routing.Peer{
		Name: "node", Address: ip(node.addr), Port: node.port, ASN: node.asn, SourceAddress: ip(self.addr),
	}, false)
	if err := s.AddPeer(ctx, &api.AddPeerRequest{Peer: peer}); err != nil {
		t.Fatal(err)
	}
	return s
}

func announceAll(t *testing.T, s *server.BgpServer, hop netip.Addr, prefixes ...netip.Prefix) {
	t.Helper()
	var paths []*apiutil.Path
	for _, p := range prefixes {
		path, err := apiPath(p, ownPath{hop: hop, tag: firstTag})
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if _, err := s.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
		t.Fatal(err)
	}
}

// hosts returns n host routes from first on.
func hosts(first netip.Addr, n int) []netip.Prefix {
	out := make([]netip.Prefix, 0, n)
	for a := first; len(out) < n; a = a.Next() {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// TestFlood has a peer that announces 100,000 prefixes, half of them inside
// the cluster's Pod CIDR: the session stays, the first of them are used.
func TestFlood(t *testing.T) {
	self, node := end{"127.0.7.2", 65002, freePort(t)}, end{"127.0.7.1", 65001, freePort(t)}
	n := startSpeaker(t)
	c := conf(node, self)
	c.Peers[0].Import.MaxPrefixes = 100
	n.set(c)
	s := announcer(t, self, node)
	inside := hosts(ip("10.10.0.0"), 50_000)
	announceAll(t, s, ip("192.0.2.2"), hosts(ip("172.16.0.0"), 50_000)...)
	announceAll(t, s, ip("192.0.2.2"), inside...)
	n.eventually("counted", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return len(ss) == 1 && cmp.Equal(ss[0].Families[0], routing.FamilyStatus{
			Family: routing.IPv4, Negotiated: true, Received: 100_000, Accepted: 100,
			Filtered: map[routing.FilterReason]int{routing.FilterOutside: 50_000, routing.FilterMaxPrefixes: 49_900},
		}) && cmp.Equal(ss[0].Warnings, []string{"the peer announces 49900 IPv4 prefixes more than the 100 that are accepted of it"})
	})
	n.eventually("the first in order are used", func(ev routing.PathEvent, _ []routing.SessionStatus) bool {
		return len(ev.Routes) == 100 && ev.Routes[0].Prefix == inside[0] && ev.Routes[99].Prefix == inside[99]
	})

	// Without the bound all fifty thousand, and none after the withdrawal.
	c.Peers[0].Import.MaxPrefixes = 1_000_000
	n.set(c)
	n.eventually("all used", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return len(ev.Routes) == 50_000 })
	if err := s.DeletePath(apiutil.DeletePathRequest{DeleteAll: true}); err != nil {
		t.Fatal(err)
	}
	n.eventually("all gone", has())
	n.eventually("still the same session", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return ss[0].State == routing.SessionEstablished && ss[0].LastError == "" && ss[0].Families[0].Received == 0
	})
}

// TestPrefixLimit has a peer that announces more than memory is given to.
func TestPrefixLimit(t *testing.T) {
	self, node := end{"127.0.8.2", 65002, freePort(t)}, end{"127.0.8.1", 65001, freePort(t)}
	n := newSpeaker(t)
	n.limit = 500
	n.run()
	n.set(conf(node, self))
	s := announcer(t, self, node)
	n.eventually("up", established("p127.0.8.2"))
	announceAll(t, s, ip("192.0.2.2"), hosts(ip("172.16.0.0"), 501)...)
	n.eventually("ended", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return ss[0].State != routing.SessionEstablished &&
			ss[0].LastError == "the peer announced more than 500 IPv4 prefixes, the session rests for 5m0s"
	})
	n.eventually("forgotten", func(_ routing.PathEvent, ss []routing.SessionStatus) bool { return ss[0].Families[0].Received == 0 })
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package gobgp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// waiting is frrConf of a router that does not connect itself, so that no
// session ends because both connect at once.
func waiting(neighbour string, remoteAS uint32) string {
	return frrConf(neighbour, remoteAS, " neighbor "+neighbour+" passive", "")
}

// frrPath is what a router knows of a prefix; values that were not announced
// are nil.
type frrPath struct {
	ASPath      string
	MED         *uint32
	LocalPref   *uint32
	Communities string
	Large       string
}

// frrNone is the path of a prefix that the router was not told.
var frrNone = frrPath{ASPath: "none"}

// path returns the router's only path of a prefix.
func (r *frr) path(prefix string) (frrPath, error) {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	var shown struct {
		Paths []struct {
			ASPath         struct{ String string } `json:"aspath"`
			MED            *uint32                 `json:"metric"`
			LocalPref      *uint32                 `json:"locPrf"`
			Community      struct{ String string } `json:"community"`
			LargeCommunity struct{ String string } `json:"largeCommunity"`
		} `json:"paths"`
	}
	out := r.show("show bgp " + family + " unicast " + prefix + " json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		return frrPath{}, fmt.Errorf("%w: %s", err, out)
	}
	switch len(shown.Paths) {
	case 0:
		return frrNone, nil
	case 1:
	default:
		return frrPath{}, fmt.Errorf("%d paths of %s: %s", len(shown.Paths), prefix, out)
	}
	p := shown.Paths[0]
	return frrPath{p.ASPath.String, p.MED, p.LocalPref, p.Community.String, p.LargeCommunity.String}, nil
}

// eventuallyHas waits until the router has these paths and no others of the
// prefixes.
func (r *frr) eventuallyHas(what string, want map[string]frrPath) {
	r.t.Helper()
	poll(r.t, func() error {
		for prefix, path := range want {
			got, err := r.path(prefix)
			if err != nil {
				return err
			}
			if diff := cmp.Diff(path, got); diff != "" {
				return fmt.Errorf("%s: %s (-want +got):\n%s", what, prefix, diff)
			}
		}
		return nil
	})
}

// oneSession fails unless the router's session with a neighbour came up once.
func (r *frr) oneSession(neighbour string) {
	r.t.Helper()
	var shown map[string]struct {
		State string `json:"bgpState"`
		Ups   int    `json:"connectionsEstablished"`
	}
	out := r.show("show bgp neighbors " + neighbour + " json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	if n := shown[neighbour]; n.State != "Established" || n.Ups != 1 {
		r.t.Errorf("the session with %s is %s, for the %d. time", neighbour, n.State, n.Ups)
	}
}

const (
	prefixV4, prefixV6   = "10.10.1.0/24", "fd10:0:0:1::/64"
	serviceV4, serviceV6 = "203.0.113.7/32", "fd10:ffff::7/128"
)

// ofBoth says the same of the node's two prefixes.
func ofBoth(p frrPath) map[string]frrPath { return map[string]frrPath{prefixV4: p, prefixV6: p} }

// everyAttribute has all communities that have names, a MED above 31 bits, and
// the AS path two longer.
var everyAttribute = routing.Attributes{
	Communities: []routing.Community{
		standard(64512, 7), standard(65535, 0), standard(65535, 1), standard(65535, 7), standard(65535, 666),
		standard(65535, 65281), standard(65535, 65282), standard(65535, 65283), standard(65535, 65284),
		large(4200000001, 4294967295, 0), large(64512, 1, 2),
	},
	LocalPref: 150, MED: new(uint32(4294967295)), Prepend: 2,
}

const (
	everyName      = " graceful-shutdown accept-own no-llgr blackhole no-export no-advertise local-AS no-peer"
	everyCommunity = "64512:7" + everyName
	everyLarge     = "64512:1:2 4200000001:4294967295:0"
)

// TestExport changes what a router of another AS is told, in one session.
func TestExport(t *testing.T) {
	withFRR(t, waiting("192.0.2.1", 4200000001), func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		c := nodeConf(routerV4)
		c.Speaker.ASN = 4200000001
		say := func(a routing.Attributes, e routing.ExportRule) {
			t.Helper()
			for i := range c.Advertisements {
				c.Advertisements[i].Attributes = a
			}
			c.Peers[0].Export = e
			s.set(c)
		}
		plain := frrPath{ASPath: "4200000001"}
		shut := new(uint32(0)) // what the router makes of graceful-shutdown
		only := func(prefix string, bits int) routing.ExportRule {
			return routing.ExportRule{Prefixes: []routing.PrefixRule{{Prefix: pfx(prefix), LE: bits}}}
		}

		say(routing.Attributes{}, routing.ExportRule{})
		r.eventuallyHas("no attributes", ofBoth(plain))
		say(everyAttribute, routing.ExportRule{})
		r.eventuallyHas("what the advertisement says", ofBoth(frrPath{
			ASPath: "4200000001 4200000001 4200000001", LocalPref: shut, MED: new(uint32(4294967295)), Communities: everyCommunity, Large: everyLarge}))
		say(everyAttribute, routing.ExportRule{
			Communities: []routing.Community{standard(64512, 8), large(1, 2, 3)}, MED: new(uint32(0)), Prepend: new(1)})
		r.eventuallyHas("what the peer says", ofBoth(frrPath{
			ASPath: "4200000001 4200000001", LocalPref: shut, MED: new(uint32(0)),
			Communities: "64512:7 64512:8" + everyName, Large: "1:2:3 " + everyLarge}))
		say(routing.Attributes{Prepend: 3}, routing.ExportRule{Prepend: new(0)})
		r.eventuallyHas("all taken back", ofBoth(plain))
		// Why routing.ParseCommunity refuses llgr-stale.
		say(routing.Attributes{Communities: []routing.Community{standard(65535, 6)}}, routing.ExportRule{})
		r.eventuallyHas("llgr-stale", ofBoth(frrNone))

		say(routing.Attributes{}, only("10.10.0.0/16", 24))
		r.eventuallyHas("one family", map[string]frrPath{prefixV4: plain, prefixV6: frrNone})
		say(routing.Attributes{}, only("fd10::/16", 64))
		r.eventuallyHas("the other", map[string]frrPath{prefixV4: frrNone, prefixV6: plain})
		say(routing.Attributes{}, only("10.10.0.0/16", 23))
		r.eventuallyHas("neither", ofBoth(frrNone))
		say(routing.Attributes{}, routing.ExportRule{})
		r.eventuallyHas("without a filter again", ofBoth(plain))
		r.oneSession("192.0.2.1")
	})
}

// TestExportWithin changes what a router of the same AS is told.
func TestExportWithin(t *testing.T) {
	conf := strings.ReplaceAll(waiting("2001:db8::1", 4200000001), "router bgp 65002", "router bgp 4200000001")
	withFRR(t, conf, func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		peer := routerV6
		peer.ASN = 4200000001
		c := nodeConf(peer)
		c.Speaker.ASN = 4200000001
		for i := range c.Advertisements {
			c.Advertisements[i].Attributes = everyAttribute
		}
		s.set(c)
		want := frrPath{ASPath: "Local", LocalPref: new(uint32(150)), MED: new(uint32(4294967295)), Communities: everyCommunity, Large: everyLarge}
		r.eventuallyHas("what the advertisement says", ofBoth(want))
		c.Peers[0].Export = routing.ExportRule{LocalPref: 4294967295, MED: new(uint32(7)), Prepend: new(5)}
		s.set(c)
		want.LocalPref, want.MED = new(uint32(4294967295)), new(uint32(7))
		r.eventuallyHas("what the peer says", ofBoth(want))
		c.Peers[0].Export = routing.ExportRule{}
		for i := range c.Advertisements {
			c.Advertisements[i].Attributes = routing.Attributes{}
		}
		s.set(c)
		r.eventuallyHas("the default", ofBoth(frrPath{ASPath: "Local", LocalPref: new(uint32(100))}))

		// A drain takes addresses of Services off the node, and leaves Pod CIDRs.
		r.eventuallyHas("no Service", map[string]frrPath{serviceV4: frrNone, serviceV6: frrNone})
		ads := c.Advertisements
		for _, shutdown := range []bool{false, true, false} {
			c.Advertisements = ads
			for _, prefix := range []string{serviceV4, serviceV6} {
				a := ads[0]
				a.Prefix, a.LocalPref, a.GracefulShutdown = pfx(prefix), 150, shutdown
				c.Advertisements = append(slices.Clone(c.Advertisements), a)
			}
			s.set(c)
			service := frrPath{ASPath: "Local", LocalPref: new(uint32(150))}
			if shutdown {
				service = frrPath{ASPath: "Local", LocalPref: new(uint32(0)), Communities: "graceful-shutdown"}
			}
			r.eventuallyHas(fmt.Sprint("Service, shutdown ", shutdown), map[string]frrPath{serviceV4: service, serviceV6: service})
		}
		c.Advertisements = ads
		s.set(c)
		r.eventuallyHas("withdrawn", map[string]frrPath{serviceV4: frrNone, serviceV6: frrNone})
		r.eventuallyHas("Pod CIDRs", ofBoth(frrPath{ASPath: "Local", LocalPref: new(uint32(100))}))
		r.oneSession("2001:db8::1")
	})
}

// TestExportToEach has two routers that are told different things, one of them
// by a node with another ASN.
func TestExportToEach(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		a, b := testnet.New(t, "tora"), testnet.New(t, "torb")
		testnet.Veth(t,
			testnet.End{NS: node, Name: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
			testnet.End{NS: a, Name: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}})
		testnet.Veth(t,
			testnet.End{NS: node, Name: "eth1", Addrs: []string{"198.51.100.1/24", "2001:db8:1::1/64"}},
			testnet.End{NS: b, Name: "eth0", Addrs: []string{"198.51.100.2/24", "2001:db8:1::2/64"}})
		tora := startFRR(t, a, waiting("192.0.2.1", 65001))
		torb := startFRR(t, b, waiting("198.51.100.1", 4200000009))
		s := startSpeaker(t)
		c := nodeConf(routerV4, routing.Peer{Name: "torb", Address: ip("198.51.100.2"), ASN: 65002, LocalASN: 4200000009})
		c.Peers[1].Export = routing.ExportRule{
			Communities: []routing.Community{standard(64512, 100)}, MED: new(uint32(100)), Prepend: new(2),
			Prefixes: []routing.PrefixRule{{Prefix: pfx("10.10.0.0/16"), LE: 24}},
		}
		c.Peers[0].Import.LocalPref = 200
		s.set(c)
		backup := frrPath{ASPath: "4200000009 4200000009 4200000009", MED: new(uint32(100)), Communities: "64512:100"}
		tora.eventuallyHas("plain", ofBoth(frrPath{ASPath: "65001"}))
		torb.eventuallyHas("backup", map[string]frrPath{prefixV4: backup, prefixV6: frrNone})

		// The node itself uses the preferred one.
		s.eventually("the preferred router", has(
			route("10.10.2.0/24", "192.0.2.2", "tor"), route("fd10:0:0:2::/64", "2001:db8::2", "tor")))
		c.Peers[0].Import.LocalPref, c.Peers[1].Import.LocalPref = 0, 300
		c.Peers[1].Export.Prefixes = nil
		s.set(c)
		s.eventually("the other router", has(
			route("10.10.2.0/24", "198.51.100.2", "torb"), route("fd10:0:0:2::/64", "2001:db8:1::2", "torb")))
		torb.eventuallyHas("both families", ofBoth(backup))
		tora.eventuallyHas("untouched", ofBoth(frrPath{ASPath: "65001"}))

		// One router less is told of a prefix that the other keeps.
		c.Peers[1].Export.Prefixes = []routing.PrefixRule{{Prefix: pfx("10.10.0.0/16"), LE: 24}}
		s.set(c)
		torb.eventuallyHas("one family again", map[string]frrPath{prefixV4: backup, prefixV6: frrNone})
		tora.eventuallyHas("still untouched", ofBoth(frrPath{ASPath: "65001"}))
		tora.oneSession("192.0.2.1")
		torb.oneSession("198.51.100.1")
	})
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, prefix(p))
	}
	return out
}

// world has three nodes: n1 is here, n2 in the same rack, n3 in another.
func world(change func(*World)) World {
	conf := config.Default()
	w := World{
		Config: conf,
		Local: routing.Node{
			Name: "n1", Addresses: []netip.Addr{addr("192.0.2.1"), addr("2001:db8:1::1")},
			PodCIDRs: prefixes("10.10.1.0/24", "fd10:1::/64"),
		},
		Remotes: []routing.Node{
			{
				Name: "n2", Addresses: []netip.Addr{addr("192.0.2.2"), addr("2001:db8:1::2")},
				PodCIDRs: prefixes("10.10.2.0/24", "fd10:2::/64"),
			},
			{
				Name: "n3", Addresses: []netip.Addr{addr("198.51.100.3"), addr("2001:db8:2::3")},
				PodCIDRs: prefixes("10.10.3.0/24", "fd10:3::/64"),
			},
		},
		ASN:    64512,
		Uplink: Uplink{Name: "eth0", NIC: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, MTU: 1500},
		Links:  []routing.Link{{Name: "eth0", Prefixes: prefixes("192.0.2.0/24", "2001:db8:1::/64")}},
	}
	if change != nil {
		change(&w)
	}
	return w
}

// kinds are the paths of a plan as "node family: kind".
func kinds(p *Plan) map[string]routing.PathKind {
	out := map[string]routing.PathKind{}
	for _, path := range p.Paths {
		out[path.Node+" "+path.Family.String()] = path.Kind
	}
	return out
}

func TestPlanByMode(t *testing.T) {
	learned := func(w *World) {
		for _, p := range []struct{ prefix, via string }{{"10.10.3.0/24", "192.0.2.254"}, {"fd10:3::/64", "2001:db8:1::fe"}} {
			w.Learned = append(w.Learned, routing.LearnedRoute{
				Prefix: prefix(p.prefix), NextHops: []routing.NextHop{{Addr: addr(p.via)}}, Peers: []string{"tor"},
			})
		}
	}
	for _, test := range []struct {
		name   string
		change func(*World)
		paths  map[string]routing.PathKind
		mtu    int
		// tunnelled are the nodes that Pods reach by tunnel, with the addresses.
		tunnelled map[string][]netip.Addr
	}{
		{
			name:   "noEncap with routes",
			change: learned,
			paths: map[string]routing.PathKind{
				"n2 IPv4": routing.PathDirect, "n2 IPv6": routing.PathDirect,
				"n3 IPv4": routing.PathBGP, "n3 IPv6": routing.PathBGP,
			},
			mtu: 1500,
		},
		{
			name: "noEncap without routes",
			paths: map[string]routing.PathKind{
				"n2 IPv4": routing.PathDirect, "n2 IPv6": routing.PathDirect,
				"n3 IPv4": routing.PathNone, "n3 IPv6": routing.PathNone,
			},
			mtu: 1500,
		},
		{
			name:   "encap",
			change: func(w *World) { w.Config.Mode = routing.ModeEncap; learned(w) },
			paths: map[string]routing.PathKind{
				"n2 IPv4": routing.PathTunnel, "n2 IPv6": routing.PathTunnel,
				"n3 IPv4": routing.PathTunnel, "n3 IPv6": routing.PathTunnel,
			},
			mtu: 1450,
			tunnelled: map[string][]netip.Addr{
				"n2": {addr("192.0.2.2"), addr("2001:db8:1::2")}, "n3": {addr("198.51.100.3"), addr("2001:db8:2::3")},
			},
		},
		{
			name:   "encap over IPv6",
			change: func(w *World) { w.Config.Mode = routing.ModeEncap; w.Config.Tunnel.Underlay = encap.UnderlayIPv6 },
			paths: map[string]routing.PathKind{
				"n2 IPv4": routing.PathTunnel, "n2 IPv6": routing.PathTunnel,
				"n3 IPv4": routing.PathTunnel, "n3 IPv6": routing.PathTunnel,
			},
			mtu: 1430,
			tunnelled: map[string][]netip.Addr{
				"n2": {addr("192.0.2.2"), addr("2001:db8:1::2")}, "n3": {addr("198.51.100.3"), addr("2001:db8:2::3")},
			},
		},
		{
			name:   "hybrid",
			change: func(w *World) { w.Config.Mode = routing.ModeHybrid },
			paths: map[string]routing.PathKind{
				"n2 IPv4": routing.PathDirect, "n2 IPv6": routing.PathDirect,
				"n3 IPv4": routing.PathTunnel, "n3 IPv6": routing.PathTunnel,
			},
			mtu:       1450,
			tunnelled: map[string][]netip.Addr{"n2": nil, "n3": {addr("198.51.100.3"), addr("2001:db8:2::3")}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := MakePlan(world(test.change))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.paths, kinds(p)); diff != "" {
				t.Error("paths:", diff)
			}
			if p.MTU != test.mtu || p.SwitchMTU != 1500 || p.Layout.MTU != 1500 {
				t.Errorf("MTU = %d, of the switch %d, in the layout %d, want %d and the uplink's 1500", p.MTU, p.SwitchMTU, p.Layout.MTU, test.mtu)
			}
			tunnelled := map[string][]netip.Addr{}
			for _, n := range p.Nodes {
				tunnelled[n.Name] = n.Addrs
			}
			if diff := cmp.Diff(test.tunnelled, tunnelled, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error("tunnels:", diff)
			}
			if got, want := len(p.Layout.Tunnels) > 0, test.tunnelled != nil; got != want {
				t.Errorf("tunnel port wanted: %t, want %t", got, want)
			}
		})
	}
}

func TestPlanWithUserspaceDatapath(t *testing.T) {
	p, err := MakePlan(world(func(w *World) {
		w.Config.Datapath = config.DatapathNetdev
		w.Uplink.Name = vsdb.ExternalBridge
	}))
	if err != nil {
		t.Fatal(err)
	}
	if p.Layout.Datapath != vsdb.DatapathNetdev || p.Layout.Uplink == nil || p.Layout.Uplink.Name != "eth0" {
		t.Errorf("layout = %+v, want datapath netdev with uplink eth0", p.Layout)
	}
	if diff := cmp.Diff([]string{"eth0"}, p.Firewall.SwitchedNICs); diff != "" {
		t.Error(diff)
	}
}

func TestPlanLeavesOutWhatIsBad(t *testing.T) {
	p, err := MakePlan(world(func(w *World) {
		// n3 claims a network that overlaps this node's own in IPv4.
		w.Remotes[1].PodCIDRs = prefixes("192.0.2.0/25", "fd10:3::/64")
		w.Config.Mode = routing.ModeEncap
		w.Advertisements = []routing.Advertisement{{Prefix: prefix("10.10.1.0/24")}, {Prefix: prefix("10.99.0.0/24")}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]routing.PathKind{
		"n2 IPv4": routing.PathTunnel, "n2 IPv6": routing.PathTunnel, "n3 IPv6": routing.PathTunnel,
	}
	if diff := cmp.Diff(want, kinds(p)); diff != "" {
		t.Error("paths:", diff)
	}
	if len(p.Problems) != 1 || p.Problems[0].Node != "n3" {
		t.Errorf("problems = %+v, want one of n3", p.Problems)
	}
	if len(p.BGP.Advertisements) != 1 || p.BGP.Advertisements[0].Prefix != prefix("10.10.1.0/24") {
		t.Errorf("advertised = %+v, want the node's own Pod CIDR only", p.BGP.Advertisements)
	}
}

func TestPlanBFD(t *testing.T) {
	bfd := &routing.BFD{Multiplier: 3}
	peers := []routing.Peer{
		{Name: "near", Address: netip.MustParseAddr("192.0.2.254"), ASN: 64512, BFD: bfd},
		{Name: "far", Address: netip.MustParseAddr("203.0.113.1"), ASN: 64512, BFD: bfd},
		{Name: "without", Address: netip.MustParseAddr("203.0.113.2"), ASN: 64512},
	}
	p, err := MakePlan(world(func(w *World) { w.ASN, w.Peers = 64512, peers }))
	if err != nil {
		t.Fatal(err)
	}
	var got []*routing.BFD
	for _, peer := range p.BGP.Peers {
		got = append(got, peer.BFD)
	}
	want := []*routing.BFD{{Multiplier: 3}, {Multiplier: 3, Multihop: true}, nil}
	if diff := cmp.Diff(want, got); diff != "" || bfd.Multihop {
		t.Errorf("BFD of the peers (-want +got):\n%s\ngiven: %+v", diff, bfd)
	}
}

func TestPlanOfAggregates(t *testing.T) {
	change := func(w *World) {
		w.Config.Mode, w.Config.BGP.Enabled = routing.ModeNoEncap, true
		w.Peers = []routing.Peer{{Name: "tor"}}
		w.Advertisements = []routing.Advertisement{
			{Prefix: prefix("10.10.1.0/24"), Peers: []string{"tor"}},
			{Prefix: prefix("10.10.0.0/16"), Aggregate: true, SummaryOnly: true, Peers: []string{"tor"}},
			{Prefix: prefix("192.0.0.0/8"), Aggregate: true, SummaryOnly: true, Peers: []string{"tor"}},
		}
		w.Aggregates = prefixes("10.10.0.0/16", "10.11.0.0/16")
	}
	p, err := MakePlan(world(change))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range p.BGP.Advertisements {
		got = append(got, a.Prefix.String())
	}
	if diff := cmp.Diff([]string{"10.10.0.0/16"}, got); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
	discard := routing.Route{Prefix: prefix("10.10.0.0/16"), Type: routing.Unreachable, Metric: routing.MetricGuard}
	if !slices.ContainsFunc(p.Kernel.Routes, func(r routing.Route) bool { return reflect.DeepEqual(r, discard) }) {
		t.Errorf("no discard route in %+v", p.Kernel.Routes)
	}
	if len(p.Problems) != 1 || p.Problems[0].Reason != routing.ProblemAggregate {
		t.Errorf("problems %+v", p.Problems)
	}
	if s := p.BGP.Scope; len(s.Aggregates) != 2 || len(s.OwnAggregates) != 1 {
		t.Errorf("scope %+v", s)
	}

	p, err = MakePlan(world(func(w *World) { change(w); w.Config.BGP.Enabled = false }))
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(p.Kernel.Routes, func(r routing.Route) bool { return r.Prefix == discard.Prefix }) {
		t.Error("a discard route without BGP")
	}
}

func TestPlanMTU(t *testing.T) {
	p, err := MakePlan(world(func(w *World) { w.Config.MTU = 9000 }))
	if err != nil {
		t.Fatal(err)
	}
	if p.MTU != 1500 || p.MTUWarning == "" {
		t.Errorf("MTU = %d with warning %q, want the uplink's 1500 with a warning", p.MTU, p.MTUWarning)
	}
	_, err = MakePlan(world(func(w *World) { w.Uplink.MTU = 1200 }))
	if err == nil {
		t.Error("an uplink too small for IPv6 is accepted")
	}
}

// TestPlanKeepsRoutesUntilBGPHasConverged: after a restart nothing is learned
// yet, while the routes of the earlier run still carry traffic.
func TestPlanKeepsRoutesUntilBGPHasConverged(t *testing.T) {
	a := &Agent{loop: reconcile.New(reconcile.Params{})}
	route := routing.LearnedRoute{
		Prefix: prefix("10.10.3.0/24"), NextHops: []routing.NextHop{{Addr: addr("192.0.2.254")}}, Peers: []string{"tor"},
	}
	for _, test := range []struct {
		name  string
		event *routing.PathEvent
		keep  bool
	}{
		{"the speaker has said nothing", nil, true},
		{"some peers have not said all", &routing.PathEvent{Routes: []routing.LearnedRoute{route}}, true},
		{"all have", &routing.PathEvent{Routes: []routing.LearnedRoute{route}, Converged: true}, false},
		{"a new peer has not", &routing.PathEvent{Routes: []routing.LearnedRoute{route}}, true},
		{"there are no peers", &routing.PathEvent{Converged: true}, false},
	} {
		if test.event != nil {
			a.onRoutes(*test.event)
		}
		learned := a.learned()
		p, err := MakePlan(world(func(w *World) { w.Learned, w.Converged = learned.Routes, learned.Converged }))
		if err != nil {
			t.Fatal(err)
		}
		if p.KeepRoutes != test.keep {
			t.Errorf("%s: KeepRoutes = %t, want %t", test.name, p.KeepRoutes, test.keep)
		}
	}
}

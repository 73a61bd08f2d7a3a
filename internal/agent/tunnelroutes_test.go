// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/router"
	"github.com/waymark-net/waymark/routing"
)

func TestTunnelRoutes(t *testing.T) {
	netdev := func(w *World) {
		w.Config.Mode, w.Config.Datapath = routing.ModeEncap, config.DatapathNetdev
		w.Uplink.Name = "br-ext"
		w.Links[0].Name = "br-ext"
		w.Underlay = []routing.Route{{
			Prefix:   netip.MustParsePrefix("0.0.0.0/0"),
			NextHops: []routing.NextHop{{Addr: addr("192.0.2.254"), Interface: "br-ext"}},
		}}
	}
	near := router.Route{Dst: addr("192.0.2.2"), Bridge: "br-ext"}
	far := router.Route{Dst: addr("198.51.100.3"), Bridge: "br-ext", Gateway: addr("192.0.2.254")}
	for name, test := range map[string]struct {
		change func(*World)
		want   []router.Route
	}{
		"on-link and behind a router": {func(*World) {}, []router.Route{near, far}},
		"the kernel's datapath":       {func(w *World) { w.Config.Datapath = config.DatapathSystem }, nil},
		"no tunnel":                   {func(w *World) { w.Config.Mode = routing.ModeNoEncap }, nil},
		"no route":                    {func(w *World) { w.Underlay = nil }, []router.Route{near}},
		"another interface": {func(w *World) { w.Underlay[0].NextHops[0].Interface = "eth1" },
			[]router.Route{near}},
		"a router of the other family": {func(w *World) { w.Underlay[0].NextHops[0].Addr = addr("2001:db8:1::fe") },
			[]router.Route{near}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := MakePlan(world(func(w *World) { netdev(w); test.change(w) }))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, p.TunnelRoutes, cmpopts.EquateComparable(netip.Addr{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// TestDualHomed takes away one of the two routers of a rack.
func TestDualHomed(t *testing.T) {
	lab := newLab(t, "twotors", func(d *cluster.Description) {
		d.Network.Nodes = 2
		d.Network.DualHomed, d.Network.Routers.DefaultRoute = true, true
	})
	deploy(t, lab)
	// Nobody tells the node that a router is dead: the session's hold time does.
	checkDualHomed(t, lab, lab.Description.Network.Routers.Hold+promptly)
}

// checkDualHomed kills each router of the first rack in turn, under traffic to
// the other rack and to the client, which is reached by a learned default route. It
// may be noticed only after a time.
func checkDualHomed(t *testing.T, lab *cluster.Lab, allowed time.Duration) {
	pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
	if err != nil {
		t.Fatal(err)
	}
	from, to := acrossRacks(t, lab, pods)
	host, _ := lab.Topology.Host(from.Node)
	outside, _ := lab.Topology.Host(topology.Client)
	client := workload.Pod{Name: outside.Name, Addresses: outside.Addresses()}
	tors := lab.Topology.ToRs(host.Rack)
	routes := append(podCIDRsOf(t, lab, to.Node), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	check(t, "over both", func(t *testing.T) {
		eventually(t, 30*time.Second, func(ctx context.Context) error { return nextHops(ctx, lab, from.Node, routes, tors...) })
	})
	for i, dead := range tors {
		alive := tors[1-i]
		check(t, "without "+dead.Name, func(t *testing.T) {
			pods, world := startTraffic(t, lab, from, to), startTraffic(t, lab, from, client)
			if err := lab.Fail(t.Context(), "kill-router", dead.Name); err != nil {
				t.Fatal(err)
			}
			eventually(t, allowed+10*time.Second, func(ctx context.Context) error {
				return nextHops(ctx, lab, from.Node, routes, alive)
			})
			checkQuickMatrix(t, lab, 10*time.Second)
			check(t, "to the other rack", func(t *testing.T) { pods.end(t, allowed) })
			check(t, "to the client", func(t *testing.T) { world.end(t, allowed) })
		})
		check(t, dead.Name+" comes back", func(t *testing.T) {
			if err := lab.Fail(t.Context(), "start-router", dead.Name); err != nil {
				t.Fatal(err)
			}
			eventually(t, time.Minute, func(ctx context.Context) error { return nextHops(ctx, lab, from.Node, routes, tors...) })
			checkQuickMatrix(t, lab, 30*time.Second)
		})
	}
}

// nextHops complains unless a node's routes to prefixes lead over exactly these
// routers.
func nextHops(ctx context.Context, lab *cluster.Lab, node string, prefixes []netip.Prefix, routers ...topology.Host) error {
	for _, p := range prefixes {
		out, err := lab.Exec(ctx, node, "ip", "-o", family(p), "route", "show", p.String(), "metric", "200")
		if err != nil {
			return err
		}
		hops := strings.Count(out, " via ")
		for _, r := range routers {
			for _, a := range r.Addresses() {
				hops -= strings.Count(out, "via "+a.String()+" ")
			}
		}
		if got := strings.Count(out, " via "); hops != 0 || got != len(routers) {
			return fmt.Errorf("%s reaches %s by %q, want %d next hops", node, p, out, len(routers))
		}
	}
	return nil
}

// family is the option of ip(8) for the family of a prefix.
func family(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "-4"
	}
	return "-6"
}

// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/workload"
)

const (
	// toldWithin and foundWithin bound how long packets may be lost where routers tell
	// of a failure, and where probes have to find it.
	toldWithin  = 500 * time.Millisecond
	foundWithin = time.Second
	// holdAfter is how long a path has to work after its first failures.
	holdAfter = 30 * time.Second
	// largeEcho fills a Pod's packets of 1450 bytes in either family.
	largeEcho = 1450 - 48
	// narrowed is an MTU through which those do not fit.
	narrowed = "1400"
)

// disruption is what happens to the fabric between two racks.
type disruption struct {
	name string
	// do and undo are failures of the lab, or commands to a router.
	do, undo func(t *testing.T, lab *cluster.Lab)
	allowed  time.Duration
	// large has pings as large as Pods may send.
	large bool
}

// disruptions between the Pods of from and to, whose rack has the router tor.
func disruptions(t *testing.T, lab *cluster.Lab, from, to workload.Pod) []disruption {
	t.Helper()
	const tor = announceToR
	fail := func(kind string, args ...string) func(t *testing.T, lab *cluster.Lab) {
		return func(t *testing.T, lab *cluster.Lab) {
			t.Helper()
			if err := lab.Fail(t.Context(), kind, append([]string{tor}, args...)...); err != nil {
				t.Fatal(err)
			}
		}
	}
	heal := fail("heal")
	var cidrs, back []string
	for _, p := range podCIDRsOf(t, lab, to.Node) {
		cidrs = append(cidrs, p.String())
	}
	for _, p := range podCIDRsOf(t, lab, from.Node) {
		back = append(back, p.String())
	}
	return []disruption{
		{"the fabric drops Pod addresses", fail("blackhole", cidrs...), heal, foundWithin, false},
		{"the session is withdrawn", shutdown(tor, true), shutdown(tor, false), toldWithin, false},
		{"loss on the way there", fail("blackhole-to", cidrs...), heal, foundWithin, false},
		{"loss on the way back", fail("blackhole-to", back...), heal, foundWithin, false},
		{"the fabric's MTU is lowered", fail("blackhole-large", append([]string{narrowed}, cidrs...)...), heal, foundWithin, true},
	}
}

// shutdown ends a router's sessions with nodes by command, or lets them be made again.
func shutdown(router string, down bool) func(t *testing.T, lab *cluster.Lab) {
	word := "no "
	if down {
		word = ""
	}
	return func(t *testing.T, lab *cluster.Lab) {
		t.Helper()
		for _, group := range peerGroups {
			configure(t, lab, router, word+"neighbor "+group+" shutdown")
		}
	}
}

// peerGroups of a router are of the nodes of its rack, one a family.
var peerGroups = []string{"nodes-ipv4", "nodes-ipv6"}

// configure adds a line to the BGP configuration of a router.
func configure(t *testing.T, lab *cluster.Lab, router, line string) {
	t.Helper()
	h, ok := lab.Topology.Host(router)
	if !ok {
		t.Fatalf("no router %s", router)
	}
	out, err := lab.Vtysh(t.Context(), router, "configure terminal", fmt.Sprintf("router bgp %d", h.ASN), line)
	if err != nil || strings.TrimSpace(out) != "" {
		t.Fatalf("%v: %s", err, out)
	}
}

// checkAuto breaks what routes need between two racks, in mode auto. Packets go on
// through tunnels, and by routes again when all is well. Those inside of a rack are
// not concerned.
func checkAuto(t *testing.T, lab *cluster.Lab, only ...string) {
	pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
	if err != nil {
		t.Fatal(err)
	}
	from, to := acrossRacks(t, lab, pods)
	near := besideIn(t, lab, pods, from)
	for _, d := range disruptions(t, lab, from, to) {
		if len(only) > 0 && !slices.Contains(only, d.name) {
			continue
		}
		check(t, d.name, func(t *testing.T) { disrupt(t, lab, from, to, near, d) })
	}
}

// besideIn picks a Pod on another node of the rack.
func besideIn(t *testing.T, lab *cluster.Lab, pods []workload.Pod, a workload.Pod) workload.Pod {
	t.Helper()
	ha, _ := lab.Topology.Host(a.Node)
	for _, b := range pods {
		if hb, _ := lab.Topology.Host(b.Node); b.Node != a.Node && hb.Rack == ha.Rack {
			return b
		}
	}
	t.Fatalf("no Pod on another node of the rack of %s", a.Node)
	return a
}

func disrupt(t *testing.T, lab *cluster.Lab, from, to, near workload.Pod, d disruption) {
	routed := func(ctx context.Context) error {
		for _, node := range nodeNames(lab) {
			if err := pathsLike(ctx, lab, node, "", "bgp", "direct"); err != nil {
				return err
			}
		}
		return nil
	}
	// What failed before is forgotten with the mode.
	switchMode(t, lab, variant{"noEncap", "noEncap", nil})
	switchMode(t, lab, variant{"auto", "auto", nil})
	eventually(t, holdAfter, routed)
	far, inside := newTraffic(t), startTraffic(t, lab, from, near)
	far.addStreams(t, lab, from, to)
	if d.large {
		far.addPing(t, lab, from, to, "-size", fmt.Sprint(largeEcho), "-df")
	} else {
		far.addPing(t, lab, from, to)
	}
	far.await(t)
	d.do(t, lab)
	eventually(t, 10*time.Second, func(ctx context.Context) error { return pathsLike(ctx, lab, from.Node, to.Node, "tunnel") })
	eventually(t, 10*time.Second, func(ctx context.Context) error { return pathsLike(ctx, lab, to.Node, from.Node, "tunnel") })
	checkQuickMatrix(t, lab, regained)
	d.undo(t, lab)
	eventually(t, holdAfter, routed)
	far.end(t, d.allowed)
	check(t, "inside of the rack", func(t *testing.T) { inside.end(t, 0) })
	if err := pathsLike(t.Context(), lab, from.Node, near.Node, "direct", "bgp"); err != nil {
		t.Error(err)
	}
}

var pathLabels = regexp.MustCompile(`^waymark_path_since_seconds\{family="([^"]*)",node="([^"]*)",path="([^"]*)"\}$`)

// pathsLike complains unless all paths of a node to another one, or to all if that
// is empty, are of one of these kinds.
func pathsLike(ctx context.Context, lab *cluster.Lab, node, to string, kinds ...string) error {
	m, err := agent.metrics(ctx, lab, node)
	if err != nil {
		return err
	}
	seen := 0
	for series := range m {
		found := pathLabels.FindStringSubmatch(series)
		if found == nil || to != "" && found[2] != to {
			continue
		}
		seen++
		if !slices.Contains(kinds, found[3]) {
			return fmt.Errorf("%s reaches %s over %s by %s, want %s", node, found[2], found[1], found[3], strings.Join(kinds, " or "))
		}
	}
	if seen == 0 {
		return fmt.Errorf("%s tells no path to %s", node, to)
	}
	return nil
}

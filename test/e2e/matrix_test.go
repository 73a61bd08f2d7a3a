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
	"github.com/waymark-net/waymark/test/lab/matrix"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// tunnels matches every tunnel packet, whatever carries it.
const tunnels = "udp port 6081 or udp port 4789 or (ip6 and udp and (port 6081 or port 4789))"

// checkMatrix runs the whole matrix with captures on every link, and checks
// that packets of Pods travelled as the mode says.
func checkMatrix(t *testing.T, lab *cluster.Lab, mode string) {
	t.Helper()
	ctx := t.Context()
	ends, err := workload.Endpoints(ctx, lab)
	if err != nil {
		t.Fatal(err)
	}
	captures := captureAll(t, lab)
	result := matrix.Run(ctx, matrix.Params{Endpoints: ends})
	t.Logf("%s\n%s", mode, result.Grid())
	for _, f := range result.Failures() {
		t.Log(f)
	}
	record(t, result.Rows()...)
	for link, c := range captures {
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		checkCapture(ctx, t, lab, mode, link, c)
	}
}

func captureAll(t *testing.T, lab *cluster.Lab) map[string]*cluster.Capture {
	t.Helper()
	captures := map[string]*cluster.Capture{}
	for _, l := range lab.Topology.Links {
		if strings.HasPrefix(l.A.Host, topology.ControlPlane) {
			continue // no packet of a Pod goes there
		}
		c, err := lab.Capture(t.Context(), l.Name)
		if err != nil {
			t.Fatal(err)
		}
		captures[l.Name] = c
	}
	return captures
}

// checkCapture checks one link: plain packets of Pods and no tunnels in
// noEncap, the reverse in encap; in hybrid tunnels only where racks differ.
func checkCapture(ctx context.Context, t *testing.T, lab *cluster.Lab, mode, link string, c *cluster.Capture) {
	t.Helper()
	count := func(filter string) int {
		packets, err := c.Packets(ctx, filter)
		if err != nil {
			t.Fatal(err)
		}
		return len(packets)
	}
	plain, tunnelled := count(podPackets(lab)), count(tunnels)
	note := fmt.Sprintf("%d plain packets of Pods, %d tunnel packets", plain, tunnelled)
	clientLink := strings.HasPrefix(link, topology.Client)
	node := strings.HasPrefix(link, "n")
	switch mode {
	case "noEncap":
		record(t, report.Check("link "+link+" carries Pod packets plain", tunnelled == 0 && (plain > 0 || clientLink), note))
	case "encap":
		record(t, report.Check("link "+link+" carries Pod packets in tunnels only", plain == 0 && (tunnelled > 0 || clientLink), note))
	case "hybrid":
		if node {
			record(t, report.Check("link "+link+" carries tunnels", tunnelled > 0, note))
		} else if !clientLink {
			record(t, report.Check("link "+link+" carries tunnels only", tunnelled > 0 && plain == 0, note))
		}
	}
}

// podPackets matches packets from or to addresses of Pods.
func podPackets(lab *cluster.Lab) string {
	var parts []string
	for _, p := range lab.Topology.PodPrefixes() {
		parts = append(parts, "net "+p.String())
	}
	// Not what routers say of these networks, nor an ICMP error that quotes one.
	return "(" + strings.Join(parts, " or ") + ")"
}

// checkRouters waits until the routers know the Pod CIDRs, or none of them.
func checkRouters(t *testing.T, lab *cluster.Lab, want bool) {
	t.Helper()
	nodes, err := workload.PodCIDRs(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	for _, router := range lab.Topology.WithRole(topology.RoleToR, topology.RoleSpine) {
		err := cluster.Until(t.Context(), 15*time.Second, func(ctx context.Context) error {
			known, err := workload.KnownPrefixes(ctx, lab, router.Name)
			if err != nil {
				return err
			}
			return complain(nodes, known, want)
		})
		note := ""
		if err != nil {
			note = err.Error()
		}
		record(t, report.Check(fmt.Sprintf("%s knows the Pod CIDRs: %t", router.Name, want), err == nil, note))
	}
}

func complain(nodes []workload.NodeCIDRs, known map[netip.Prefix]bool, want bool) error {
	for _, n := range nodes {
		for _, cidr := range n.PodCIDRs {
			if known[cidr] != want {
				return fmt.Errorf("known is %t for %s of %s", known[cidr], cidr, n.Name)
			}
		}
	}
	return nil
}

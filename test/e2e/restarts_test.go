// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// upgradeTag is the tag of a second image of the product in the lab's nodes.
const upgradeTag = "upgrade"

// checkRestarts ends agents in every way there is under traffic across racks.
func checkRestarts(t *testing.T, lab *cluster.Lab) {
	pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
	if err != nil {
		t.Fatal(err)
	}
	from, to := acrossRacks(t, lab, pods)
	for _, node := range nodeNames(lab) {
		eventually(t, 90*time.Second, func(ctx context.Context) error { return steady(ctx, lab, node) })
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"agents killed", func(t *testing.T) {
			for _, node := range nodeNames(lab) {
				killAgent(t, lab, node)
			}
		}},
		{"DaemonSet Pods deleted", func(t *testing.T) {
			kubectl(t, lab, "-n", "kube-system", "delete", "pods", "-l", "app.kubernetes.io/name=waymark-agent")
		}},
		{"upgrade", func(t *testing.T) { rollAgents(t, lab, upgradeTag) }},
		{"downgrade", func(t *testing.T) { rollAgents(t, lab, "latest") }},
	} {
		check(t, c.name, func(t *testing.T) { restartUnderTraffic(t, lab, from, to, c.run) })
	}
}

// steady complains as long as a switch has the flows that it has for a minute
// after it was restarted.
func steady(ctx context.Context, lab *cluster.Lab, node string) error {
	flows, err := lab.Exec(ctx, node, "ovs-ofctl", "-O", "OpenFlow15", "dump-flows", brInt)
	if err == nil && strings.Contains(flows, "tcp_flags=") {
		err = fmt.Errorf("the switch of %s was restarted less than a minute ago", node)
	}
	return err
}

// acrossRacks picks Pods in two racks.
func acrossRacks(t *testing.T, lab *cluster.Lab, pods []workload.Pod) (from, to workload.Pod) {
	t.Helper()
	for _, a := range pods {
		for _, b := range pods {
			ha, _ := lab.Topology.Host(a.Node)
			hb, _ := lab.Topology.Host(b.Node)
			if ha.Rack < hb.Rack {
				return a, b
			}
		}
	}
	t.Fatal("no Pods in two racks")
	return from, to
}

func killAgent(t *testing.T, lab *cluster.Lab, node string) {
	t.Helper()
	exec(t, lab, node, "pkill", "-KILL", "-x", "waymark-agent")
}

// rollAgents gives the agents another image, one node after the other.
func rollAgents(t *testing.T, lab *cluster.Lab, tag string) {
	t.Helper()
	name := image.Product + ":" + tag
	kubectl(t, lab, "-n", "kube-system", "set", "image", "daemonset/waymark-agent", "agent="+name, "install-cni="+name)
	kubectl(t, lab, "-n", "kube-system", "rollout", "status", "daemonset/waymark-agent", "--timeout=180s")
}

// restartUnderTraffic does something that ends every agent, while packets
// travel, and waits until all agents are back.
func restartUnderTraffic(t *testing.T, lab *cluster.Lab, from, to workload.Pod, restart func(t *testing.T)) {
	var watches []*routeWatch
	for _, tor := range lab.Topology.WithRole(topology.RoleToR) {
		watches = append(watches, watchRoutes(t, lab, tor.Name))
	}
	before := map[string]float64{}
	for _, node := range nodeNames(lab) {
		before[node] = agentStart(t, lab, node)
	}
	tr := startTraffic(t, lab, from, to)
	restart(t)
	for node, start := range before {
		eventually(t, 90*time.Second, func(ctx context.Context) error { return settled(ctx, lab, node, start) })
	}
	for _, tor := range lab.Topology.WithRole(topology.RoleToR) {
		eventually(t, 30*time.Second, func(ctx context.Context) error { return nothingStale(ctx, lab, tor.Name) })
	}
	tr.end(t, 0)
	for node := range before {
		m, err := agent.metrics(t.Context(), lab, node)
		if err != nil {
			t.Fatal(err)
		}
		mods := m.sum("waymark_openflow_flow_mods_total", "")
		routes := m.sum("waymark_kernel_route_changes_total", "")
		record(t,
			report.Check("no flow mod sent on "+node, mods == 0, fmt.Sprintf("%g", mods)),
			report.Check("no kernel route changed on "+node, routes == 0, fmt.Sprintf("%g", routes)))
	}
	nodes, err := workload.PodCIDRs(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range watches {
		w.catchUp(t)
		var lost []string
		for _, n := range nodes {
			for _, cidr := range n.PodCIDRs {
				for _, l := range w.gone(cidr) {
					lost = append(lost, l.text)
				}
			}
		}
		record(t, report.Check("no Pod CIDR withdrawn at "+w.router, len(lost) == 0, strings.Join(lost, "; ")))
	}
}

// nothingStale complains while a router keeps routes of a session that broke.
func nothingStale(ctx context.Context, lab *cluster.Lab, router string) error {
	for _, command := range []string{"show bgp ipv4 unicast", "show bgp ipv6 unicast"} {
		out, err := lab.Vtysh(ctx, router, command)
		if err != nil {
			return err
		}
		for l := range strings.Lines(out) {
			if strings.HasPrefix(l, "S") && !strings.HasPrefix(l, "Status") {
				return fmt.Errorf("%s has a stale route: %s", router, strings.TrimSpace(l))
			}
		}
	}
	return nil
}

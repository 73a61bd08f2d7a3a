// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// restart is one way to end a daemon on every node.
type restart struct {
	name   string
	daemon daemon
	run    func(t *testing.T)
}

// TestRestarts has routers watch nodes by BFD, which must outlive what is restarted.
func TestRestarts(t *testing.T) {
	lab := newLab(t, "restarts", func(d *cluster.Description) {
		d.Tags = []string{"latest", upgradeTag}
		d.Network.Routers.BFD = true
	})
	deploy(t, lab)
	checkRestarts(t, lab)
}

// checkRestarts ends agents and routing speakers in every way there is under
// traffic across racks.
func checkRestarts(t *testing.T, lab *cluster.Lab) {
	pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
	if err != nil {
		t.Fatal(err)
	}
	from, to := acrossRacks(t, lab, pods)
	for _, node := range nodeNames(lab) {
		eventually(t, 90*time.Second, func(ctx context.Context) error { return steady(ctx, lab, node) })
	}
	killed := func(program string) func(t *testing.T) {
		return func(t *testing.T) {
			for _, node := range nodeNames(lab) {
				exec(t, lab, node, "pkill", "-KILL", "-x", program)
			}
		}
	}
	deleted := func(name string) func(t *testing.T) {
		return func(t *testing.T) {
			kubectl(t, lab, "-n", "kube-system", "delete", "pods", "-l", "app.kubernetes.io/name="+name)
		}
	}
	for _, r := range []restart{
		{"agents killed", agent, killed("waymark-agent")},
		{"DaemonSet Pods deleted", agent, deleted("waymark-agent")},
		{"upgrade", agent, func(t *testing.T) { roll(t, lab, "waymark-agent", upgradeTag, "agent", "install-cni") }},
		{"speakers killed", speaker, killed("waymark-speaker")},
		{"speaker Pods deleted", speaker, deleted("waymark-speaker")},
		{"speaker upgrade", speaker, func(t *testing.T) { roll(t, lab, "waymark-speaker", upgradeTag, "speaker") }},
		{"downgrade", agent, func(t *testing.T) { roll(t, lab, "waymark-agent", "latest", "agent", "install-cni") }},
		{"speaker downgrade", speaker, func(t *testing.T) { roll(t, lab, "waymark-speaker", "latest", "speaker") }},
	} {
		check(t, r.name, func(t *testing.T) { restartUnderTraffic(t, lab, from, to, r) })
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

// roll gives containers of a DaemonSet another image, one node after the other.
func roll(t *testing.T, lab *cluster.Lab, name, tag string, containers ...string) {
	t.Helper()
	argv := []string{"-n", "kube-system", "set", "image", "daemonset/" + name}
	for _, c := range containers {
		argv = append(argv, c+"="+image.Product+":"+tag)
	}
	kubectl(t, lab, argv...)
	kubectl(t, lab, "-n", "kube-system", "rollout", "status", "daemonset/"+name, "--timeout=180s")
}

// changesOf are the changes of flows and kernel routes that the agent of a node
// has made since it started.
func changesOf(t *testing.T, lab *cluster.Lab, node string) (flows, routes float64) {
	t.Helper()
	m, err := agent.metrics(t.Context(), lab, node)
	if err != nil {
		t.Fatal(err)
	}
	return m.sum("waymark_openflow_flow_mods_total", ""), m.sum("waymark_kernel_route_changes_total", "")
}

// restartUnderTraffic ends a daemon on every node, while packets travel, and waits
// until all are back. Sessions with routers must stay when that is not the speaker.
func restartUnderTraffic(t *testing.T, lab *cluster.Lab, from, to workload.Pod, r restart) {
	var watches []*routeWatch
	sessions, paths := map[string]map[string]string{}, map[string]map[string]string{}
	for _, tor := range lab.Topology.WithRole(topology.RoleToR) {
		watches = append(watches, watchRoutes(t, lab, tor.Name))
		established, err := connections(t.Context(), lab, tor.Name)
		if err != nil {
			t.Fatal(err)
		}
		sessions[tor.Name] = established
		eventually(t, 30*time.Second, func(ctx context.Context) error {
			paths[tor.Name], err = bfdSessions(ctx, lab, tor.Name)
			return err
		})
	}
	before := map[string]float64{}
	flowsBefore, routesBefore := map[string]float64{}, map[string]float64{}
	for _, node := range nodeNames(lab) {
		m, err := r.daemon.metrics(t.Context(), lab, node)
		if err != nil {
			t.Fatal(err)
		}
		before[node] = m.started()
		if r.daemon != agent { // which begins to count anew
			flowsBefore[node], routesBefore[node] = changesOf(t, lab, node)
		}
	}
	tr := startTraffic(t, lab, from, to)
	r.run(t)
	for node, start := range before {
		eventually(t, 90*time.Second, func(ctx context.Context) error {
			if r.daemon == agent {
				return settled(ctx, lab, node, start)
			}
			return errors.Join(restarted(ctx, lab, r.daemon, node, start), settled(ctx, lab, node, 0))
		})
	}
	for _, tor := range lab.Topology.WithRole(topology.RoleToR) {
		eventually(t, 30*time.Second, func(ctx context.Context) error { return nothingStale(ctx, lab, tor.Name) })
		after, err := connections(t.Context(), lab, tor.Name)
		if err != nil {
			t.Fatal(err)
		}
		watched, err := bfdSessions(t.Context(), lab, tor.Name)
		record(t, report.Check("BFD stays up at "+tor.Name, err == nil && maps.Equal(watched, paths[tor.Name]),
			fmt.Sprintf("%v, before %v, error %v", watched, paths[tor.Name], err)))
		if r.daemon == agent {
			record(t, report.Check("sessions stay at "+tor.Name, maps.Equal(after, sessions[tor.Name]),
				fmt.Sprintf("%v, before %v", after, sessions[tor.Name])))
		}
	}
	tr.end(t, 0)
	for node := range before {
		flows, routes := changesOf(t, lab, node)
		flows, routes = flows-flowsBefore[node], routes-routesBefore[node]
		record(t,
			report.Check("no flow mod sent on "+node, flows == 0, fmt.Sprintf("%g", flows)),
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

// restarted complains until a daemon that started after a time is ready.
func restarted(ctx context.Context, lab *cluster.Lab, d daemon, node string, after float64) error {
	if _, err := d.get(ctx, lab, node, "/readyz"); err != nil {
		return err
	}
	m, err := d.metrics(ctx, lab, node)
	if err == nil && m.started() <= after {
		err = fmt.Errorf("the %s of %s is still the old one", d.name, node)
	}
	return err
}

// connections are the TCP connections of a router's established sessions, by
// neighbour, with their ports: a session that was made anew has others.
func connections(ctx context.Context, lab *cluster.Lab, router string) (map[string]string, error) {
	out, err := lab.Vtysh(ctx, router, "show bgp neighbors json")
	if err != nil {
		return nil, err
	}
	var neighbours map[string]struct {
		State       string `json:"bgpState"`
		PortLocal   int    `json:"portLocal"`
		PortForeign int    `json:"portForeign"`
		Established int    `json:"connectionsEstablished"`
	}
	if err := json.Unmarshal([]byte(out), &neighbours); err != nil {
		return nil, fmt.Errorf("neighbours of %s: %w", router, err)
	}
	found := map[string]string{}
	for name, n := range neighbours {
		if n.State == "Established" {
			found[name] = fmt.Sprintf("ports %d and %d, established %d times", n.PortLocal, n.PortForeign, n.Established)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no established session", router)
	}
	return found, nil
}

// bfdSessions are a router's BFD sessions, all of which must be up, by peer, with
// what changes when one goes down.
func bfdSessions(ctx context.Context, lab *cluster.Lab, router string) (map[string]string, error) {
	type session struct {
		Peer      string `json:"peer"`
		Interface string `json:"interface"`
		ID        uint32 `json:"id"`
		RemoteID  uint32 `json:"remote-id"`
		Status    string `json:"status"`
		Downs     int    `json:"session-down"`
	}
	read := func(command string) ([]session, error) {
		out, err := lab.Vtysh(ctx, router, command)
		if err != nil {
			return nil, err
		}
		var list []session
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", command, router, err)
		}
		return list, nil
	}
	sessions, err := read("show bfd peers json")
	if err != nil {
		return nil, err
	}
	counters, err := read("show bfd peers counters json")
	if err != nil {
		return nil, err
	}
	downs := map[string]int{}
	for _, c := range counters {
		downs[c.Peer+"%"+c.Interface] = c.Downs
	}
	found := map[string]string{}
	for _, s := range sessions {
		name := s.Peer + "%" + s.Interface
		if s.Status != "up" {
			return nil, fmt.Errorf("BFD of %s with %s is %s", router, name, s.Status)
		}
		found[name] = fmt.Sprintf("session %d with %d, down %d times", s.ID, s.RemoteID, downs[name])
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no BFD session", router)
	}
	return found, nil
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

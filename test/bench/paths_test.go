// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/bench/baseline"
	"github.com/waymark-net/waymark/test/bench/measure"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	probe "github.com/waymark-net/waymark/test/lab/probe/bench"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// place says how far apart two Pods are.
type place string

var places = []place{"same node", "same rack", "across racks"}

// metric is what is measured.
type metric string

const (
	metricTCP        metric = "TCP"
	metricCPU        metric = "CPU for TCP"
	metricUDP        metric = "UDP"
	metricRoundTrips metric = "TCP_RR"
)

var (
	metrics = []metric{metricTCP, metricCPU, metricUDP, metricRoundTrips}
	units   = map[metric]string{
		metricTCP: "Gbit/s", metricCPU: "CPU s/Gbit", metricUDP: "Gbit/s", metricRoundTrips: "1/s",
	}
)

// traffic is one kind of traffic with what it measures.
type traffic struct {
	name string
	run  func(ctx context.Context, p path, meter measure.CPU, duration time.Duration) (map[metric]float64, error)
}

var traffics = []traffic{{"TCP", runTCP}, {"UDP", runUDP}, {"round trips", runRoundTrips}}

type baselineFunc func(context.Context, *cluster.Lab) ([]baseline.Pod, error)

// end is a Pod, in which programs are run from its node: the runtime's limits
// for containers are not what is measured.
type end struct {
	lab        *cluster.Lab
	node, name string
	addr       netip.Addr
	enter      []string // the command that enters its network namespace
}

// path leads from one Pod to another.
type path struct{ from, to end }

// paths are those of a setup.
type paths struct {
	lab  *cluster.Lab
	ends map[place]path
}

// benchPort is where the servers of the benchmark listen, beside those that
// Pods may have.
const benchPort = 7350

// newPaths chooses three paths from Pod a of the first node, and starts the
// servers at their far ends.
func newPaths(t *testing.T, lab *cluster.Lab, all []end) paths {
	t.Helper()
	nodes := lab.Topology.WithRole(topology.RoleNode)
	find := func(node, name string) end {
		for _, e := range all {
			if e.node == node && e.name == name {
				return e
			}
		}
		t.Fatalf("lab %s has no Pod %s on %s", lab.Description.Name, name, node)
		return end{}
	}
	from := find(nodes[0].Name, "a")
	p := paths{lab: lab, ends: map[place]path{places[0]: {from, find(nodes[0].Name, "b")}}}
	for _, n := range nodes[1:] {
		where := places[1]
		if n.Rack != nodes[0].Rack {
			where = places[2]
		}
		p.ends[where] = path{from, find(n.Name, "a")}
	}
	if err := workload.InstallProbe(t.Context(), lab, nodeNames(nodes)...); err != nil {
		t.Fatal(err)
	}
	for _, way := range p.ends {
		if err := way.to.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.warmUp(t)
	return p
}

func nodeNames(nodes []topology.Host) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

// warmUp waits until all paths carry packets.
func (p paths) warmUp(t *testing.T) {
	t.Helper()
	const limit = 30 * time.Second
	for where, way := range p.ends {
		for start := time.Now(); ; {
			var report probe.RoundTripReport
			err := way.from.client(t.Context(), &report, "rr", "--duration=200ms", way.target())
			if err == nil {
				break
			}
			if time.Since(start) > limit {
				t.Fatalf("lab %s: %s: %v", p.lab.Description.Name, where, err)
			}
		}
	}
}

func (p path) target() string { return netip.AddrPortFrom(p.to.addr, benchPort).String() }

func (e end) serve(ctx context.Context) error {
	h, err := e.lab.Host(e.node)
	if err != nil {
		return err
	}
	return h.StartProcess(ctx, host.Process{
		Name: "bench-" + e.name, Log: "/var/log/lab/bench-" + e.name + ".log",
		Argv: append(append([]string{}, e.enter...), workload.ProbePath, "serve",
			"--bench="+strconv.Itoa(benchPort), "--echo=", "--http=", "--stream=", "--greet="),
	})
}

// client runs a client of the probe in the Pod and reads its report.
func (e end) client(ctx context.Context, report any, args ...string) error {
	h, err := e.lab.Host(e.node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := h.Output(ctx, nil, append(append(append([]string{}, e.enter...), workload.ProbePath), args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), report)
}

func runTCP(ctx context.Context, p path, meter measure.CPU, duration time.Duration) (map[metric]float64, error) {
	stop, err := meter.Start()
	if err != nil {
		return nil, err
	}
	var report probe.ThroughputReport
	if err := p.from.client(ctx, &report, "throughput", "--duration="+duration.String(), p.target()); err != nil {
		return nil, err
	}
	used, err := stop()
	if err != nil {
		return nil, err
	}
	return map[metric]float64{
		metricTCP: report.BitsPerSecond / 1e9,
		metricCPU: used.Seconds() / (float64(report.Bytes) * 8 / 1e9),
	}, nil
}

func runUDP(ctx context.Context, p path, _ measure.CPU, duration time.Duration) (map[metric]float64, error) {
	var report probe.ThroughputReport
	err := p.from.client(ctx, &report, "throughput", "--udp", "--duration="+duration.String(), p.target())
	return map[metric]float64{metricUDP: report.BitsPerSecond / 1e9}, err
}

func runRoundTrips(ctx context.Context, p path, _ measure.CPU, duration time.Duration) (map[metric]float64, error) {
	var report probe.RoundTripReport
	err := p.from.client(ctx, &report, "rr", "--duration="+duration.String(), p.target())
	return map[metric]float64{metricRoundTrips: report.PerSecond}, err
}

// enterPod finds the process that serves in the Pod with the address, and
// returns the command that enters its network namespace from the node.
func enterPod(ctx context.Context, lab *cluster.Lab, node string, addr netip.Addr) ([]string, error) {
	out, err := lab.Exec(ctx, node, "sh", "-euc", `
		for pid in $(pgrep -x probe); do
			if nsenter --net --target "$pid" ip -o address show to "$1" | grep -q .; then echo "$pid"; exit; fi
		done`, "sh", addr.String())
	if err != nil {
		return nil, err
	}
	pid := strings.TrimSpace(out)
	if pid == "" {
		return nil, fmt.Errorf("node %s has no process in the Pod with address %s", node, addr)
	}
	return []string{"nsenter", "--net", "--target", pid}, nil
}

// cpuMeter counts the switches of the labs' nodes and the ends of the traffic.
func cpuMeter(t *testing.T, labs ...*cluster.Lab) measure.CPU {
	t.Helper()
	var nodes []os.FileInfo
	for _, lab := range labs {
		for _, n := range lab.Topology.WithRole(topology.RoleNode) {
			ns, err := os.Stat(filepath.Join("/run/netns", host.NetNS(lab.Description.Name, n.Name)))
			if err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, ns)
		}
	}
	onNode := func(pid int) bool {
		ns, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "ns/net"))
		return err == nil && slices.ContainsFunc(nodes, func(n os.FileInfo) bool { return os.SameFile(n, ns) })
	}
	return measure.CPU{Proc: "/proc", Counts: func(p measure.Process) bool {
		return p.Name == "probe" || p.Name == "ovs-vswitchd" && onNode(p.PID) ||
			p.Args[0] == host.InitName // the parents of the clients
	}}
}

// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-net/waymark/test/bench/measure"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// Names of what serves Services, and of their programs.
const (
	waymark       = "Waymark"
	kubeProxy     = "kube-proxy"
	agentProgram  = "waymark-agent"
	switchProgram = "ovs-vswitchd"
)

// serviceProxy is what serves Services.
type serviceProxy struct {
	name, program string
	// settings of the product while it serves.
	settings map[string]string
	// empty takes away what the client's node has of Services and starts the
	// program again.
	empty func(*serviceBench) error
}

var serviceProxies = []serviceProxy{
	{name: waymark, program: agentProgram, empty: (*serviceBench).emptySwitch},
	{name: kubeProxy, program: kubeProxy, settings: map[string]string{"services.mode": "Disabled"}, empty: (*serviceBench).emptyKernel},
}

// enter has Services served by one of both, on all nodes.
func (b *serviceBench) enter(proxy serviceProxy) {
	b.t.Helper()
	ctx := b.t.Context()
	if proxy.name != kubeProxy {
		b.onNodes(b.stopKubeProxy)
	}
	b.must(workload.SwitchMode(ctx, b.paths.lab, "noEncap", proxy.settings))
	if proxy.name == kubeProxy {
		b.onNodes(b.startKubeProxy)
	}
	b.sweep(b.sample())()
}

func (b *serviceBench) onNodes(do func(node string) error) {
	b.t.Helper()
	for _, n := range b.paths.lab.Topology.WithRole(topology.RoleNode) {
		if err := do(n.Name); err != nil {
			b.t.Fatalf("%s: %v", n.Name, err)
		}
	}
}

func (b *serviceBench) startKubeProxy(node string) error {
	return b.paths.lab.StartKubeProxy(b.t.Context(), node)
}

func (b *serviceBench) stopKubeProxy(node string) error {
	return b.paths.lab.StopKubeProxy(b.t.Context(), node)
}

// emptyKernel restarts kube-proxy without its rules.
func (b *serviceBench) emptyKernel() error {
	if err := b.stopKubeProxy(b.from.node); err != nil {
		return err
	}
	return b.startKubeProxy(b.from.node)
}

// emptySwitch kills the agent, which the kubelet starts again, and takes away all
// flows of the switch, those of Pods too.
func (b *serviceBench) emptySwitch() error {
	_, err := b.paths.lab.Exec(b.t.Context(), b.from.node, "sh", "-euc", `
		agent=$(pgrep -o -x `+agentProgram+`)
		kill -STOP "$agent"
		for what in flows groups; do ovs-ofctl -O OpenFlow15 "del-$what" unix:/run/openvswitch/br-int.mgmt; done
		kill -KILL "$agent"`)
	return err
}

// started waits until a program of the client's node runs that was started after
// a moment, and returns when it was.
func (b *serviceBench) started(program string, after time.Time) time.Time {
	b.t.Helper()
	var at time.Time
	b.must(cluster.Until(b.t.Context(), sweepLimit, func(context.Context) error {
		p, err := b.processStatus(program)
		if err == nil && p.started.Before(after.Add(-time.Second)) {
			err = fmt.Errorf("%s has run since %s", program, p.started)
		}
		at = p.started
		return err
	}))
	return at
}

// processUse is what a process has used, and since when.
type processUse struct {
	cpu      time.Duration
	resident float64 // MB
	started  time.Time
}

func (b *serviceBench) process(program string) processUse {
	b.t.Helper()
	p, err := b.processStatus(program)
	b.must(err)
	return p
}

func (b *serviceBench) processStatus(program string) (processUse, error) {
	out, err := b.paths.lab.Exec(b.t.Context(), b.from.node, "sh", "-euc",
		`cd "/proc/$(pgrep -o -x "$1")"; cat stat; cat /proc/uptime; grep VmRSS: status`, "sh", program)
	if err != nil {
		return processUse{}, err
	}
	now := time.Now()
	lines := strings.SplitN(out, "\n", 3)
	if len(lines) != 3 {
		return processUse{}, fmt.Errorf("%s: status %q", program, out)
	}
	cpu, started, err := measure.ProcessStat(lines[0])
	if err != nil {
		return processUse{}, err
	}
	var uptime, kib float64
	if _, err := fmt.Sscan(lines[1], &uptime); err != nil {
		return processUse{}, fmt.Errorf("uptime %q: %w", lines[1], err)
	}
	if _, err := fmt.Sscanf(lines[2], "VmRSS: %f kB", &kib); err != nil {
		return processUse{}, fmt.Errorf("%s: memory %q: %w", program, lines[2], err)
	}
	ago := time.Duration(uptime*float64(time.Second)) - started
	return processUse{cpu: cpu, resident: kib * 1024 / 1e6, started: now.Add(-ago)}, nil
}

// sleep waits, unless the test ends before.
func (b *serviceBench) sleep(d time.Duration) {
	select {
	case <-b.t.Context().Done():
	case <-time.After(d):
	}
}

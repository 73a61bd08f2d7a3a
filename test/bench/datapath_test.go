// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"fmt"
	"testing"

	"github.com/waymark-net/waymark/test/bench/baseline"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// Setups that are compared.
const (
	setupLimit  = "limit"
	setupBridge = "bridge"
)

// modes of the product, in which it is measured in turn.
var modes = []string{"noEncap", "encap"}

// series is one thing that is measured: a metric of a path in a setup, and for
// the limit the mode of the product that it was measured beside.
type series struct {
	setup, beside string
	place         place
	metric        metric
}

// TestDatapath measures Pod to Pod traffic of the product beside the limit of
// the same Open vSwitch, and of a Linux bridge for orientation.
func TestDatapath(t *testing.T) {
	r := begin(t, "datapath")
	product := productPaths(t)
	limit := baselinePaths(t, setupLimit, baseline.OpenVSwitch)
	bridge := baselinePaths(t, setupBridge, baseline.LinuxBridge)
	meter := cpuMeter(t, product.lab, limit.lab)

	got := samples[series]{}
	take := func(setup, beside string, p paths, where place, test traffic) {
		values, err := test.run(t.Context(), p.ends[where], meter, *duration)
		if err != nil {
			// On a machine that is overloaded even a handshake can take too long.
			t.Logf("%s %s %s, once more after: %v", setup, where, test.name, err)
			p.warmUp(t)
			values, err = test.run(t.Context(), p.ends[where], meter, *duration)
		}
		if err != nil {
			t.Fatalf("%s %s %s: %v", setup, where, test.name, err)
		}
		for name, value := range values {
			got.add(series{setup, beside, where, name}, value)
		}
	}
	for round := range *rounds {
		for _, mode := range modes {
			if err := workload.SwitchMode(t.Context(), product.lab, mode, nil); err != nil {
				t.Fatal(err)
			}
			for _, p := range []paths{product, limit, bridge} {
				p.warmUp(t)
			}
			for _, where := range places {
				for _, test := range traffics {
					// What is compared is measured one after the other, in turns.
					pair := []func(){
						func() { take(mode, "", product, where, test) },
						func() { take(setupLimit, mode, limit, where, test) },
					}
					pair[round%2]()
					pair[1-round%2]()
					if mode == modes[0] {
						take(setupBridge, "", bridge, where, test)
					}
				}
			}
			t.Logf("round %d of %d: %s is done", round+1, *rounds, mode)
		}
	}
	for _, setup := range append(modes, setupBridge) {
		beside := setup
		if setup == setupBridge {
			beside = modes[0]
		}
		for _, where := range places {
			for _, m := range metrics {
				r.Add(report.Measure(fmt.Sprintf("%s %s %s", setup, where, m), got.median(series{setup, "", where, m}), units[m]).
					Beside(got.median(series{setupLimit, beside, where, m})))
			}
		}
	}
	write(t, r)
}

// baselinePaths starts a lab without Kubernetes and makes a baseline of it.
func baselinePaths(t *testing.T, name string, make baselineFunc) paths {
	t.Helper()
	lab := newLab(t, name, func(d *cluster.Description) {
		d.Bare = true
		d.Network.Families = topology.IPv4
	})
	pods, err := make(t.Context(), lab)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var ends []end
	for _, pod := range pods {
		ends = append(ends, end{
			lab: lab, node: pod.Node, name: pod.NetNS, addr: pod.Addr,
			enter: []string{"ip", "netns", "exec", pod.NetNS},
		})
	}
	return newPaths(t, lab, ends)
}

// productPaths starts a lab with the product and two Pods on each node.
func productPaths(t *testing.T) paths {
	t.Helper()
	lab := productLab(t, "datapath")
	if err := workload.Deploy(t.Context(), lab); err != nil {
		t.Fatal(err)
	}
	var ends []end
	for _, set := range []string{"a", "b"} {
		pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-"+set)
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods {
			e := end{lab: lab, node: pod.Node, name: set}
			for _, a := range pod.Addresses {
				if a.Is4() {
					e.addr = a
				}
			}
			if e.enter, err = enterPod(t.Context(), lab, pod.Node, e.addr); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, e)
		}
	}
	return newPaths(t, lab, ends)
}

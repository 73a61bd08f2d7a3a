// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// variant is a traffic mode with settings.
type variant struct {
	name, mode string
	settings   map[string]string
}

// TestDualStack runs everything that takes the default lab, which starts in
// noEncap; every case leaves it in noEncap with its nodes and Pods.
func TestDualStack(t *testing.T) {
	lab := newLab(t, "dual", nil)
	deploy(t, lab)
	check(t, "noEncap", func(t *testing.T) {
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
	})
	for _, v := range []struct {
		variant
		overhead int // of the tunnel, in bytes
	}{
		{variant{"encap Geneve", "encap", nil}, overIPv4},
		{variant{"encap VXLAN", "encap", map[string]string{"tunnel.type": "vxlan"}}, overIPv4},
		{variant{"encap Geneve over IPv6", "encap", map[string]string{"tunnel.underlay": "ipv6"}}, overIPv6},
		{variant{"hybrid", "hybrid", nil}, overIPv4},
	} {
		check(t, v.name, func(t *testing.T) {
			switchMode(t, lab, v.variant)
			checkMatrix(t, lab, v.mode)
			checkMTU(t, lab, lab.Topology.Spec.MTU-v.overhead)
			check(t, "services", func(t *testing.T) { checkServiceUses(t, lab) })
			if v.mode == "encap" {
				trafficInEncap(t, lab)
			}
			if v.name == "encap Geneve" {
				check(t, "policies", func(t *testing.T) { checkPolicies(t, lab) })
			}
		})
	}
	check(t, "back to noEncap", func(t *testing.T) {
		switchMode(t, lab, variant{"noEncap", "noEncap", nil})
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
	})
	check(t, "auto", func(t *testing.T) { checkAuto(t, lab) })
	check(t, "back from auto", func(t *testing.T) {
		switchMode(t, lab, variant{"noEncap", "noEncap", nil})
		checkMatrix(t, lab, "noEncap")
	})
	check(t, "switches", func(t *testing.T) { checkSwitches(t, lab, 6) })
	trafficInNoEncap(t, lab)
	check(t, "policies", func(t *testing.T) { checkPolicies(t, lab) })
	check(t, "denied connections", func(t *testing.T) { checkCut(t, lab) })
	check(t, "never open", func(t *testing.T) { checkNeverOpen(t, lab) })
	check(t, "controllers", func(t *testing.T) { checkControllers(t, lab) })
	check(t, "wrong input", func(t *testing.T) { checkWrongInput(t, lab) })
	check(t, "services", func(t *testing.T) { checkServices(t, lab) })
	check(t, "connections through Services", func(t *testing.T) { checkConnections(t, lab) })
	check(t, "rollover", func(t *testing.T) { checkRollover(t, lab, 3) })
	check(t, "serviceagents", func(t *testing.T) { checkServiceAgents(t, lab) })
	check(t, "repair", func(t *testing.T) { checkRepair(t, lab) })
	check(t, "switches replaced", func(t *testing.T) {
		pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
		if err != nil {
			t.Fatal(err)
		}
		from, to := acrossRacks(t, lab, pods)
		tr := startTraffic(t, lab, from, to)
		replaceSwitches(t, lab)
		checkQuickMatrix(t, lab, regained)
		tr.end(t, switchGap)
	})
	check(t, "drift", func(t *testing.T) { checkDrift(t, lab, 30*time.Second) })
	check(t, "announce", func(t *testing.T) { checkAnnounce(t, lab) })
	check(t, "drain", func(t *testing.T) { checkDrain(t, lab) })
	check(t, "churn", func(t *testing.T) { checkChurn(t, lab, 10) })
	check(t, "nodes", func(t *testing.T) { checkNodes(t, lab) })
}

// TestIPv4Only is also the lab with jumbo frames and room for few Pods.
func TestIPv4Only(t *testing.T) {
	const room = 13 // in a network of 16, for Pods
	lab := newLab(t, "ipv4", func(d *cluster.Description) {
		d.Network.Families, d.Network.MTU, d.Network.Networks.NodeMaskIPv4 = topology.IPv4, 9000, 28
	})
	oneFamily(t, lab, overIPv4)
	check(t, "Pod CIDR exhausted", func(t *testing.T) { checkExhausted(t, lab, room) })
}

// TestIPv6Only is also the lab with an odd MTU.
func TestIPv6Only(t *testing.T) {
	lab := newLab(t, "ipv6", func(d *cluster.Description) {
		d.Network.Families, d.Network.MTU = topology.IPv6, 1442
	})
	oneFamily(t, lab, overIPv6)
}

// Bytes that a tunnel takes from the MTU of its underlay.
const (
	overIPv4 = 50
	overIPv6 = 70
)

func oneFamily(t *testing.T, lab *cluster.Lab, overhead int) {
	deploy(t, lab)
	check(t, "noEncap", func(t *testing.T) {
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
		checkMTU(t, lab, lab.Topology.Spec.MTU)
		check(t, "services", func(t *testing.T) { checkServiceUses(t, lab) })
	})
	check(t, "encap", func(t *testing.T) {
		switchMode(t, lab, variant{"encap", "encap", nil})
		checkMatrix(t, lab, "encap")
		checkMTU(t, lab, lab.Topology.Spec.MTU-overhead)
		check(t, "services", func(t *testing.T) { checkServiceUses(t, lab) })
	})
}

func deploy(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	if err := workload.Deploy(t.Context(), lab); err != nil {
		t.Fatal(err)
	}
}

// switchMode changes the mode of the lab and waits until all is well in it.
func switchMode(t *testing.T, lab *cluster.Lab, v variant) {
	t.Helper()
	if err := workload.SwitchMode(t.Context(), lab, v.mode, v.settings); err != nil {
		t.Fatal(err)
	}
}

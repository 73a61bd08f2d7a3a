// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

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
	for _, v := range []variant{
		{"encap Geneve", "encap", nil},
		{"encap VXLAN", "encap", map[string]string{"tunnel.type": "vxlan"}},
		{"encap Geneve over IPv6", "encap", map[string]string{"tunnel.underlay": "ipv6"}},
		{"hybrid", "hybrid", nil},
	} {
		check(t, v.name, func(t *testing.T) {
			switchMode(t, lab, v)
			checkMatrix(t, lab, v.mode)
		})
	}
	check(t, "back to noEncap", func(t *testing.T) {
		switchMode(t, lab, variant{"noEncap", "noEncap", nil})
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
	})
}

// TestIPv4Only is also the lab with jumbo frames.
func TestIPv4Only(t *testing.T) { oneFamily(t, "ipv4", topology.IPv4, 9000) }

// TestIPv6Only is also the lab with an odd MTU.
func TestIPv6Only(t *testing.T) { oneFamily(t, "ipv6", topology.IPv6, 1442) }

func oneFamily(t *testing.T, name string, families topology.Families, mtu int) {
	lab := newLab(t, name, func(d *cluster.Description) {
		d.Network.Families = families
		d.Network.MTU = mtu
	})
	deploy(t, lab)
	check(t, "noEncap", func(t *testing.T) {
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
	})
	check(t, "encap", func(t *testing.T) {
		switchMode(t, lab, variant{"encap", "encap", nil})
		checkMatrix(t, lab, "encap")
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

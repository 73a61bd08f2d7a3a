// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/lab/topology"
)

func TestRoutes(t *testing.T) {
	spec := topology.DefaultSpec()
	topo, err := topology.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, node := range topo.WithRole(topology.RoleNode) {
		n, err := layOut(topo, node, i)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(n.environment()))
		for _, r := range routesTo(topo, node, n) {
			got = append(got, fmt.Sprintf("%s: %s via %s", r.host, r.prefix, r.via))
		}
	}
	want := []string{
		"[GATEWAY=10.10.1.1/24 VIA=10.10.1.1 POD_A=10.10.1.2/24 POD_B=10.10.1.3/24 NODE=172.30.1.11/24 ROUTER=172.30.1.1]",
		"torA: 10.10.1.0/24 via 172.30.1.11",
		"torB: 10.10.1.0/24 via 172.31.0.4",
		"n2: 10.10.1.0/24 via 172.30.1.11",
		"spine: 10.10.1.0/24 via 172.31.0.3",
		"[GATEWAY=10.10.2.1/24 VIA=10.10.2.1 POD_A=10.10.2.2/24 POD_B=10.10.2.3/24 NODE=172.30.1.12/24 ROUTER=172.30.1.1]",
		"torA: 10.10.2.0/24 via 172.30.1.12",
		"torB: 10.10.2.0/24 via 172.31.0.4",
		"n1: 10.10.2.0/24 via 172.30.1.12",
		"spine: 10.10.2.0/24 via 172.31.0.3",
		"[GATEWAY=10.10.3.1/24 VIA=10.10.3.1 POD_A=10.10.3.2/24 POD_B=10.10.3.3/24 NODE=172.30.2.13/24 ROUTER=172.30.2.1]",
		"torA: 10.10.3.0/24 via 172.31.0.2",
		"torB: 10.10.3.0/24 via 172.30.2.13",
		"spine: 10.10.3.0/24 via 172.31.0.5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLayOutWithoutIPv4(t *testing.T) {
	spec := topology.DefaultSpec()
	spec.Families = topology.IPv6
	topo, err := topology.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layOut(topo, topo.WithRole(topology.RoleNode)[0], 0); err == nil {
		t.Error("no error")
	}
}

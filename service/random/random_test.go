// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
)

func nothing() naive.Cluster {
	return naive.Cluster{
		Services: map[service.Key]service.Service{}, Node: service.Node{Name: Node},
		Alias: func(netip.Addr) netip.Addr { return netip.Addr{} },
	}
}

func lines(steps []Step) []string {
	var out []string
	for i, step := range steps {
		for _, change := range step {
			out = append(out, fmt.Sprintf("%d %s", i, change))
		}
	}
	return out
}

// What a test prints as its seed has to bring the same things again.
func TestSeed(t *testing.T) {
	first, again, other := New(1, nothing()).Steps(20), New(1, nothing()).Steps(20), New(2, nothing()).Steps(20)
	if d := cmp.Diff(lines(first), lines(again)); d != "" {
		t.Errorf("the same seed (-first +again):\n%s", d)
	}
	if slices.Equal(lines(first), lines(other)) {
		t.Error("two seeds make the same")
	}
}

func TestShrink(t *testing.T) {
	// What fails: a Service that comes to have an endpoint that terminates, after
	// the node was named.
	fails := func(steps []Step) bool {
		named := false
		for _, change := range slices.Concat(steps...) {
			named = named || change.Node != nil
			if change.Set == nil || !named {
				continue
			}
			for _, p := range change.Set.Ports {
				if slices.ContainsFunc(p.Endpoints, func(e service.Endpoint) bool { return e.Terminating }) {
					return true
				}
			}
		}
		return false
	}
	steps := New(1, nothing()).Steps(30)
	if !fails(steps) {
		t.Fatal("the steps do not fail")
	}
	steps = Shrink(steps, fails)
	all := slices.Concat(steps...)
	if !fails(steps) || len(all) != 2 {
		t.Fatalf("shrunk to %d changes:\n%s", len(all), lines(steps))
	}
	s := all[1].Set
	if len(s.Ports) != 1 || len(s.Ports[0].Endpoints) != 1 || len(s.ClusterIPs) != 1 || len(s.ExternalIPs)+len(s.LoadBalancerIPs) > 0 {
		t.Errorf("the Service is not small: %s", all[1])
	}
}

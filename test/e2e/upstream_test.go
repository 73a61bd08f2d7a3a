// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/upstream/specs"
	upstreamsuite "github.com/waymark-net/waymark/test/upstream/suite"
)

// upstream are the specs of upstream suites that tell most for their time:
// `make e2e-upstream` runs all.
var upstream = []struct {
	suite, focus string
	specs        int
}{
	{
		"netpol",
		"should work with Ingress, Egress specified together|" +
			"should allow ingress access from namespace on one named port|" +
			"should enforce except clause while egress access to server in CIDR block",
		3,
	},
	{"cnp", "CNPAdminTierPriorityField|CNPAdminTierEgressNodePeers|CNPBaselineTierIngressNamedPort", 7},
	{
		"services",
		"should serve multiport endpoints from pods|" +
			"should be able to create a functioning NodePort service|" +
			"should have session affinity work for service with type clusterIP|" +
			"should fallback to terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster|" +
			`Secondary IP Family \[LinuxOnly\] should function for pod-Service: http|` +
			"should provide DNS for services",
		6,
	},
}

func TestUpstream(t *testing.T) {
	source, err := cluster.Source()
	if err != nil {
		t.Fatal(err)
	}
	suites := map[string]*upstreamsuite.Suite{}
	for _, u := range upstream {
		prepared, err := upstreamsuite.Prepare(t.Context(), u.suite, source, func(step string) { t.Log(step) })
		if err != nil {
			t.Fatal(err)
		}
		suites[u.suite] = prepared
	}
	lab := newLab(t, "upstream", func(d *cluster.Description) {
		for _, prepared := range suites {
			prepared.Describe(d)
		}
	})
	for _, u := range upstream {
		t.Run(u.suite, func(t *testing.T) {
			dir := filepath.Join(source, "out/e2e/upstream", u.suite)
			found, err := suites[u.suite].Run(t.Context(), lab, upstreamsuite.Run{Focus: u.focus, Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if err := specs.Write(dir, found); err != nil {
				t.Error(err)
			}
			record(t, specs.Rows(found)...)
			if len(found) != u.specs {
				t.Errorf("%d specs ran, want %d", len(found), u.specs)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"regexp"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/upstream/specs"
)

// netpolNames matches the specs about NetworkPolicy.
var netpolNames = regexp.MustCompile(`\[sig-network\] Netpol `)

// sctpNames matches the specs that need Pods which speak SCTP.
var sctpNames = regexp.MustCompile(`\[Feature:SCTPConnectivity\]`)

// runNetpol runs the specs about NetworkPolicy of the end-to-end suite.
func (s *Suite) runNetpol(ctx context.Context, lab *cluster.Lab, r Run) ([]specs.Spec, error) {
	return s.runGinkgo(ctx, lab, r, selection{names: netpolNames, leftOut: s.withoutSCTP(), passes: []string{""}})
}

// withoutSCTP leaves out the specs that need SCTP on a kernel that has none.
func (s *Suite) withoutSCTP() []exclusion {
	if s.sctp {
		return nil
	}
	return []exclusion{{sctpNames, noSCTP}}
}

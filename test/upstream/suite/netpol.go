// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/upstream/specs"
)

// netpolSpecs begins the names of the specs about NetworkPolicy.
const netpolSpecs = "[sig-network] Netpol"

// netpolSCTP matches the specs that need Pods which speak SCTP.
var netpolSCTP = regexp.MustCompile(`\[Feature:SCTPConnectivity\]`)

// ginkgoProgress matches the lines of Ginkgo's output that begin and end specs.
var ginkgoProgress = regexp.MustCompile(`^(` + regexp.QuoteMeta(netpolSpecs) + `|• )`)

// runNetpol runs the specs about NetworkPolicy of the end-to-end suite.
func (s *Suite) runNetpol(ctx context.Context, lab *cluster.Lab, r Run) ([]specs.Spec, error) {
	report := filepath.Join(r.Dir, "ginkgo.json")
	if err := os.Remove(report); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	log, err := os.Create(filepath.Join(r.Dir, "suite.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	out := io.Writer(log)
	if r.Progress != nil {
		lines := &lineWriter{pass: ginkgoProgress, out: r.Progress}
		out = io.MultiWriter(log, lines)
	}
	args := []string{
		"--kubeconfig=" + lab.KubeConfig(),
		"--provider=skeleton",
		"--ginkgo.v", "--ginkgo.no-color", "--ginkgo.timeout=4h",
		"--ginkgo.json-report=" + report,
		// Expressions are not joined by "and", so that there is one of each.
		"--ginkgo.focus=" + regexp.QuoteMeta(netpolSpecs) + ".*(" + r.Focus + ")",
	}
	if !s.sctp {
		args = append(args, "--ginkgo.skip="+netpolSCTP.String())
	}
	if r.Skip != "" {
		args = append(args, "--ginkgo.skip="+r.Skip)
	}
	if err := s.execute(ctx, lab, out, args...); err != nil {
		return nil, fmt.Errorf("%w (log %s)", err, log.Name())
	}
	file, err := os.Open(report)
	if err != nil {
		return nil, fmt.Errorf("no report: %w (log %s)", err, log.Name())
	}
	defer file.Close()
	found, err := specs.ParseGinkgo(file, netpolSpecs)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", report, err)
	}
	return s.selected(found, regexp.MustCompile(r.Focus)), nil
}

// selected leaves away what was not asked for, says why the others that did not
// run were left out, and sorts by name.
func (s *Suite) selected(found []specs.Spec, focus *regexp.Regexp) []specs.Spec {
	var out []specs.Spec
	for _, spec := range found {
		// One that was not selected has no reason; one that skips itself has.
		if spec.State == specs.LeftOut && spec.Why == "" {
			if s.sctp || !netpolSCTP.MatchString(spec.Name) || !focus.MatchString(spec.Name) {
				continue
			}
			spec.Why = noSCTP
		}
		out = append(out, spec)
	}
	// They ran in another order each time.
	slices.SortFunc(out, func(a, b specs.Spec) int { return strings.Compare(a.Name, b.Name) })
	return out
}

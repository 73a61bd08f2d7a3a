// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/upstream/programs"
	"github.com/waymark-net/waymark/test/upstream/specs"
)

// cnpTest is the test that all others are part of. The program has a second one
// that would run all of them again.
const cnpTest = "TestConformance"

// cnpSCTP are the tests about SCTP alone: a Go test does not say what it left out.
var cnpSCTP = []string{
	"CNPAdminTierEgressSCTP", "CNPAdminTierIngressSCTP", "CNPBaselineTierEgressSCTP", "CNPBaselineTierIngressSCTP",
}

// goTestProgress matches the lines that end tests.
var goTestProgress = regexp.MustCompile(`^\x16?\s*--- (PASS|FAIL|SKIP)`)

// runCNP runs the conformance suite of network-policy-api.
func (s *Suite) runCNP(ctx context.Context, lab *cluster.Lab, r Run) ([]specs.Spec, error) {
	if err := s.installCRD(ctx, lab); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(r.Dir, "suite.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	out := io.Writer(log)
	if r.Progress != nil {
		out = io.MultiWriter(log, &lineWriter{pass: goTestProgress, out: r.Progress})
	}
	args := []string{s.programs.Suite, "-test.v=test2json", "-test.timeout=4h", "-all-features", "-test.run=" + below(r.Focus)}
	var skip []string
	if !s.sctp {
		skip = append(skip, below("SCTP$"))
	}
	if r.Skip != "" {
		skip = append(skip, below(r.Skip))
	}
	if len(skip) > 0 {
		args = append(args, "-test.skip="+strings.Join(skip, "|"))
	}
	if err := s.execute(ctx, lab, out, args...); err != nil {
		return nil, fmt.Errorf("%w (log %s)", err, log.Name())
	}
	found, err := readGoTest(ctx, log.Name())
	if err != nil {
		return nil, err
	}
	for i, spec := range found {
		if spec.State == specs.Passed && strings.Contains(spec.Log, programs.LeftOut) {
			found[i].Why = "its connections over SCTP were not tried: " + noSCTP
		}
	}
	return append(found, s.cnpLeftOut(r)...), nil
}

// below is a pattern of go test for the parts of the suite that match an
// expression, of which each slash begins that of the next level.
func below(expression string) string {
	pattern := "^" + cnpTest + "$"
	if expression != "" {
		for part := range strings.SplitSeq(expression, "/") {
			pattern += "/(" + part + ")"
		}
	}
	return pattern
}

// cnpLeftOut are the tests that were not run for want of SCTP.
func (s *Suite) cnpLeftOut(r Run) []specs.Spec {
	if s.sctp {
		return nil
	}
	var out []specs.Spec
	focus, _, _ := strings.Cut(r.Focus, "/")
	for _, name := range cnpSCTP {
		if regexp.MustCompile(focus).MatchString(name) {
			out = append(out, specs.Spec{Name: name, State: specs.LeftOut, Why: noSCTP})
		}
	}
	return out
}

// installCRD makes the API that is tested, unless the product's manifest has
// made it.
func (s *Suite) installCRD(ctx context.Context, lab *cluster.Lab) error {
	if _, err := lab.Kubectl(ctx, "get", "crd", "clusternetworkpolicies.policy.networking.k8s.io"); err == nil {
		return nil
	}
	crd, err := os.ReadFile(s.programs.CRD)
	if err != nil {
		return err
	}
	if err := lab.ApplyObjects(ctx, string(crd)); err != nil {
		return err
	}
	_, err = lab.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s",
		"crd/clusternetworkpolicies.policy.networking.k8s.io")
	return err
}

// readGoTest reads the output of a Go test that ran with -test.v=test2json.
func readGoTest(ctx context.Context, path string) ([]specs.Spec, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// With times: without them it leaves out how long a test took.
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("convert %s: %w: %s", path, err, &stderr), ctx.Err())
	}
	found, err := specs.ParseGoTest(&stdout, cnpTest)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return found, nil
}

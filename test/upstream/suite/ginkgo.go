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
	"strconv"
	"strings"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/upstream/specs"
)

// sigNetwork begins the names of all specs that we run.
const sigNetwork = "[sig-network] "

// ginkgoProgress matches the lines of Ginkgo's output that begin and end specs.
var ginkgoProgress = regexp.MustCompile(`^(` + regexp.QuoteMeta(sigNetwork) + `|• )`)

// exclusion says which specs are left out, and why.
type exclusion struct {
	names *regexp.Regexp
	why   string
}

// selection are the specs of the end-to-end suite of Kubernetes that make up a
// suite of ours.
type selection struct {
	names   *regexp.Regexp // of all specs, those that are left out too
	leftOut []exclusion    // the first that matches counts
	// passes are label filters of Ginkgo: the specs of the first run first.
	passes []string
}

// runGinkgo runs specs of the end-to-end suite of Kubernetes.
func (s *Suite) runGinkgo(ctx context.Context, lab *cluster.Lab, r Run, sel selection) ([]specs.Spec, error) {
	log, err := os.Create(filepath.Join(r.Dir, "suite.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	out := io.Writer(log)
	if r.Progress != nil {
		out = io.MultiWriter(log, &lineWriter{pass: ginkgoProgress, out: r.Progress})
	}
	var found []specs.Spec
	for n, labels := range sel.passes {
		report := fmt.Sprintf("ginkgo-%d.json", n+1)
		if err := os.Remove(filepath.Join(r.Dir, report)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := s.execute(ctx, lab, out, s.ginkgoArgs(clusterFlags(lab), r, sel, labels, report)...); err != nil {
			return nil, fmt.Errorf("%w (log %s)", err, log.Name())
		}
		of, err := readGinkgo(filepath.Join(r.Dir, report))
		if err != nil {
			return nil, fmt.Errorf("%w (log %s)", err, log.Name())
		}
		found = append(found, sel.chosen(of, regexp.MustCompile(r.Focus))...)
	}
	return unique(found), nil
}

// clusterFlags tell the suite of the cluster.
func clusterFlags(lab *cluster.Lab) []string {
	nodes := lab.Topology.WithRole(topology.RoleNode)
	return []string{"--kubeconfig=" + lab.KubeConfig(), "--provider=skeleton", "--num-nodes=" + strconv.Itoa(len(nodes))}
}

func readGinkgo(path string) ([]specs.Spec, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("no report: %w", err)
	}
	defer file.Close()
	found, err := specs.ParseGinkgo(file, sigNetwork)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return found, nil
}

// ginkgoArgs is the command of one pass: the suite itself, or Ginkgo when
// several specs run at once.
func (s *Suite) ginkgoArgs(own []string, r Run, sel selection, labels, report string) []string {
	flags := [][2]string{
		{"v", "true"}, {"no-color", "true"}, {"timeout", "4h"},
		// Expressions are not joined by "and", so that there is one to choose by.
		{"focus", sel.names.String() + ".*(" + r.Focus + ")"},
		{"label-filter", labels},
	}
	for _, e := range sel.leftOut {
		flags = append(flags, [2]string{"skip", e.names.String()})
	}
	if r.Skip != "" {
		flags = append(flags, [2]string{"skip", r.Skip})
	}
	var args []string
	add := func(prefix string) {
		for _, f := range flags {
			args = append(args, prefix+f[0]+"="+f[1])
		}
	}
	if procs := s.procs(r); procs > 1 {
		flags = append(flags, [2]string{"procs", strconv.Itoa(procs)}, [2]string{"output-dir", r.Dir}, [2]string{"json-report", report})
		args = []string{s.programs.Ginkgo, "run"}
		add("--")
		return slices.Concat(args, []string{s.programs.Suite, "--"}, own)
	}
	flags = append(flags, [2]string{"json-report", filepath.Join(r.Dir, report)})
	args = append([]string{s.programs.Suite}, own...)
	add("--ginkgo.")
	return args
}

// procs is how many specs run at once.
func (s *Suite) procs(r Run) int {
	if r.Procs > 0 {
		return r.Procs
	}
	return max(1, s.kind.procs)
}

// chosen leaves away what was not asked for, says why the others that did not
// run were left out, and sorts by name: they ran in another order each time.
func (sel selection) chosen(found []specs.Spec, focus *regexp.Regexp) []specs.Spec {
	var out []specs.Spec
	for _, spec := range found {
		if strings.HasPrefix(spec.Name, sigNetwork) && !sel.names.MatchString(spec.Name) {
			continue
		}
		// One that was not selected has no reason; one that skips itself has.
		if spec.State == specs.LeftOut && spec.Why == "" {
			at := slices.IndexFunc(sel.leftOut, func(e exclusion) bool { return e.names.MatchString(spec.Name) })
			if at < 0 || !focus.MatchString(spec.Name) {
				continue
			}
			spec.Why = sel.leftOut[at].why
		}
		out = append(out, spec)
	}
	slices.SortFunc(out, func(a, b specs.Spec) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// unique keeps one spec of each name, a failed one if there is one: what
// prepares the suite is there for each pass and process. Those that are left out
// are the last.
func unique(found []specs.Spec) []specs.Spec {
	var ran, leftOut []specs.Spec
	for _, spec := range found {
		same := func(other specs.Spec) bool { return other.Name == spec.Name }
		if spec.State == specs.LeftOut {
			if !slices.ContainsFunc(leftOut, same) {
				leftOut = append(leftOut, spec)
			}
			continue
		}
		if at := slices.IndexFunc(ran, same); at < 0 {
			ran = append(ran, spec)
		} else if spec.State == specs.Failed && ran[at].State != specs.Failed {
			ran[at] = spec
		}
	}
	return append(ran, leftOut...)
}

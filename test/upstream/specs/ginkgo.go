// SPDX-License-Identifier: Apache-2.0

package specs

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"
)

// ginkgoReport is what we read of a report in Ginkgo's JSON.
type ginkgoReport struct {
	SuiteSucceeded             bool
	SpecialSuiteFailureReasons []string
	SpecReports                []ginkgoSpec
}

type ginkgoSpec struct {
	ContainerHierarchyTexts    []string
	LeafNodeType               string
	LeafNodeText               string
	State                      string
	RunTime                    time.Duration
	Failure                    struct{ Message string }
	CapturedGinkgoWriterOutput string
	CapturedStdOutErr          string
}

// ParseGinkgo reads a report in Ginkgo's JSON and returns its specs whose names
// begin with prefix, and what failed around them, in order. Specs that were not
// selected are left out without a reason.
func ParseGinkgo(r io.Reader, prefix string) ([]Spec, error) {
	var reports []ginkgoReport
	if err := json.NewDecoder(r).Decode(&reports); err != nil {
		return nil, err
	}
	if len(reports) != 1 {
		return nil, errors.New("want the report of one suite")
	}
	var specs []Spec
	failed := false
	for _, g := range reports[0].SpecReports {
		if spec, ok := g.spec(prefix); ok {
			specs = append(specs, spec)
			failed = failed || spec.State == Failed
		}
	}
	if !reports[0].SuiteSucceeded && !failed {
		specs = append(specs, Spec{
			Name: "the suite", State: Failed,
			Why: oneLine("it failed without a spec that failed: " + strings.Join(reports[0].SpecialSuiteFailureReasons, "; ")),
		})
	}
	return specs, nil
}

// spec converts one entry. Those that prepare and clean up count when they fail.
func (g ginkgoSpec) spec(prefix string) (Spec, bool) {
	name := strings.TrimSpace(strings.Join(append(g.ContainerHierarchyTexts, g.LeafNodeText), " "))
	spec := Spec{Name: name, Seconds: g.RunTime.Seconds(), Log: g.CapturedGinkgoWriterOutput + g.CapturedStdOutErr}
	switch g.State {
	case "passed":
		spec.State = Passed
	case "skipped", "pending":
		spec.State, spec.Why = LeftOut, oneLine(g.Failure.Message)
	default:
		spec.State, spec.Why = Failed, oneLine(g.State+": "+g.Failure.Message)
		spec.Log += "\n" + g.Failure.Message + "\n"
	}
	if g.LeafNodeType == "It" {
		return spec, strings.HasPrefix(name, prefix)
	}
	spec.Name = strings.TrimSpace(g.LeafNodeType + " " + name)
	return spec, spec.State == Failed
}

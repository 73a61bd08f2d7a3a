// SPDX-License-Identifier: Apache-2.0

package specs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/waymark-net/waymark/test/report"
)

// Summary is what a document says of a run: how many specs passed, and each one
// that did not pass, or not with all that it tries, and why.
func Summary(specs []Spec) []report.Row {
	counts := map[State]int{}
	for _, spec := range specs {
		counts[spec.State]++
	}
	rows := []report.Row{
		report.Measure("specs that passed", float64(counts[Passed]), ""),
		report.Measure("specs that failed", float64(counts[Failed]), ""),
		report.Measure("specs left out", float64(counts[LeftOut]), ""),
	}
	for i, row := range Rows(specs) {
		if specs[i].Why != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

// Rows has a row for each spec.
func Rows(specs []Spec) []report.Row {
	var rows []report.Row
	seen := map[string]int{}
	for _, spec := range specs {
		name := spec.Name
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s (%d)", name, seen[name])
		}
		row := report.Check(name, spec.State == Passed, spec.Why)
		if spec.State == LeftOut {
			row = report.Row{Case: name, Note: "left out: " + spec.Why}
		}
		rows = append(rows, row)
	}
	return rows
}

// Write writes what came of every spec into a folder: specs.json, and the
// logs of those that failed in failures/.
func Write(dir string, specs []Spec) error {
	text, err := json.MarshalIndent(specs, "", "  ")
	if err != nil {
		return err
	}
	failures := filepath.Join(dir, "failures")
	err = errors.Join(
		os.RemoveAll(failures), os.MkdirAll(failures, 0o755),
		os.WriteFile(filepath.Join(dir, "specs.json"), append(text, '\n'), 0o644),
	)
	for i, spec := range specs {
		if spec.State == Failed {
			name := fmt.Sprintf("%02d-%s.log", i, fileName(spec.Name))
			err = errors.Join(err, os.WriteFile(filepath.Join(failures, name), []byte(spec.Name+"\n\n"+spec.Log), 0o644))
		}
	}
	return err
}

var unusual = regexp.MustCompile(`[^A-Za-z0-9]+`)

// fileName makes a name of a spec one of a file: the end tells more than the
// begin, which is common to all.
func fileName(name string) string {
	const most = 120
	name = strings.Trim(unusual.ReplaceAllString(name, "-"), "-")
	return name[max(0, len(name)-most):]
}

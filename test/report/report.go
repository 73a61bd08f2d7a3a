// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Report is one run.
type Report struct {
	Name    string    `json:"name"`
	Commit  string    `json:"commit,omitempty"` // of the source, with "+" for changes on top
	Command string    `json:"command,omitempty"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Rows    []Row     `json:"rows"`
}

// Row is one case. What does not apply to it is nil or empty, and left out.
type Row struct {
	Case     string   `json:"case"`
	OK       *bool    `json:"ok,omitempty"`
	Value    *float64 `json:"value,omitempty"`
	Unit     string   `json:"unit,omitempty"`
	Baseline *float64 `json:"baseline,omitempty"` // of the same unit
	Ratio    *float64 `json:"ratio,omitempty"`    // value to baseline
	Note     string   `json:"note,omitempty"`
}

// Check is a row of a case that holds or does not.
func Check(name string, ok bool, note string) Row {
	return Row{Case: name, OK: &ok, Note: note}
}

// Measure is a row of a measured value.
func Measure(name string, value float64, unit string) Row {
	return Row{Case: name, Value: &value, Unit: unit}
}

// Beside sets what the value is compared with. A baseline of 0 has no ratio.
func (r Row) Beside(baseline float64) Row {
	r.Baseline = &baseline
	if r.Value != nil && baseline != 0 {
		ratio := *r.Value / baseline
		r.Ratio = &ratio
	}
	return r
}

// Params begin a report.
type Params struct {
	Name    string
	Command string // as a person would type it
	Source  string // a directory of the repository, to find its commit
}

// Begin starts a run now. Outside of a git checkout the report has no commit.
func Begin(ctx context.Context, params Params) *Report {
	return &Report{
		Name:    params.Name,
		Command: params.Command,
		Commit:  commit(ctx, params.Source),
		Started: time.Now().UTC().Truncate(time.Second),
		Rows:    []Row{},
	}
}

func commit(ctx context.Context, dir string) string {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	head, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return ""
	}
	if changes, err := git("status", "--porcelain"); err != nil || changes != "" {
		head += "+"
	}
	return head
}

// Add appends rows.
func (r *Report) Add(rows ...Row) { r.Rows = append(r.Rows, rows...) }

// Failed returns the cases that do not hold.
func (r *Report) Failed() []string {
	var failed []string
	for _, row := range r.Rows {
		if row.OK != nil && !*row.OK {
			failed = append(failed, row.Case)
		}
	}
	return failed
}

// Write ends the run and writes the report, whole or not at all. Directories
// are made.
func (r *Report) Write(path string) error {
	r.Seconds = time.Since(r.Started).Seconds()
	if err := r.validate(); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fresh, err := os.CreateTemp(dir, ".report-*")
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name())
	_, err = fresh.Write(append(text, '\n'))
	if err := errors.Join(err, fresh.Chmod(0o644), fresh.Close()); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	return os.Rename(fresh.Name(), path)
}

// Read reads a report and refuses what is none.
func Read(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", path, err)
	}
	return r, nil
}

func parse(text []byte) (*Report, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var r Report
	if err := decoder.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return &r, r.validate()
}

// validate reports everything that is wrong.
func (r *Report) validate() error {
	var errs []error
	if r.Name == "" {
		errs = append(errs, errors.New("no name"))
	}
	if r.Started.IsZero() {
		errs = append(errs, errors.New("no start"))
	}
	seen := map[string]bool{}
	for i, row := range r.Rows {
		switch {
		case row.Case == "":
			errs = append(errs, fmt.Errorf("row %d has no case", i))
		case seen[row.Case]:
			errs = append(errs, fmt.Errorf("case %q twice", row.Case))
		case row.OK == nil && row.Value == nil && row.Note == "":
			errs = append(errs, fmt.Errorf("case %q says nothing", row.Case))
		}
		seen[row.Case] = true
	}
	return errors.Join(errs...)
}

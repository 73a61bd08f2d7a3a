// SPDX-License-Identifier: Apache-2.0

package specs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/report"
)

var specs = []Spec{
	{Name: "a", State: Passed, Seconds: 1},
	{Name: "b", State: Failed, Why: "it is shut", Log: "log of b"},
	{Name: "c", State: LeftOut, Why: "no SCTP"},
	{Name: "b", State: Failed, Why: "it is open"},
	{Name: "d", State: Passed, Why: "not all of it"},
}

func TestSummary(t *testing.T) {
	want := []report.Row{
		report.Measure("specs that passed", 2, ""),
		report.Measure("specs that failed", 2, ""),
		report.Measure("specs left out", 1, ""),
		report.Check("b", false, "it is shut"),
		{Case: "c", Note: "left out: no SCTP"},
		report.Check("b (2)", false, "it is open"),
		report.Check("d", true, "not all of it"),
	}
	if diff := cmp.Diff(want, Summary(specs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "failures", "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, specs); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "failures", "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "failures", "01-b.log"), filepath.Join(dir, "failures", "03-b.log")}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "specs.json")); err != nil || bytes.Contains(text, []byte("log of b")) {
		t.Errorf("specs.json: %s, %v", text, err)
	}
}

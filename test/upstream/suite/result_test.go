// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/report"
)

var specs = []Spec{
	{Name: "a", State: Passed, Seconds: 1},
	{Name: "b", State: Failed, Why: "it is shut", Log: "log of b"},
	{Name: "c", State: LeftOut, Why: noSCTP},
	{Name: "b", State: Failed, Why: "it is open"},
	{Name: "d", State: Passed, Why: "not all of it"},
}

func TestRows(t *testing.T) {
	want := []report.Row{
		report.Measure("specs that passed", 2, ""),
		report.Measure("specs that failed", 2, ""),
		report.Measure("specs left out", 1, ""),
		report.Check("b", false, "it is shut"),
		{Case: "c", Note: "left out: " + noSCTP},
		report.Check("b (2)", false, "it is open"),
		report.Check("d", true, "not all of it"),
	}
	if diff := cmp.Diff(want, Rows(specs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteSpecs(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "failures", "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteSpecs(dir, specs); err != nil {
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

func TestBelow(t *testing.T) {
	for expression, want := range map[string]string{
		"":      "^TestConformance$",
		"A|B":   "^TestConformance$/(A|B)",
		"A/x|y": "^TestConformance$/(A)/(x|y)",
	} {
		if got := below(expression); got != want {
			t.Errorf("below(%q) = %q, want %q", expression, got, want)
		}
	}
}

func TestLineWriter(t *testing.T) {
	var out bytes.Buffer
	w := &lineWriter{pass: regexp.MustCompile(`^yes`), out: &out}
	for _, part := range []string{"no\nye", "s 1\nno yes\nyes", " 2", "\nyes without end"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if got, want := out.String(), "yes 1\nyes 2\n"; got != want {
		t.Errorf("passed on %q, want %q", got, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/test/report"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	document := filepath.Join(dir, "docs", "page.md")
	if err := os.MkdirAll(filepath.Dir(document), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "<!-- report: x.json -->\n<!-- end report -->\n"
	if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		t.Helper()
		got, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	out := filepath.Join(dir, "out")
	if err := run(out, []string{filepath.Join(dir, "docs")}); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != text {
		t.Errorf("changed without a report:\n%s", got)
	}
	r := report.Begin(t.Context(), report.Params{Name: "x", Source: dir})
	r.Add(report.Check("case", true, ""))
	if err := r.Write(filepath.Join(out, "x.json")); err != nil {
		t.Fatal(err)
	}
	if err := run(out, []string{filepath.Join(dir, "docs")}); err != nil {
		t.Fatal(err)
	}
	if got := read(); !strings.Contains(got, "| case | yes |") {
		t.Errorf("not filled:\n%s", got)
	}
}

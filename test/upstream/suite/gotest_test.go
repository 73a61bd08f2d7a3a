// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/test/upstream/specs"
)

// What a Go test that runs with -test.v=test2json writes goes through Go's own
// converter.
func TestReadGoTest(t *testing.T) {
	const text = "\x16=== RUN   TestConformance\n\x16=== RUN   TestConformance/A\n    helper.go:1: hello\n" +
		"\x16--- PASS: TestConformance/A (1.50s)\n\x16--- PASS: TestConformance (2.00s)\n\x16=== NAME  \n\x16PASS\n"
	path := filepath.Join(t.TempDir(), "suite.log")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readGoTest(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]specs.Spec{{Name: "A", State: specs.Passed, Seconds: 1.5}}, got, cmpopts.IgnoreFields(specs.Spec{}, "Log")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/upstream/specs"
)

func TestSelected(t *testing.T) {
	sctp := specs.Spec{Name: netpolSpecs + " [Feature:SCTPConnectivity] x", State: specs.LeftOut}
	passed := specs.Spec{Name: netpolSpecs + " y", State: specs.Passed}
	other := specs.Spec{Name: netpolSpecs + " z", State: specs.LeftOut}
	found := []specs.Spec{sctp, passed, other}
	reason := sctp
	reason.Why = noSCTP
	for name, test := range map[string]struct {
		sctp  bool
		focus string
		want  []specs.Spec
	}{
		"kernel without SCTP": {false, "", []specs.Spec{reason, passed}},
		"not asked for":       {false, "y$", []specs.Spec{passed}},
		"kernel with SCTP":    {true, "", []specs.Spec{passed}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Suite{sctp: test.sctp}
			if diff := cmp.Diff(test.want, s.selected(found, regexp.MustCompile(test.focus))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
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

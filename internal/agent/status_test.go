// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// constants returns the values of all constants that a Go file gives a type.
func constants(t *testing.T, path, typeName string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != typeName {
			return true
		}
		for _, v := range spec.Values {
			literal, ok := v.(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s: a %s that is no literal", path, typeName)
			}
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
		return true
	})
	return values
}

var quoted = regexp.MustCompile("`([^`]+)`")

// TestGuideExplainsEveryReason: every reason that the node's condition can have
// is in the guide, and no other is; so are the parts that a message can name.
func TestGuideExplainsEveryReason(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/troubleshoot.md")
	if err != nil {
		t.Fatal(err)
	}
	var explained []string
	meaning := map[string]string{}
	for line := range strings.Lines(string(guide)) {
		cells := strings.SplitN(line, "|", 4)
		if len(cells) < 4 {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			explained = append(explained, m[1])
			meaning[m[1]] = cells[2]
		}
	}
	reasons := constants(t, "status.go", "reason")
	reasons = append(reasons, constants(t, "../../routing/validate.go", "ProblemReason")...)
	slices.Sort(explained)
	slices.Sort(reasons)
	if diff := cmp.Diff(reasons, explained); diff != "" {
		t.Errorf("reasons (-code +guide):\n%s", diff)
	}
	for _, part := range servingParts() {
		if !strings.Contains(meaning["NotServing"], "`"+part+"`") {
			t.Errorf("the guide does not say what part %s in NotServing means", part)
		}
	}
	for _, s := range (&Agent{}).steps() {
		if !slices.Contains(servingParts(), s.name) && !strings.Contains(meaning["ReconciliationFailed"], "`"+s.name+"`") {
			t.Errorf("the guide does not say what part %s in ReconciliationFailed means", s.name)
		}
	}
}

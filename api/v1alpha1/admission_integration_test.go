// SPDX-License-Identifier: Apache-2.0

//go:build integration

package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/internal/kubetest"
)

// TestAdmission applies every document of testdata/admission to a real API
// server. A document that starts with comments "# refused: TEXT" must be
// refused with every TEXT in the answer; one without must be accepted.
func TestAdmission(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, cluster *kubetest.Cluster) {
		if out, err := cluster.Kubectl(t, "", "apply", "--server-side", "-f", "../../manifests/base/crds"); err != nil {
			t.Fatalf("apply the CRDs: %v\n%s", err, out)
		}
		if out, err := cluster.Kubectl(t, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
			t.Fatalf("wait for the CRDs: %v\n%s", err, out)
		}
		files, err := filepath.Glob("testdata/admission/*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("no testdata: %v", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, document := range strings.Split(string(data), "\n---\n") {
				name, _, _ := strings.Cut(strings.TrimSpace(document), "\n")
				t.Run(filepath.Base(file)+"/"+strings.TrimPrefix(name, "# "), func(t *testing.T) {
					checkAdmission(t, cluster, document)
				})
			}
		}
	})
}

func checkAdmission(t *testing.T, cluster *kubetest.Cluster, document string) {
	t.Helper()
	var refused []string
	for line := range strings.Lines(document) {
		if text, ok := strings.CutPrefix(line, "# refused: "); ok {
			refused = append(refused, strings.TrimSpace(text))
		}
	}
	out, err := cluster.Kubectl(t, document, "apply", "--server-side", "-f", "-")
	if len(refused) == 0 {
		if err != nil {
			t.Errorf("refused: %v\n%s", err, out)
		}
		return
	}
	if err == nil {
		t.Errorf("accepted: %s", out)
	}
	for _, text := range refused {
		if !strings.Contains(out, text) {
			t.Errorf("the answer does not say %q:\n%s", text, out)
		}
	}
}

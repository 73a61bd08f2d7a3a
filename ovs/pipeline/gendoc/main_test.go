// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../../docs/pipeline.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(document(), string(got)); d != "" {
		t.Errorf("docs/pipeline.md is not current; run go generate ./ovs/pipeline (-want +got):\n%s", d)
	}
}

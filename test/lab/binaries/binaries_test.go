// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func module(t *testing.T, goMod string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"go.mod": goMod, "go.sum": "", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildOnce(t *testing.T) {
	source := module(t, "module x\n\ngo 1.24\n\n// the line that names the version:\n// k8s.io/kubernetes v1.2.3\n")
	if _, _, err := Identify(source, "main.go"); err == nil {
		t.Error("no version: no error")
	}
	source = module(t, "module x\n\ngo 1.24\n\nrequire (\n\tk8s.io/kubernetes v1.2.3\n)\n")
	key, version, err := Identify(source, "main.go")
	if err != nil || version != "v1.2.3" || len(key) != 12 {
		t.Fatalf("Identify: %q, %q, %v", key, version, err)
	}
	if err := os.WriteFile(filepath.Join(source, "main.go"), []byte("package main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, _, _ := Identify(source, "main.go"); changed == key {
		t.Error("another main.go, the same key")
	}
	// It cannot be built: the error names the log, and nothing is cached.
	cache := t.TempDir()
	building := 0
	_, err = Build(t.Context(), Params{Source: source, CacheDir: cache, Building: func() { building++ }})
	if err == nil || !strings.Contains(err.Error(), ".log") || building != 1 {
		t.Errorf("Build: %v, building %d", err, building)
	}
	// What is in the cache is not built.
	key, _, _ = Identify(source, "main.go")
	want := filepath.Join(cache, "kubernetes", "v1.2.3-"+key)
	if err := os.MkdirAll(want, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Build(t.Context(), Params{Source: source, CacheDir: cache}); err != nil || got != want {
		t.Errorf("Build: %q, %v", got, err)
	}
}

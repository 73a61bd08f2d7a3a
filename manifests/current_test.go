// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

// TestGeneratedFilesAreCurrent runs the generators on a copy of their inputs.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	root, copied := "..", t.TempDir()
	inputs := []string{"api", "manifests", "tools"}
	for _, folder := range inputs {
		if err := os.CopyFS(filepath.Join(copied, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(copied, "tools/generate.sh"), copied)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tools/generate.sh: %v\n%s", err, out)
	}
	for _, folder := range inputs {
		if diff := cmp.Diff(tree(t, filepath.Join(root, folder)), tree(t, filepath.Join(copied, folder))); diff != "" {
			t.Errorf("%s is not current: run tools/generate.sh (-have +generated):\n%s", folder, diff)
		}
	}
}

// tree reads all files of a folder.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, folder)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestDocuments checks that each rendered manifest carries a good
// configuration document of the mode that its name says.
func TestDocuments(t *testing.T) {
	for name, mode := range map[string]routing.Mode{
		"noencap": routing.ModeNoEncap, "encap": routing.ModeEncap, "hybrid": routing.ModeHybrid,
		"auto": routing.ModeAuto,
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("waymark-" + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			for document := range strings.SplitSeq(string(data), "\n---\n") {
				var object struct {
					Kind     string
					Metadata struct{ Name, Namespace string }
					Data     map[string]string
				}
				if err := yaml.Unmarshal([]byte(document), &object); err != nil {
					t.Fatal(err)
				}
				if object.Kind != "ConfigMap" {
					continue
				}
				if object.Metadata.Name != config.ConfigMapName || object.Metadata.Namespace != config.Namespace {
					t.Errorf("ConfigMap %s/%s", object.Metadata.Namespace, object.Metadata.Name)
				}
				c, err := config.Load([]byte(object.Data[config.ConfigMapKey]), routing.Families()...)
				if err != nil {
					t.Fatal(err)
				}
				if c.Mode != mode {
					t.Errorf("mode %s, want %s", c.Mode, mode)
				}
				return
			}
			t.Error("no ConfigMap")
		})
	}
}

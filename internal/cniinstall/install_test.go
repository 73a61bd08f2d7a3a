// SPDX-License-Identifier: Apache-2.0

package cniinstall

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/internal/testgolden"
)

func writeFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// tree renders a directory as "name mode content".
func tree(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Name()+" "+fi.Mode().String()+" "+string(data))
	}
	return out
}

func TestInstallBinaries(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	tests := map[string]struct {
		prepare func(t *testing.T, target string)
		changed []string
	}{
		"new":   {func(*testing.T, string) {}, []string{"portmap", "waymark-cni"}},
		"older": {func(t *testing.T, d string) { writeFile(t, d+"/waymark-cni", "v0", 0o755) }, []string{"portmap", "waymark-cni"}},
		"same": {func(t *testing.T, d string) {
			writeFile(t, d+"/waymark-cni", "v1", 0o755)
			writeFile(t, d+"/portmap", long, 0o755)
		}, nil},
		"shorter": {func(t *testing.T, d string) {
			writeFile(t, d+"/waymark-cni", "v1", 0o755)
			writeFile(t, d+"/portmap", long[1:], 0o755)
		}, []string{"portmap"}},
		"longer": {func(t *testing.T, d string) {
			writeFile(t, d+"/waymark-cni", "v1", 0o755)
			writeFile(t, d+"/portmap", long+"x", 0o755)
		}, []string{"portmap"}},
		"not executable": {func(t *testing.T, d string) {
			writeFile(t, d+"/waymark-cni", "v1", 0o644)
			writeFile(t, d+"/portmap", long, 0o755)
		}, []string{"waymark-cni"}},
		"killed before": {func(t *testing.T, d string) { writeFile(t, d+"/.waymark-tmp-1", "v", 0o600) }, []string{"portmap", "waymark-cni"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			source, target := t.TempDir(), filepath.Join(t.TempDir(), "opt/cni/bin")
			writeFile(t, source+"/waymark-cni", "v1", 0o755)
			writeFile(t, source+"/portmap", long, 0o755)
			writeFile(t, target+"/another", "kept", 0o755)
			tc.prepare(t, target)
			changed, err := InstallBinaries(source, target)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.changed, changed, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("changed (-want +got):\n%s", d)
			}
			want := []string{"another -rwxr-xr-x kept", "portmap -rwxr-xr-x " + long, "waymark-cni -rwxr-xr-x v1"}
			if d := cmp.Diff(want, tree(t, target)); d != "" {
				t.Errorf("target (-want +got):\n%s", d)
			}
		})
	}
}

// TestInstallWhileRunning replaces a file that is open, as a running program is.
func TestInstallWhileRunning(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	writeFile(t, source+"/waymark-cni", "new", 0o755)
	writeFile(t, target+"/waymark-cni", "old", 0o755)
	open, err := os.Open(target + "/waymark-cni")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := InstallBinaries(source, target); err != nil {
		t.Fatal(err)
	}
	old := make([]byte, 3)
	_, err = open.Read(old)
	if err := errors.Join(err, open.Close()); err != nil || string(old) != "old" {
		t.Errorf("the running program changed: %s, %v", old, err)
	}
}

func TestInstallFailures(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	if _, err := InstallBinaries(source+"/none", target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no source: %v", err)
	}
	// One that cannot be replaced does not keep the other from being installed.
	writeFile(t, source+"/a", "1", 0o755)
	writeFile(t, source+"/b", "1", 0o755)
	writeFile(t, target+"/a/file", "", 0o644)
	changed, err := InstallBinaries(source, target)
	if err == nil || !strings.Contains(err.Error(), "CNI plugin a") {
		t.Errorf("got error %v", err)
	}
	if d := cmp.Diff([]string{"b"}, changed); d != "" {
		t.Errorf("changed (-want +got):\n%s", d)
	}
	left, err := filepath.Glob(target + "/" + tempPrefix + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWriteConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "net.d", "05-waymark.conflist")
	for i, want := range []bool{true, false} {
		written, err := WriteConfig(path, "/var/run/waymark/cni.sock")
		if err != nil || written != want {
			t.Errorf("call %d: written %v, %v", i, written, err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	testgolden.Compare(t, t.Name(), string(got))

	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	past := before.ModTime().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteConfig(path, "/var/run/waymark/cni.sock"); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(past) {
		t.Errorf("an unchanged configuration was written: %v, %v", after.ModTime(), err)
	}
	if written, err := WriteConfig(path, "/run/other.sock"); err != nil || !written {
		t.Errorf("a change was not written: %v", err)
	}
}

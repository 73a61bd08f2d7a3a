// SPDX-License-Identifier: Apache-2.0

//go:build integration

package imagestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/imagestore/handmade"
)

func TestMain(m *testing.M) {
	host.Main()
	os.Exit(m.Run())
}

// archive writes an image with one file and returns the path.
func archive(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := handmade.Write(path, handmade.Image{Name: name, Files: map[string][]byte{"hello": []byte("hello\n")}}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrepareAndCopy(t *testing.T) {
	const name = "docker.io/waymark-test/hello:1"
	lab := fmt.Sprintf("t%d", time.Now().UnixNano()%1e9)
	t.Cleanup(func() {
		if err := host.Cleanup(context.Background(), lab); err != nil {
			t.Error(err)
		}
	})
	preparations := 0
	p := Params{
		Archives: []string{archive(t, name)}, CacheDir: t.TempDir(), Lab: lab, StateDir: t.TempDir(),
		Preparing: func() { preparations++ },
	}
	root, err := Prepare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Prepare(t.Context(), p); err != nil || again != root || preparations != 1 {
		t.Errorf("second time: %q after %q, %d preparations, %v", again, root, preparations, err)
	}

	// Two nodes use copies of it at once.
	for _, node := range []string{"n1", "n2"} {
		data := t.TempDir()
		if err := Copy(t.Context(), root, filepath.Join(data, "var/lib/containerd")); err != nil {
			t.Fatal(err)
		}
		h, err := host.Start(t.Context(), host.Spec{Lab: lab, Name: node, StateDir: t.TempDir(), DataDir: data, PrivateRoot: true})
		if err != nil {
			t.Fatal(err)
		}
		err = h.StartProcess(t.Context(), host.Process{
			Name: "containerd", Argv: []string{"containerd"}, Log: "/var/log/containerd.log", Socket: "/run/containerd/containerd.sock",
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := h.Output(t.Context(), nil, "ctr", "-n", "k8s.io", "images", "check")
		if err != nil || !strings.Contains(out, name) || !strings.Contains(out, "complete") || !strings.Contains(out, "true") {
			t.Errorf("%s: %v\n%s", node, err, out)
		}
		if _, err := h.Output(t.Context(), nil, "ctr", "-n", "k8s.io", "snapshots", "--snapshotter", "overlayfs", "ls"); err != nil {
			t.Error(err)
		}
	}
	if sharesDatabase(t, root) {
		t.Error("a node's database is a link to the prepared one")
	}
}

func sharesDatabase(t *testing.T, root string) bool {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "*", "*.db"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("databases: %v, %v", paths, err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Sys().(*syscall.Stat_t).Nlink != 1 {
			return true
		}
	}
	return false
}

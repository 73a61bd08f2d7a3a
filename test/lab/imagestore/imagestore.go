// SPDX-License-Identifier: Apache-2.0

package imagestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/lockfile"
)

// keep is how many prepared roots stay in the cache.
const keep = 6

// Params say what to prepare.
type Params struct {
	// Archives are the image archives (docker-archive or OCI).
	Archives []string
	// CacheDir is the lab's cache.
	CacheDir string
	// Lab owns the host in which the images are unpacked, so that cleaning up
	// the lab ends it.
	Lab string
	// StateDir is for that host.
	StateDir string
	// Preparing, if set, is called before the images are unpacked.
	Preparing func()
}

// Prepare returns the prepared containerd root of the archives.
func Prepare(ctx context.Context, p Params) (string, error) {
	key, err := hashArchives(p.Archives)
	if err != nil {
		return "", err
	}
	base := filepath.Join(p.CacheDir, "containerd")
	root := filepath.Join(base, key)
	unlock, err := lockfile.Lock(ctx, filepath.Join(p.CacheDir, "containerd.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	now := time.Now()
	if err := os.Chtimes(root, now, now); err == nil {
		return root, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if p.Preparing != nil {
		p.Preparing()
	}
	if err := prepare(ctx, p, base, root); err != nil {
		return "", fmt.Errorf("unpack images: %w", err)
	}
	return root, prune(base)
}

// hostName names the host in which containerd unpacks.
const hostName = "imagestore"

const containerdConfig = `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
`

func prepare(ctx context.Context, p Params, base, root string) error {
	work := filepath.Join(base, "work")
	if err := os.RemoveAll(work); err != nil { // of a preparation that was killed
		return err
	}
	spec := host.Spec{
		Lab: p.Lab, Name: hostName, StateDir: p.StateDir, DataDir: work, PrivateRoot: true,
		Files: []host.File{{Path: "/etc/containerd/config.toml", Content: []byte(containerdConfig), Mode: 0o644}},
	}
	for i, archive := range p.Archives {
		spec.Binds = append(spec.Binds, host.Bind{Source: filepath.Dir(archive), Target: archiveDir(i)})
	}
	h, err := host.Start(ctx, spec)
	if err != nil {
		return err
	}
	err = importAll(ctx, h, p.Archives)
	// Also after a canceled start: nothing may run on in the folder.
	if killErr := host.Kill(context.WithoutCancel(ctx), p.Lab, hostName); err == nil {
		err = killErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work, "var/lib/containerd"), root); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

func archiveDir(i int) string { return fmt.Sprintf("/opt/images/%d", i) }

func importAll(ctx context.Context, h *host.Host, archives []string) error {
	err := h.StartProcess(ctx, host.Process{
		Name: "containerd", Argv: []string{"containerd"},
		Log: "/var/log/containerd.log", Socket: "/run/containerd/containerd.sock",
	})
	if err != nil {
		return err
	}
	for i, archive := range archives {
		path := filepath.Join(archiveDir(i), filepath.Base(archive))
		if _, err := h.Output(ctx, nil, "ctr", "-n", "k8s.io", "images", "import", path); err != nil {
			return fmt.Errorf("import %s: %w", archive, err)
		}
	}
	return h.StopProcess(ctx, "containerd", syscall.SIGTERM)
}

func hashArchives(archives []string) (string, error) {
	hash := sha256.New()
	for _, path := range slices.Sorted(slices.Values(archives)) {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("image archive: %w", err)
		}
		size, err := io.Copy(hash, file)
		_ = file.Close()
		if err != nil {
			return "", fmt.Errorf("read image archive %s: %w", path, err)
		}
		fmt.Fprintf(hash, "\n%d\n", size)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// prune removes the prepared roots that were not used for longest.
func prune(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	type used struct {
		path string
		at   time.Time
	}
	var roots []used
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		roots = append(roots, used{filepath.Join(base, entry.Name()), info.ModTime()})
	}
	slices.SortFunc(roots, func(a, b used) int { return b.at.Compare(a.at) })
	var errs []error
	for i := keep; i < len(roots); i++ {
		errs = append(errs, os.RemoveAll(roots[i].path))
	}
	return errors.Join(errs...)
}

// Copy makes dir a containerd root with the images of a prepared one. On
// another file system than the cache it copies everything.
func Copy(ctx context.Context, root, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "--archive", "--link", "--no-target-directory", root, dir).CombinedOutput()
	if err == nil {
		return ownDatabases(dir)
	}
	if removeErr := os.RemoveAll(dir); removeErr != nil {
		return removeErr
	}
	full, fullErr := exec.CommandContext(ctx, "cp", "--archive", "--no-target-directory", root, dir).CombinedOutput()
	if fullErr != nil {
		return fmt.Errorf("copy images to %s: %w: %s; by links: %w: %s", dir, fullErr, full, err, out)
	}
	return nil
}

// ownDatabases replaces linked databases by copies: containerd writes to them.
func ownDatabases(dir string) error {
	// Layers are below snapshots; a database inside an image is left alone.
	for _, pattern := range []string{"*/*.db", "*.db"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := ownFile(path); err != nil {
				return fmt.Errorf("copy image database: %w", err)
			}
		}
	}
	return nil
}

func ownFile(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fresh := path + ".copy"
	if err := os.WriteFile(fresh, data, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

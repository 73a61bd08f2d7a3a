// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/waymark-net/waymark/test/lab/lockfile"
)

// Names are the programs, which are one file under five names.
var names = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"}

// Params say what to build from and where to keep it.
type Params struct {
	// Source is the folder of the module to build.
	Source string
	// CacheDir is the lab's cache.
	CacheDir string
	// Building, if set, is called before a build that takes minutes.
	Building func()
}

// Build returns the folder that holds the programs.
func Build(ctx context.Context, p Params) (string, error) {
	key, version, err := identify(p.Source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(p.CacheDir, "kubernetes", version+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unlock, err := lockfile.Lock(ctx, filepath.Join(p.CacheDir, "kubernetes.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if p.Building != nil {
		p.Building()
	}
	if err := build(ctx, p.Source, version, dir); err != nil {
		return "", fmt.Errorf("build Kubernetes %s: %w", version, err)
	}
	return dir, nil
}

var versionLine = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\d+\.\d+\.\d+)`)

// identify hashes the module and finds the version of Kubernetes in it.
func identify(source string) (key, version string, err error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", "", fmt.Errorf("module of the Kubernetes programs: %w", err)
		}
		fmt.Fprintf(hash, "%s %d\n", name, len(data))
		hash.Write(data)
		if found := versionLine.FindSubmatch(data); name == "go.mod" && found != nil {
			version = string(found[1])
		}
	}
	if version == "" {
		return "", "", fmt.Errorf("no version of k8s.io/kubernetes in %s/go.mod", source)
	}
	fmt.Fprintln(hash, runtime.GOARCH)
	return hex.EncodeToString(hash.Sum(nil))[:12], version, nil
}

func build(ctx context.Context, source, version, dir string) error {
	fresh := dir + ".tmp"
	if err := os.RemoveAll(fresh); err != nil { // of a build that was killed
		return err
	}
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return err
	}
	logPath := dir + ".log"
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	flags := fmt.Sprintf("-s -w -X k8s.io/component-base/version.gitVersion=%s"+
		" -X k8s.io/component-base/version.gitMajor=%s -X k8s.io/component-base/version.gitMinor=%s", version, parts[0], parts[1])
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", flags, "-o", filepath.Join(fresh, "kube"), ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w (log %s)", errors.Join(ctx.Err(), err), logPath)
	}
	for _, name := range names {
		if err := os.Symlink("kube", filepath.Join(fresh, name)); err != nil {
			return err
		}
	}
	return os.Rename(fresh, dir)
}

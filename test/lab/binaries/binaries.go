// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// Names are the programs, which are one file under six names.
var names = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"}

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
	key, version, err := Identify(p.Source, "main.go")
	if err != nil {
		return "", err
	}
	r := Recipe{
		Dir:    filepath.Join(p.CacheDir, "kubernetes", version+"-"+key),
		Lock:   filepath.Join(p.CacheDir, "kubernetes.lock"),
		Making: p.Building,
		Make: func(ctx context.Context, dir string, log *os.File) error {
			return build(ctx, p.Source, version, dir, log)
		},
	}
	if err := r.Provide(ctx); err != nil {
		return "", fmt.Errorf("build Kubernetes %s: %w", version, err)
	}
	return r.Dir, nil
}

// kubernetes is the module of the Kubernetes programs.
const kubernetes = "k8s.io/kubernetes"

// Identify hashes go.mod, go.sum and one more file of a module that builds
// programs of Kubernetes, and finds the version of Kubernetes in it.
func Identify(source, file string) (key, version string, err error) {
	return identify(source, file, kubernetes)
}

// identify is Identify for programs of any module.
func identify(source, file, module string) (key, version string, err error) {
	versionLine := regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(module) + ` (v\d+\.\d+\.\d+)`)
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", file} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", "", fmt.Errorf("module of the programs of %s: %w", module, err)
		}
		fmt.Fprintf(hash, "%s %d\n", name, len(data))
		hash.Write(data)
		if found := versionLine.FindSubmatch(data); name == "go.mod" && found != nil {
			version = string(found[1])
		}
	}
	if version == "" {
		return "", "", fmt.Errorf("no version of %s in %s/go.mod", module, source)
	}
	fmt.Fprintln(hash, runtime.GOARCH)
	return hex.EncodeToString(hash.Sum(nil))[:12], version, nil
}

// VersionFlags are the linker flags that tell programs of Kubernetes their
// version, and leave out what only debuggers need.
func VersionFlags(version string) string {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	return fmt.Sprintf("-s -w -X k8s.io/component-base/version.gitVersion=%s"+
		" -X k8s.io/component-base/version.gitMajor=%s -X k8s.io/component-base/version.gitMinor=%s", version, parts[0], parts[1])
}

// Go runs the go command for a static build in a module, with its output in
// the log.
func Go(ctx context.Context, module string, log *os.File, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	cmd.Stdout, cmd.Stderr = log, log
	return errors.Join(cmd.Run(), ctx.Err())
}

func build(ctx context.Context, source, version, dir string, log *os.File) error {
	err := Go(ctx, source, log, "build", "-trimpath", "-ldflags", VersionFlags(version), "-o", filepath.Join(dir, "kube"), ".")
	for _, name := range names {
		err = errors.Join(err, os.Symlink("kube", filepath.Join(dir, name)))
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed recipes
var recipes embed.FS

// recipe is the text of one of the lab's own Dockerfiles.
func recipe(name string) string {
	text, err := recipes.ReadFile("recipes/" + name + ".Dockerfile")
	if err != nil {
		return "" // the name is a constant of this package; its test reads all
	}
	return string(text)
}

// goEnv is what the build takes from the machine's Go.
type goEnv struct {
	Root     string `json:"GOROOT"`
	Version  string `json:"GOVERSION"`
	Cache    string `json:"GOCACHE"`
	ModCache string `json:"GOMODCACHE"`
	Proxy    string `json:"GOPROXY"`
	SumDB    string `json:"GOSUMDB"`
}

// builder holds what the steps of one Build share. One goroutine uses it.
type builder struct {
	options Options
	env     goEnv
	tmp     string // large temporary files; emptied under the lock
	log     string // output of the tools of this build
	driver  string // storage driver, found at first use
}

func newBuilder(ctx context.Context, options Options) (*builder, error) {
	if options.CacheDir == "" {
		options.CacheDir = DefaultCacheDir()
	}
	if len(options.Tags) == 0 {
		options.Tags = []string{"latest"}
	}
	source, err := filepath.Abs(options.Source)
	if err != nil {
		return nil, err
	}
	options.Source = source
	b := &builder{
		options: options,
		tmp:     filepath.Join(options.CacheDir, "tmp"),
		log:     filepath.Join(options.CacheDir, "build.log"),
	}
	out, err := goCommand(ctx, source, "env", "-json", "GOROOT", "GOVERSION", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	if err := json.Unmarshal(out, &b.env); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	return b, nil
}

func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	return cmd
}

func (b *builder) progress(step string) {
	if b.options.Progress != nil {
		b.options.Progress(step)
	}
}

// lock waits for builds of other processes to end, then starts with an empty
// log and no leftovers of a build that was killed.
func (b *builder) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(b.options.CacheDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(b.options.CacheDir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if !waited {
			b.progress("waiting for another build of the images")
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
	err = errors.Join(os.RemoveAll(b.tmp), os.MkdirAll(b.tmp, 0o755), os.WriteFile(b.log, nil, 0o644))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// compile builds a static program from a package of the source tree.
func (b *builder) compile(ctx context.Context, out, pkg string) error {
	cmd := goCommand(ctx, b.options.Source, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return b.runLogged(cmd)
}

// tool runs a program that mounts and starts others, such as buildah, in mount
// and PID namespaces which end with it.
func (b *builder) tool(ctx context.Context, name string, args ...string) error {
	argv := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", name}
	cmd := exec.CommandContext(ctx, "unshare", append(argv, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+b.tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return b.runLogged(cmd)
}

// runLogged runs a command with its output in the log; its error holds the
// end of the output and where the rest is.
func (b *builder) runLogged(cmd *exec.Cmd) error {
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "+ %s\n", strings.Join(cmd.Args, " "))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s(all of it in %s)", cmd.Args[0], err, tail(log, begin, 15), b.log)
	}
	return nil
}

// tail returns the last lines of a file from an offset on.
func tail(f *os.File, offset int64, lines int) string {
	const most = 16 << 10
	if info, err := f.Stat(); err == nil && info.Size()-offset > most {
		offset = info.Size() - most
	}
	text := make([]byte, most)
	n, _ := f.ReadAt(text, offset)
	all := bytes.SplitAfter(bytes.TrimRight(text[:n], "\n"), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return string(bytes.Join(all, nil)) + "\n"
}

// prune deletes archives and probes that were not used lately. The newest of a
// name are kept whatever their age, for switching between branches.
func (b *builder) prune() error {
	const keep, age = 3, time.Hour
	var errs []error
	patterns := []string{"probe-*[0-9a-f]", "probe-*.tar", "agnhost-*.tar", "coredns-*.tar"}
	for _, tag := range b.options.Tags {
		patterns = append(patterns, "waymark-"+tag+"-*.tar")
	}
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(b.options.CacheDir, pattern))
		if err != nil {
			return err
		}
		errs = append(errs, pruneFiles(files, keep, time.Now().Add(-age)))
	}
	return errors.Join(errs...)
}

// pruneFiles deletes all but the newest of files, unless they are newer than
// the limit.
func pruneFiles(files []string, keep int, limit time.Time) error {
	used := map[string]time.Time{}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			used[file] = info.ModTime()
		}
	}
	slices.SortFunc(files, func(a, b string) int { return used[b].Compare(used[a]) })
	var errs []error
	for _, file := range files[min(keep, len(files)):] {
		if used[file].Before(limit) {
			errs = append(errs, os.Remove(file))
		}
	}
	return errors.Join(errs...)
}

// SPDX-License-Identifier: Apache-2.0

package testnet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// childEnv names the test that a child process is to run.
const childEnv = "WAYMARK_TESTNET_CHILD"

// rootName is the name under /run/netns of the namespace a test starts in.
const rootName = "root"

// Run runs body in namespaces of its own, in parallel with other tests. node
// is the namespace that body, and every goroutine it starts, runs in. Run is
// called at the start of a top-level test or a subtest and at most once a test.
func Run(t *testing.T, body func(t *testing.T, node *Namespace)) {
	t.Helper()
	if os.Getenv(childEnv) != t.Name() {
		t.Parallel()
		runChild(t)
		return
	}
	node, err := enter()
	if err != nil {
		t.Fatalf("setting up the test's namespaces: %v", err)
	}
	body(t, node)
}

// runChild runs the test again in a child process and takes over its result.
func runChild(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("finding the test binary: %v", err)
	}
	ctx := t.Context()
	args := []string{"-test.run=" + pattern(t.Name()), "-test.count=1", "-test.v"}
	if deadline, ok := t.Deadline(); ok {
		// The child reports its own timeout, with its stacks, before ours strikes.
		left := time.Until(deadline) * 9 / 10
		args = append(args, "-test.timeout="+left.String())
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-left/30))
		defer cancel()
	}
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.") {
			args = append(args, a)
		}
	}
	// The parent death signal follows the thread, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in its own namespaces: %v\n%s", err, out)
	}
	switch {
	case strings.Contains(string(out), "--- SKIP: "+t.Name()+" "):
		t.Skipf("%s", out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()+" "):
		t.Fatalf("in its own namespaces the test did not run:\n%s", out)
	case testing.Verbose():
		t.Logf("%s", out)
	}
}

// pattern is the -test.run expression that selects exactly the test name.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// enter makes the mounts of the child process private and fitting to its
// network and PID namespaces.
func enter() (*Namespace, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("making mounts private: %w", err)
	}
	for _, m := range []struct{ fstype, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"},
	} {
		if err := unix.Mount(m.fstype, m.target, m.fstype, 0, ""); err != nil {
			return nil, fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	for _, d := range []string{"/run/netns", "/run/lock"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("creating %s: %w", d, err)
		}
	}
	path := filepath.Join("/run/netns", rootName)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("naming the first namespace: %w", err)
	}
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("opening the first namespace: %w", err)
	}
	n := &Namespace{Name: rootName, handle: handle}
	if _, err := n.run("ip link set lo up"); err != nil {
		return nil, err
	}
	return n, nil
}

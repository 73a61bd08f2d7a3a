// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a host and returns once its init answers. The host outlives the
// caller. Its network namespace appears in /run/netns under NetNS.
func Start(ctx context.Context, spec Spec) (*Host, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	if err := start(ctx, spec); err != nil {
		return nil, fmt.Errorf("start host %s: %w (log %s)", spec.Name, err, LogPath(spec.StateDir))
	}
	return Attach(spec.Name, spec.StateDir), nil
}

func start(ctx context.Context, spec Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(spec.StateDir, 0o755); err != nil {
		return err
	}
	specPath := filepath.Join(spec.StateDir, "spec.json")
	// Not readable by others: files of the host may be keys.
	if err := os.WriteFile(specPath, data, 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(LogPath(spec.StateDir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()

	cmd := exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{InitName, spec.Lab, spec.Name, specPath},
		Env:        []string{"PATH=" + os.Getenv("PATH"), "TERM=" + os.Getenv("TERM"), "GOMAXPROCS=2"},
		Dir:        "/",
		Stdout:     log,
		Stderr:     log,
		ExtraFiles: []*os.File{write}, // readyFD
		SysProcAttr: &syscall.SysProcAttr{
			Setsid: true,
			Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID |
				unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		},
	}
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return err
	}
	// Collects the init if it ends while this process lives.
	go func() { _ = cmd.Wait() }()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()

	report, err := io.ReadAll(read)
	if err != nil {
		return err
	}
	if string(report) != ready {
		return errors.Join(ctx.Err(), fmt.Errorf("init failed: %s", report))
	}
	if err := pinNetNS(spec, cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		return err
	}
	return nil
}

// pinNetNS shows the network namespace to ip-netns(8).
func pinNetNS(spec Spec, pid int) error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(netnsDir, NetNS(spec.Lab, spec.Name))
	if err := unpinNetNS(path); err != nil { // of an earlier life of the host
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	_ = file.Close()
	return bind(fmt.Sprintf("/proc/%d/ns/net", pid), path)
}

// unpinNetNS removes a name from /run/netns; it is no error when there is none.
func unpinNetNS(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		} else if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// initPIDs finds the inits of a lab, or of one host of it if host is not
// empty, in the process table.
func initPIDs(lab, host string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("read process table: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// A process that is just going away has no command line.
		line, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		args := strings.Split(string(line), "\x00")
		if len(args) > 3 && args[0] == InitName && args[1] == lab && (host == "" || args[2] == host) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

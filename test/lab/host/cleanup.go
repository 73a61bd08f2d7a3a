// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// killDeadline is how long the kernel may take to end a host.
const killDeadline = 30 * time.Second

// Kill ends one host at once, with everything that runs in it, as a power
// failure would. It is no error when the host does not run.
func Kill(ctx context.Context, lab, host string) error {
	err := killInits(ctx, lab, host)
	return errors.Join(err,
		unpinNetNS(filepath.Join(netnsDir, NetNS(lab, host))),
		removeCgroups(ctx, filepath.Join(cgroupParent, lab, host)))
}

// Cleanup ends all hosts of a lab and removes their namespaces and cgroups. It
// needs nothing but the name of the lab, and nothing need be there.
func Cleanup(ctx context.Context, lab string) error {
	errs := []error{killInits(ctx, lab, "")}
	names, err := filepath.Glob(filepath.Join(netnsDir, netnsPrefix(lab)+"*"))
	errs = append(errs, err)
	for _, name := range names {
		errs = append(errs, unpinNetNS(name))
	}
	errs = append(errs, removeCgroups(ctx, filepath.Join(cgroupParent, lab)))
	return errors.Join(errs...)
}

// killInits kills and waits. The process is held by a descriptor, so that no
// other process that was given the same number is hit.
func killInits(ctx context.Context, lab, host string) error {
	pids, err := initPIDs(lab, host)
	if err != nil {
		return err
	}
	var errs []error
	var held []int
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		} else if err != nil {
			errs = append(errs, fmt.Errorf("hold process %d: %w", pid, err))
			continue
		}
		held = append(held, fd)
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, killDeadline)
	defer cancel()
	for _, fd := range held {
		if err := waitPidfd(ctx, fd); err != nil {
			errs = append(errs, fmt.Errorf("wait for the end of hosts of lab %s: %w", lab, err))
		}
		_ = unix.Close(fd)
	}
	return errors.Join(errs...)
}

func waitPidfd(ctx context.Context, fd int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// removeCgroups removes a cgroup with all below it from every hierarchy, and
// the folder of all labs when it was the last.
func removeCgroups(ctx context.Context, name string) error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		if m.kind == "cgroup" || m.kind == "cgroup2" {
			errs = append(errs, removeCgroupTree(ctx, filepath.Join(m.target, name)))
			_ = os.Remove(filepath.Join(m.target, cgroupParent)) // fails while other labs are there
		}
	}
	return errors.Join(errs...)
}

// removeCgroupTree retries: a cgroup is busy for a moment after its last
// process was killed.
func removeCgroupTree(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, killDeadline)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := removeFolders(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup: %w", err)
		case <-ticker.C:
		}
	}
}

// removeFolders removes folders, deepest first; the files in a cgroup go with it.
func removeFolders(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeFolders(filepath.Join(path, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return os.Remove(path)
}

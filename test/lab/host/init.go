// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// InitName is the name (argv[0]) of the init; lab and host follow it, so
	// that Cleanup recognises the hosts of a lab in the process table.
	InitName = "waymark-lab-host"
	stageEnv = "WAYMARK_LAB_STAGE"
	// readyFD is a pipe on which the init reports "ok" or what went wrong.
	readyFD = 3
	ready   = "ok"
)

// Main turns the calling program into the init of a host if it was started as
// one, and then never returns. It must be called before anything else.
func Main() {
	if len(os.Args) != 4 || os.Args[0] != InitName {
		return
	}
	report := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	err := initMain(os.Args[3], report)
	_, _ = report.WriteString(err.Error())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func initMain(specPath string, report *os.File) error {
	data, err := os.ReadFile(specPath)
	if err != nil {
		return fmt.Errorf("read host description: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("read host description %s: %w", specPath, err)
	}
	if os.Getenv(stageEnv) == "" {
		return enterCgroups(spec)
	}
	if err := os.Unsetenv(stageEnv); err != nil {
		return err
	}
	return runInit(spec, report)
}

// enterCgroups puts the init into cgroups of its own and executes the second
// stage. A cgroup namespace belongs to a thread, and the thread that executes
// is the one that stays.
func enterCgroups(spec Spec) error {
	runtime.LockOSThread()
	if spec.PrivateCgroup {
		hierarchies, err := readHierarchies()
		if err != nil {
			return err
		}
		for _, h := range hierarchies {
			if err := h.enter(spec.Lab, spec.Name); err != nil {
				return err
			}
		}
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("new cgroup namespace: %w", err)
		}
		for _, h := range hierarchies {
			if err := h.delegate(spec.Lab, spec.Name); err != nil {
				return err
			}
		}
	}
	if _, err := unix.FcntlInt(readyFD, unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("keep report pipe: %w", err)
	}
	err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), stageEnv+"=2"))
	return fmt.Errorf("execute second stage: %w", err)
}

func runInit(spec Spec, report *os.File) error {
	// A stray hang-up or interrupt must not end a host; SIGKILL from outside
	// does. Caught and dropped, not ignored: programs would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	socket := socketPath(spec.StateDir)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old control socket: %w", err)
	}
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := setUpRoot(spec); err != nil {
		return err
	}
	if err := applySysctls(spec.Sysctls); err != nil {
		return err
	}
	if err := os.Setenv("PATH", searchPath); err != nil {
		return err
	}
	owned := &children{byID: map[int]*child{}}
	go owned.reap()
	s := &server{supervisor: &supervisor{
		children: owned,
		env:      append([]string{"PATH=" + searchPath, "HOME=/root", "TERM=" + os.Getenv("TERM"), "LANG=C.UTF-8"}, spec.Env...),
		procs:    map[string]*supervised{},
	}}
	if _, err := report.WriteString(ready); err != nil {
		return fmt.Errorf("report start: %w", err)
	}
	if err := report.Close(); err != nil {
		return fmt.Errorf("report start: %w", err)
	}
	return s.serve(listener)
}

// searchPath begins with the folder under which the lab shows the Kubernetes
// programs in a private root.
const searchPath = BinDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// BinDir is searched first for programs, in every host.
const BinDir = "/opt/waymark-lab/bin"

// applySysctls sets kernel settings. Those of a feature that the kernel was
// built without are left out.
func applySysctls(settings []Sysctl) error {
	for _, setting := range settings {
		path := filepath.Join("/proc/sys", setting.Key)
		err := os.WriteFile(path, []byte(setting.Value), 0o644)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set %s to %s: %w", strings.ReplaceAll(setting.Key, "/", "."), setting.Value, err)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// child is a program started by the init. status is valid once done is closed.
type child struct {
	pid    int
	done   chan struct{}
	status syscall.WaitStatus
}

// children owns every child of the init, including orphans that the kernel
// hands to PID 1. os/exec cannot be used here: its Wait would race with the
// collecting of orphans.
type children struct {
	mu   sync.Mutex
	byID map[int]*child
}

// reap collects ended children until the init ends.
func (c *children) reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for range ended {
		c.collect()
	}
}

func (c *children) collect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err != nil || pid <= 0 {
			return
		}
		if ended, ok := c.byID[pid]; ok {
			delete(c.byID, pid)
			ended.status = status
			close(ended.done)
		}
	}
}

// spawn starts a program in a process group of its own.
func (c *children) spawn(argv, env []string, dir string, files [3]*os.File) (*child, error) {
	if len(argv) == 0 {
		return nil, fmt.Errorf("start: no command")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   env,
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	// Held over the fork: the child cannot be collected before it is registered.
	c.mu.Lock()
	defer c.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	started := &child{pid: pid, done: make(chan struct{})}
	c.byID[pid] = started
	return started, nil
}

// signalGroup signals the child and what it started in its group.
func (c *child) signalGroup(sig syscall.Signal) {
	select {
	case <-c.done:
	default:
		_ = syscall.Kill(-c.pid, sig)
	}
}

func (c *child) exit() exitStatus {
	if c.status.Signaled() {
		return exitStatus{Code: -1, Signal: int(c.status.Signal())}
	}
	return exitStatus{Code: c.status.ExitStatus()}
}

func (e exitStatus) String() string {
	if e.Signal != 0 {
		return "killed by " + syscall.Signal(e.Signal).String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

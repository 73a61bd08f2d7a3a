// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	restartDelay = time.Second
	// startDeadline bounds the wait for the socket of a program.
	startDeadline = 2 * time.Minute
	// stopGrace is what a program has between SIGTERM and SIGKILL.
	stopGrace = 10 * time.Second
)

// supervisor keeps the programs of a host running. mu guards the table and
// every entry in it.
type supervisor struct {
	children *children
	env      []string

	mu    sync.Mutex
	procs map[string]*supervised
}

type supervised struct {
	Process
	current  *child // nil while not running
	restarts int
	exit     string
	stopped  bool          // no restart wanted
	ended    chan struct{} // closed when the supervision is over
}

// start runs the program and waits for its socket. A program of that name that
// still runs is an error; one that has been stopped is replaced.
func (s *supervisor) start(p Process) error {
	s.mu.Lock()
	if old, ok := s.procs[p.Name]; ok && !isClosed(old.ended) {
		s.mu.Unlock()
		return fmt.Errorf("start %s: already running", p.Name)
	}
	entry := &supervised{Process: p, ended: make(chan struct{})}
	if err := s.spawnLocked(entry); err != nil {
		s.mu.Unlock()
		return err
	}
	s.procs[p.Name] = entry
	s.mu.Unlock()
	go s.watch(entry)
	return s.waitSocket(entry)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *supervisor) spawnLocked(entry *supervised) error {
	if err := os.MkdirAll(filepath.Dir(entry.Log), 0o755); err != nil {
		return fmt.Errorf("start %s: %w", entry.Name, err)
	}
	log, err := os.OpenFile(entry.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", entry.Name, err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("start %s: %w", entry.Name, err)
	}
	defer null.Close()
	c, err := s.children.spawn(entry.Argv, slices.Concat(s.env, entry.Env), "/", [3]*os.File{null, log, log})
	if err != nil {
		return err
	}
	entry.current = c
	return nil
}

// watch waits for the end of the program and starts it again as wanted.
func (s *supervisor) watch(entry *supervised) {
	defer close(entry.ended)
	for {
		s.mu.Lock()
		current := entry.current
		s.mu.Unlock()
		if current != nil {
			<-current.done
			s.mu.Lock()
			entry.current, entry.exit = nil, current.exit().String()
			s.mu.Unlock()
		}
		s.mu.Lock()
		again := entry.Restart && !entry.stopped
		s.mu.Unlock()
		if !again {
			return
		}
		time.Sleep(restartDelay)
		s.mu.Lock()
		if !entry.stopped {
			entry.restarts++
			if err := s.spawnLocked(entry); err != nil {
				entry.exit = err.Error()
			}
		}
		s.mu.Unlock()
	}
}

func (s *supervisor) waitSocket(entry *supervised) error {
	if entry.Socket == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startDeadline)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := net.Dial("unix", entry.Socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-entry.ended:
			return fmt.Errorf("start %s: it ended at once (%s)", entry.Name, s.exitOf(entry))
		case <-ctx.Done():
			return fmt.Errorf("start %s: no answer at %s within %s", entry.Name, entry.Socket, startDeadline)
		case <-ticker.C:
		}
	}
}

func (s *supervisor) exitOf(entry *supervised) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return entry.exit
}

// stop ends a program and keeps it down. Any signal but SIGKILL is followed by
// SIGKILL when the program does not end in time.
func (s *supervisor) stop(name string, sig syscall.Signal) error {
	s.mu.Lock()
	entry, ok := s.procs[name]
	if !ok {
		s.mu.Unlock()
		return fmt.Errorf("stop %s: no such program, have %s", name, s.names())
	}
	entry.stopped = true
	current := entry.current
	s.mu.Unlock()
	if current != nil {
		current.signalGroup(sig)
		select {
		case <-current.done:
		case <-time.After(stopGrace):
			current.signalGroup(syscall.SIGKILL)
		}
	}
	<-entry.ended
	return nil
}

func (s *supervisor) names() string {
	var names []string
	for name := range s.procs {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (s *supervisor) list() []ProcessStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ProcessStatus
	for _, entry := range s.procs {
		status := ProcessStatus{Name: entry.Name, Restarts: entry.restarts, Exit: entry.exit}
		if entry.current != nil {
			status.PID = entry.current.pid
		}
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b ProcessStatus) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/routing"
)

// speakerEnv makes the test binary a speaker that is told its configurations
// on standard input and tells its events on standard output, as JSON: a
// process that a test can kill.
const speakerEnv = "WAYMARK_TEST_SPEAKER"

type childEvent struct {
	Set      bool   `json:",omitempty"`
	Error    string `json:",omitempty"`
	Routes   *routing.PathEvent
	Sessions []routing.SessionStatus
}

func speakerMain(in io.Reader, out io.Writer) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	say := func(ev childEvent) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(ev)
	}
	s := New(Params{
		OnRoutes:   func(ev routing.PathEvent) { say(childEvent{Routes: &ev}) },
		OnSessions: func(ss []routing.SessionStatus) { say(childEvent{Sessions: ss}) },
	})
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	dec := json.NewDecoder(in)
	for {
		var c routing.BGPConfig
		if err := dec.Decode(&c); err != nil {
			break // standard input closed: the orderly end
		}
		ev := childEvent{Set: true}
		if err := s.Set(ctx, c); err != nil {
			ev.Error = err.Error()
		}
		say(ev)
	}
	cancel()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a speaker in a process of its own.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan childEvent

	event    routing.PathEvent
	sessions []routing.SessionStatus
	// lost counts the events of routes for which watchFor does not hold, if it is set.
	lost     int
	watchFor func(routing.PathEvent, []routing.SessionStatus) bool
}

func startChild(t *testing.T) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startChildBy(t, exec.Command(self))
}

// startChildBy is startChild with a command that runs the test binary.
func startChildBy(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	var err error
	c := &child{t: t, cmd: cmd, events: make(chan childEvent, 1000)}
	c.cmd.Env = append(os.Environ(), speakerEnv+"=1")
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.events)
		dec := json.NewDecoder(bufio.NewReader(stdout))
		for {
			var ev childEvent
			if dec.Decode(&ev) != nil {
				return
			}
			c.events <- ev
		}
	}()
	t.Cleanup(c.kill)
	return c
}

// kill ends the process as a crash would.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	for range c.events {
	}
	_ = c.cmd.Wait()
}

// end ends the process in order.
func (c *child) end() {
	_ = c.stdin.Close()
	for range c.events {
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("speaker process: %v", err)
	}
}

func (c *child) set(config routing.BGPConfig) {
	c.t.Helper()
	if err := json.NewEncoder(c.stdin).Encode(config); err != nil {
		c.t.Fatal(err)
	}
	c.until("Set", func(ev childEvent) bool {
		if ev.Error != "" {
			c.t.Fatalf("Set: %s", ev.Error)
		}
		return ev.Set
	})
}

func (c *child) until(what string, cond func(childEvent) bool) {
	c.t.Helper()
	timeout := time.After(deadline)
	for {
		select {
		case ev, ok := <-c.events:
			if !ok {
				c.t.Fatalf("the speaker process ended: %s", what)
			}
			if ev.Routes != nil {
				c.event = *ev.Routes
				if c.watchFor != nil && !c.watchFor(c.event, nil) {
					c.lost++
				}
			}
			if ev.Sessions != nil {
				c.sessions = ev.Sessions
			}
			if cond(ev) {
				return
			}
		case <-timeout:
			c.t.Fatalf("timeout: %s\nroutes: %+v\nsessions: %+v", what, c.event, c.sessions)
		}
	}
}

func (c *child) eventually(what string, cond func(routing.PathEvent, []routing.SessionStatus) bool) {
	c.t.Helper()
	if cond(c.event, c.sessions) {
		return
	}
	c.until(what, func(childEvent) bool { return cond(c.event, c.sessions) })
}

// SPDX-License-Identifier: Apache-2.0

package testnet

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// Namespace is a network namespace of the running test.
type Namespace struct {
	// Name is its name under /run/netns (of the test, not of the machine).
	Name   string
	handle netns.NsHandle
}

// New makes another network namespace, with its loopback up.
func New(t *testing.T, name string) *Namespace {
	t.Helper()
	n := &Namespace{Name: name}
	err := onThread(func() error {
		h, err := netns.NewNamed(name)
		n.handle = h
		return err
	})
	if err != nil {
		t.Fatalf("creating namespace %s: %v", name, err)
	}
	t.Cleanup(func() { _ = n.handle.Close() })
	n.Exec(t, "ip link set lo up")
	return n
}

// Path is where the namespace can be opened, for CNI_NETNS and the like.
func (n *Namespace) Path() string { return filepath.Join("/run/netns", n.Name) }

// Do runs fn on a thread in the namespace and returns its error. Goroutines
// that fn starts are not in the namespace; sockets that it opens stay there.
func (n *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("entering namespace %s: %w", n.Name, err)
		}
		return fn()
	})
}

// Command prepares a program to run in the namespace.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.Path(), "--", name}, args...)...)
}

// Exec runs a command line, split at white space, in the namespace and returns
// what it printed. The test fails when the command does.
func (n *Namespace) Exec(t *testing.T, line string) string {
	t.Helper()
	out, err := n.run(line)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Exec for a command that may fail.
func (n *Namespace) Try(line string) error {
	_, err := n.run(line)
	return err
}

func (n *Namespace) run(line string) (string, error) {
	f := strings.Fields(line)
	out, err := n.Command(context.Background(), f[0], f[1:]...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("in %s: %s: %w\n%s", n.Name, line, err, out)
	}
	return string(out), nil
}

// End is one end of a veth pair.
type End struct {
	NS   *Namespace
	Name string
	// MAC is the address of the end; empty: random.
	MAC string
	// MTU in bytes; 0: 1500.
	MTU int
	// Addrs are addresses with prefix length. IPv6 ones skip duplicate detection.
	Addrs []string
}

// Veth connects two namespaces by a pair of interfaces that are up.
func Veth(t *testing.T, a, b End) {
	t.Helper()
	a.NS.Exec(t, fmt.Sprintf("ip link add %s type veth peer name %s netns %s", a.Name, b.Name, b.NS.Name))
	for _, e := range []End{a, b} {
		if e.MAC != "" {
			e.NS.Exec(t, "ip link set "+e.Name+" address "+e.MAC)
		}
		if e.MTU != 0 {
			e.NS.Exec(t, "ip link set "+e.Name+" mtu "+strconv.Itoa(e.MTU))
		}
		for _, addr := range e.Addrs {
			line := "ip address add " + addr + " dev " + e.Name
			if strings.Contains(addr, ":") {
				line += " nodad"
			}
			e.NS.Exec(t, line)
		}
		e.NS.Exec(t, "ip link set "+e.Name+" up")
	}
}

// WaitFor calls cond until it returns nil, and fails the test with its last
// error when that takes longer than within.
func WaitFor(t *testing.T, within time.Duration, cond func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %v", within, err)
		case <-t.Context().Done():
			t.Fatalf("test is over: %v", err)
		case <-tick.C:
		}
	}
}

// init keeps the first thread of the process for the main goroutine. Were a
// thread of onThread the first, /proc/self, and with it /proc/net, would show
// the namespace that it entered.
func init() { runtime.LockOSThread() }

// onThread runs fn on a thread that is thrown away afterwards, so that a
// changed namespace cannot reach another goroutine.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- fn()
	}()
	return <-done
}

// SPDX-License-Identifier: Apache-2.0

package pause

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRunReapsChildren(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx) }()
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	// A reaped child's process ID is free; a zombie's still takes signals.
	deadline := time.Now().Add(20 * time.Second)
	for unix.Kill(child.Process.Pid, 0) == nil {
		if time.Now().After(deadline) {
			t.Fatal("the child was not reaped")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// The test's own Wait finds nothing left to wait for.
	if err := child.Wait(); !errors.Is(err, unix.ECHILD) {
		t.Errorf("wait: %v, want ECHILD", err)
	}
}

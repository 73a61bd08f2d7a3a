// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestUplinkGuard: the node gets its uplink back when the switch is away for long,
// and not before.
func TestUplinkGuard(t *testing.T) {
	alive, moved, fault, given := true, true, error(nil), 0
	g := &uplinkGuard{
		alive: func(context.Context) bool { return alive },
		moved: func() (bool, error) { return moved, fault },
		giveBack: func(context.Context) error {
			given++
			moved = false
			return nil
		},
	}
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		after        time.Duration
		alive, moved bool
		fault        error
		given        int
	}{
		{0, true, true, nil, 0},
		{time.Hour, false, true, nil, 0},
		{switchAway - 1, false, true, nil, 0},
		{0, true, true, nil, 0}, // back in time
		{switchAway, false, true, nil, 0},
		{switchAway, false, true, nil, 1},
		{switchAway, false, false, nil, 1}, // the node has it
		{time.Hour, false, true, nil, 1},   // taken by one that ended at once
		{switchAway, false, true, errors.New("unreadable"), 1},
		{0, false, true, nil, 1},
		{switchAway, false, true, nil, 2},
	} {
		now = now.Add(step.after)
		alive, moved, fault = step.alive, step.moved, step.fault
		if err := g.look(t.Context(), now); !errors.Is(err, step.fault) {
			t.Errorf("step %d: %v", i, err)
		}
		if given != step.given {
			t.Errorf("step %d: given back %d times, want %d", i, given, step.given)
		}
	}
}

func TestListens(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	if listens(t.Context(), socket) {
		t.Error("no socket, but somebody listens")
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if !listens(t.Context(), socket) {
		t.Error("nobody listens")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	_ = l.Close()
	if listens(t.Context(), socket) {
		t.Error("the process is gone, but somebody listens")
	}
}

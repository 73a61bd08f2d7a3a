// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestSyncConnectedGivesUpWithoutConnection(t *testing.T) {
	m := newMemory(t)
	var back atomic.Bool
	connect := func() (ofswitch, error) {
		if !back.Load() {
			return nil, errors.New("no such socket")
		}
		return m.dial()
	}
	withTarget(t, connect, func(t *testing.T, target *Target) {
		mustUpdate(t, target, "a", simple(0, 1, 1))
		started := time.Now()
		err := target.SyncConnected(t.Context(), time.Second, "a")
		if err == nil || !strings.Contains(err.Error(), "no connection for 1s (no such socket)") {
			t.Errorf("error %v says neither what nor why", err)
		}
		if took := time.Since(started); took != time.Second {
			t.Errorf("gave up after %s", took)
		}
		back.Store(true)
		if err := target.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustUpdate(t, target, "a", simple(0, 2, 1))
		if err := target.SyncConnected(t.Context(), time.Second, "a"); err != nil {
			t.Error(err)
		}
	})
}

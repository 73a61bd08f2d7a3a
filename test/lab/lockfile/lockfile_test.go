// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "lock")
	unlock, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ended, path); !errors.Is(err, context.Canceled) {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	again, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	// Whoever waits must not hold a lock on a file that was removed meanwhile.
	locked := make(chan error)
	go func() {
		unlock, err := Lock(t.Context(), path)
		if err == nil {
			defer unlock()
			_, err = os.Stat(path)
		}
		locked <- err
	}()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again()
	if err := <-locked; err != nil {
		t.Errorf("lock after removal: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/routing/bfd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// take is Take that must not last.
func take(t *testing.T, dir string) *Turn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	turn, err := Take(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// standBy begins a standby, and returns what ends it.
func standBy(t *testing.T, dir string) func() {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Standby(ctx, dir) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// until waits for somebody to have a lock, or for nobody to.
func until(t *testing.T, dir, name string, held bool) {
	t.Helper()
	f, err := open(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	timeout := time.After(20 * time.Second)
	for {
		nobody, err := free(f)
		if err != nil {
			t.Fatal(err)
		}
		if nobody != held {
			return
		}
		select {
		case <-timeout:
			t.Fatalf("%s: held is still %v", name, !held)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestTurns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	first := take(t, dir)
	end := standBy(t, dir)
	short, cancel := context.WithTimeout(t.Context(), 3*poll)
	defer cancel()
	if _, err := Take(short, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second speaker: %v", err)
	}
	if err := first.End(); err != nil {
		t.Fatal(err)
	}
	until(t, dir, senderLock, true) // by the standby
	second := take(t, dir)
	if err := second.End(); err != nil {
		t.Fatal(err)
	}
	until(t, dir, senderLock, true)
	end()
	until(t, dir, senderLock, false)
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	turn := take(t, dir)
	defer func() { _ = turn.End() }()
	if c, err := turn.Load(); c != nil || err != nil {
		t.Errorf("before anything is saved: %v, %v", c, err)
	}
	want := bfd.Checkpoint{{
		Session: bfd.Session{
			Name: "tor", Peer: netip.MustParseAddr("192.0.2.2"), MinTTL: 255,
			DesiredMinTx: time.Second, RequiredMinRx: time.Second, DetectMult: 3,
		},
		LocalDiscriminator: 7, State: bfd.Down, TxInterval: time.Second, RxInterval: time.Second,
	}}
	for range 2 {
		if err := turn.Save(want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := turn.Load()
	same := cmp.Comparer(func(a, b bfd.Saved) bool { return a == b })
	if diff := cmp.Diff(want, got, same); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	info, err := os.Stat(filepath.Join(dir, checkpointFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, checkpointFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := turn.Load(); err == nil {
		t.Errorf("broken: %v", c)
	}
}

// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waymark-net/waymark/policy"
)

// checker is a Consumer that looks what is on disk when it is called.
type checker struct {
	t       *testing.T
	disk    Disk
	state   *policy.State
	fail    bool
	applied int
}

func (k *checker) Apply(_ context.Context, u *policy.Update) error {
	next := k.state.Clone()
	next.Apply(u)
	s, err := k.disk.load()
	if err != nil || s == nil || !same(s.state, next) {
		k.t.Fatalf("what is to be enforced is not on disk: %v", err)
	}
	if k.fail {
		return errors.New("no")
	}
	k.state = next
	k.applied++
	return nil
}

// TestKilledClient has clients that end at any time and leave what they have.
func TestKilledClient(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		k := &checker{t: t, disk: *testDisk(t), state: policy.NewState()}
		var c *Client
		start := func() {
			c = NewClient(ClientParams{Node: "n1", Consumer: k, Disk: k.disk, Now: time.Now})
			k.state, k.fail = policy.NewState(), false
			if err := c.load(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		start()
		for n := 1; n < 60; n++ {
			k.fail = rng.IntN(5) == 0
			u := randomUpdate(rng, c.state)
			_, known := c.state.Groups[id(1)]
			u.Groups, u.GoneGroups = []policy.GroupUpdate{group(1, !known, n)}, nil
			if err := c.apply(t.Context(), u, nil, position(n)); (err != nil) != k.fail {
				t.Fatal(err)
			}
			switch rng.IntN(8) {
			case 0:
				start()
				if n > 10 && k.applied == 0 {
					t.Fatal("nothing was enforced")
				}
			case 1:
				if err := c.saver.save(); err != nil {
					t.Fatal(err)
				}
			case 2: // a snapshot that is not written
				snapshot(t, c.journal, 0)
			}
		}
	}
}

// TestDiskFails has updates enforced though they cannot be stored.
func TestDiskFails(t *testing.T) {
	d := testDisk(t)
	g := &agent{state: policy.NewState()}
	c := NewClient(ClientParams{Node: "n1", Consumer: g, Disk: *d, Now: time.Now})
	apply := func(n int) {
		t.Helper()
		if err := c.apply(t.Context(), step(n), nil, position(n)); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Dir(d.Path)
	apply(1)
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	if err := c.saver.save(); err == nil {
		t.Fatal("saved")
	}
	apply(2) // the log failed to begin anew
	apply(3)
	if !c.journal.full() || len(c.saver.due) != 1 {
		t.Error("no snapshot is due")
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, d, 1); err != nil {
		t.Error(err)
	}
	if err := c.saver.save(); err != nil {
		t.Fatal(err)
	}
	apply(4)
	if _, err := verify(t, d, 4); err != nil || !same(g.state, after(4)) {
		t.Errorf("%v", err)
	}
	// A log that grows, and snapshots that fail.
	c.journal.limit = c.journal.size / 2
	c.journal.written(0, errors.New("no"))
	for n := 5; !c.journal.gap; n++ {
		apply(n)
		if n > 100 {
			t.Fatalf("the log grows to %d bytes", c.journal.size)
		}
	}
	if _, err := d.load(); err != nil || len(files(t, d)) != 2 {
		t.Errorf("%v, files %v", err, files(t, d))
	}
}

// TestSaver looks when snapshots are written.
func TestSaver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDisk(t)
		c := NewClient(ClientParams{Node: "n1", Consumer: &agent{state: policy.NewState()}, Disk: *d, Now: time.Now})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.saver.run(ctx) }()
		apply := func(n int) {
			t.Helper()
			if err := c.apply(ctx, step(n), nil, position(n)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		saved := func(n uint64) {
			t.Helper()
			if s, err := d.loadSnapshot(); err != nil || s.sequence != n {
				t.Errorf("the snapshot is that of update %d, want %d, %v", s.sequence, n, err)
			}
		}
		apply(1)
		saved(1)
		apply(2)
		time.Sleep(saveInterval - time.Second)
		saved(1)
		time.Sleep(time.Second)
		synctest.Wait()
		saved(2)
		c.journal.limit = 1
		apply(3)
		saved(3)
		apply(4)
		saved(3)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		saved(4)
	})
}

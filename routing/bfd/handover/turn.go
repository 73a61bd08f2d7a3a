// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/routing/bfd"
)

const (
	speakerLock    = "speaker.lock"
	senderLock     = "bfd.lock"
	checkpointFile = "bfd.json"
	// poll is how often locks are tried. It is most of what nobody sends for.
	poll = 20 * time.Millisecond
)

// Turn is the right to send BFD packets on this node.
type Turn struct {
	dir   string
	locks []*os.File
}

// Take waits until it is the speaker's turn, or for the end of ctx. A standby
// gives up its own at once.
func Take(ctx context.Context, dir string) (*Turn, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	t := &Turn{dir: dir}
	for _, name := range []string{speakerLock, senderLock} {
		f, err := open(dir, name)
		if err != nil {
			return nil, errors.Join(err, t.End())
		}
		t.locks = append(t.locks, f)
		if err := wait(ctx, f); err != nil {
			return nil, errors.Join(err, t.End())
		}
	}
	return t, nil
}

// End gives the turn to whoever wants it. No engine may run any more.
func (t *Turn) End() error {
	var errs []error
	for _, f := range t.locks {
		errs = append(errs, f.Close())
	}
	t.locks = nil
	return errors.Join(errs...)
}

// Load returns what whoever had the turn before left.
func (t *Turn) Load() (bfd.Checkpoint, error) {
	b, err := os.ReadFile(filepath.Join(t.dir, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return bfd.DecodeCheckpoint(b)
}

// Save keeps a checkpoint for whoever has the turn next.
func (t *Turn) Save(c bfd.Checkpoint) error {
	b, err := c.Encode()
	if err != nil {
		return fmt.Errorf("BFD checkpoint: %w", err)
	}
	path := filepath.Join(t.dir, checkpointFile)
	// Only who has the turn writes, and what was left half written is replaced.
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func open(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
}

// try takes a lock if it is free, and says whether it was.
func try(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// wait takes a lock when it is free.
func wait(ctx context.Context, f *os.File) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		if ok, err := try(f, unix.LOCK_EX); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

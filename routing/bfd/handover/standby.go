// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing/bfd"
)

// retry is how long a standby that cannot be one waits.
const retry = time.Second

// Standby goes on with the sessions whenever there is no speaker, until ctx ends.
func Standby(ctx context.Context, dir string) error {
	for {
		if err := stand(ctx, dir); ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot stand by for the routing speaker's BFD, will try again")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retry):
		}
	}
}

// stand is Standby until something fails.
func stand(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	speaker, err := open(dir, speakerLock)
	if err != nil {
		return err
	}
	defer func() { _ = speaker.Close() }()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		away, err := free(speaker)
		if err != nil {
			return err
		}
		if away {
			if err := standIn(ctx, dir, speaker); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// standIn sends until there is a speaker, unless somebody else sends.
func standIn(ctx context.Context, dir string, speaker *os.File) error {
	sender, err := open(dir, senderLock)
	if err != nil {
		return err
	}
	turn := &Turn{dir: dir, locks: []*os.File{sender}}
	defer func() { _ = turn.End() }()
	if ok, err := try(sender, unix.LOCK_EX); !ok || err != nil {
		return err
	}
	logger := klog.FromContext(ctx)
	checkpoint, err := turn.Load()
	if err != nil {
		logger.Error(err, "BFD sessions that were cannot go on")
	}
	engine := NewEngine(turn, bfd.Params{}, logger)
	engine.Resume(checkpoint)
	logger.Info("The routing speaker is away, its BFD sessions go on here", "sessions", len(checkpoint))
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()
	err = untilTaken(running, speaker)
	cancel()
	err = errors.Join(err, <-ended)
	logger.Info("BFD sessions are the routing speaker's again", "reason", err)
	return err
}

// NewEngine returns an engine that keeps its checkpoints for the next turn.
func NewEngine(t *Turn, p bfd.Params, logger klog.Logger) *bfd.Engine {
	p.OnCheckpoint = func(c bfd.Checkpoint) {
		if err := t.Save(c); err != nil {
			logger.Error(err, "BFD sessions could not go on without this process")
		}
	}
	return bfd.New(p)
}

// untilTaken waits until there is a speaker, or for the end of ctx.
func untilTaken(ctx context.Context, speaker *os.File) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if away, err := free(speaker); !away || err != nil {
				return err
			}
		}
	}
}

// free says whether nobody has a lock. A speaker that tries it at this moment
// tries again.
func free(f *os.File) (bool, error) {
	ok, err := try(f, unix.LOCK_SH)
	if ok {
		_, err = try(f, unix.LOCK_UN)
	}
	return ok, err
}

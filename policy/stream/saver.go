// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"time"

	"k8s.io/klog/v2"
)

// How often a snapshot is written while the State changes: at most once in
// saveInterval, and for at most one part in saveShare of the time, unless the log
// has grown so much that to read it takes as long as to read a snapshot. Nobody
// waits for it: what is newer is in the log.
const (
	saveInterval = 5 * time.Second
	saveShare    = 20
)

// saver stores a client's State on a goroutine of its own.
type saver struct {
	client *Client
	// dirty has an element when there is something to store, due when that is not
	// to wait.
	dirty, due chan struct{}
}

func newSaver(c *Client) *saver {
	return &saver{client: c, dirty: make(chan struct{}, 1), due: make(chan struct{}, 1)}
}

func (s *saver) mark() { signal(s.dirty) }

// hurry asks for a snapshot as soon as possible.
func (s *saver) hurry() { signal(s.due) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run stores what changed until ctx ends, and then the last time.
func (s *saver) run(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	save := func() error {
		err := s.save()
		if err != nil {
			logger.Error(err, "Policy is enforced but not stored as a whole")
			s.mark()
		}
		return err
	}
	for {
		select {
		case <-s.dirty:
		case <-ctx.Done():
			select {
			case <-s.dirty:
				_ = save()
			default:
			}
			return context.Cause(ctx)
		}
		started, due := time.Now(), s.due
		if save() != nil {
			due = nil // a disk that fails is not to be hurried
		}
		timer := time.NewTimer(max(saveInterval, saveShare*time.Since(started)))
		select {
		case <-ctx.Done():
		case <-due:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// save writes a snapshot and removes the logs that it replaces.
func (s *saver) save() error {
	c := s.client
	select { // what is due now is done by this
	case <-s.due:
	default:
	}
	// The State changes only while storing is held.
	c.storing.Lock()
	data, needed, err := c.journal.snapshot(c.state, c.position)
	c.storing.Unlock()
	if err == nil {
		err = c.params.Disk.write(data)
	}
	c.storing.Lock()
	c.journal.written(len(data), err)
	c.storing.Unlock()
	if err != nil {
		return err
	}
	return c.params.Disk.removeLogs(needed)
}

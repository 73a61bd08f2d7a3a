// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"time"

	"k8s.io/klog/v2"
)

// How often the State is stored while it changes: at most once in saveInterval,
// and for at most one part in saveShare of the time. A Pod's ADD does not wait
// for it: what the file lacks after a crash the agent is sent again when it
// subscribes, which takes less than one fsync on a busy disk would add to every
// Pod; and an agent that is asked to end stores all.
const (
	saveInterval = 5 * time.Second
	saveShare    = 20
)

// saver stores a client's State on a goroutine of its own.
type saver struct {
	client *Client
	dirty  chan struct{}
}

func newSaver(c *Client) *saver { return &saver{client: c, dirty: make(chan struct{}, 1)} }

func (s *saver) mark() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// run stores what changed until ctx ends, and then the last time.
func (s *saver) run(ctx context.Context) error {
	for {
		select {
		case <-s.dirty:
		case <-ctx.Done():
			select {
			case <-s.dirty:
				s.save(ctx)
			default:
			}
			return context.Cause(ctx)
		}
		started := time.Now()
		s.save(ctx)
		// An error to sleep is the end, which the next turn sees.
		_ = sleep(ctx, max(saveInterval, saveShare*time.Since(started)))
	}
}

func (s *saver) save(ctx context.Context) {
	c := s.client
	c.mu.Lock()
	data, err := c.params.Disk.encode(c.state, c.position)
	c.mu.Unlock()
	if err == nil {
		err = c.params.Disk.write(data)
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Policy is enforced but not stored")
		s.mark()
	}
}

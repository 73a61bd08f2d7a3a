// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"time"

	"k8s.io/klog/v2"
)

// Params describe a Loop.
type Params struct {
	// Name is used in log lines.
	Name string
	// Reconcile brings the target to its desired state. An error makes the
	// loop try again after a delay; it does not end the loop.
	Reconcile func(ctx context.Context) error
	// MinInterval is the least time between the starts of two runs, so that a
	// burst of marks costs one run.
	MinInterval time.Duration
	// MaxInterval is the longest time between two runs although nothing was marked.
	MaxInterval time.Duration
	// RetryBase and RetryMax bound the delay after an error; it doubles from
	// one to the other with every failure in a row.
	RetryBase, RetryMax time.Duration
}

// Loop runs one reconciliation function on one goroutine. Mark may be called
// from any goroutine.
type Loop struct {
	params Params
	dirty  chan struct{}
}

// New returns a loop that is marked once, so that Run starts with a run.
func New(params Params) *Loop {
	l := &Loop{params: params, dirty: make(chan struct{}, 1)}
	l.Mark()
	return l
}

// Mark asks for a run. Marks that come before the run starts are one.
func (l *Loop) Mark() {
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// Run drives the loop until ctx ends and returns its cause.
func (l *Loop) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithValues("loop", l.params.Name)
	ctx = klog.NewContext(ctx, logger)
	failures := 0
	for {
		if err := l.wait(ctx, failures); err != nil {
			return err
		}
		started := time.Now()
		if err := l.params.Reconcile(ctx); err != nil {
			failures++
			if ctx.Err() == nil {
				logger.Error(err, "Reconciliation failed, will try again", "failures", failures, "after", l.retryDelay(failures))
			}
		} else {
			failures = 0
		}
		if err := sleep(ctx, l.params.MinInterval-time.Since(started)); err != nil {
			return err
		}
	}
}

// wait returns when the next run is due.
func (l *Loop) wait(ctx context.Context, failures int) error {
	longest := l.params.MaxInterval
	if failures > 0 {
		longest = min(longest, l.retryDelay(failures))
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.dirty:
	case <-timer.C:
	}
	return nil
}

func (l *Loop) retryDelay(failures int) time.Duration {
	delay := l.params.RetryBase
	for i := 1; i < failures && delay < l.params.RetryMax; i++ {
		delay *= 2
	}
	return min(delay, l.params.RetryMax)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

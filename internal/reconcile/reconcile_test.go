// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func params(run func(context.Context) error) Params {
	return Params{
		Name:        "test",
		Reconcile:   run,
		MinInterval: 100 * time.Millisecond,
		MaxInterval: 30 * time.Second,
		RetryBase:   time.Second,
		RetryMax:    4 * time.Second,
	}
}

// runs records at which offsets from the start the loop ran, until stop.
func runs(t *testing.T, stop time.Duration, result func(n int) error, drive func(*Loop)) []time.Duration {
	t.Helper()
	var got []time.Duration
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), stop)
		defer cancel()
		loop := New(params(func(context.Context) error {
			got = append(got, time.Since(start))
			return result(len(got))
		}))
		if drive != nil {
			go drive(loop)
		}
		if err := loop.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v, want the end of its context", err)
		}
	})
	return got
}

func ok(int) error { return nil }

func TestRunsAtStartAndAtMaxInterval(t *testing.T) {
	got := runs(t, 61*time.Second, ok, nil)
	want := []time.Duration{0, 30*time.Second + 100*time.Millisecond, 60*time.Second + 200*time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBurstOfMarksIsOneRunAfterMinInterval(t *testing.T) {
	got := runs(t, time.Second, ok, func(l *Loop) {
		time.Sleep(10 * time.Millisecond)
		for range 50 {
			l.Mark()
		}
	})
	want := []time.Duration{0, 100 * time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsAreRetriedWithGrowingDelay(t *testing.T) {
	fails := func(n int) error {
		if n < 5 {
			return errors.New("not yet")
		}
		return nil
	}
	got := runs(t, 20*time.Second, fails, nil)
	pause := 100 * time.Millisecond
	want := []time.Duration{0, time.Second + pause, 3*time.Second + 2*pause, 7*time.Second + 3*pause, 11*time.Second + 4*pause}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

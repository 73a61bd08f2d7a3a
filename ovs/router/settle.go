// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"time"
)

// Settle has the switch look at nudgeFirst after it was asked to wait, and again
// after each nudgeAgain.
const (
	nudgeFirst = 5 * time.Millisecond
	nudgeAgain = 50 * time.Millisecond
)

// Settle waits until the switch has looked at all that its datapath remembers, so
// that packets go as flows and routes say now. It does that when something changes,
// and every half a second (other_config:max-revalidator): where it has looked before
// Settle asks, that would be the time to wait for. A route that is set anew, as it
// was, is a change.
func (a *Applier) Settle(ctx context.Context) error {
	// The look that ends first may have begun before the change.
	for range 2 {
		if err := a.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *Applier) look(ctx context.Context) error {
	looked := make(chan error, 1)
	go func() {
		_, err := a.call(ctx, "revalidator/wait")
		looked <- err
	}()
	timer := time.NewTimer(nudgeFirst)
	defer timer.Stop()
	var errs []error
	for {
		select {
		case err := <-looked:
			return errors.Join(append(errs, err)...)
		case <-timer.C:
			if a.one.Dst.IsValid() && len(errs) == 0 {
				if err := a.add(ctx, a.one); err != nil {
					errs = append(errs, err)
				}
			}
			timer.Reset(nudgeAgain)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// errNotReady is why a wait ended that no better reason is known for.
var errNotReady = errors.New("no answer from the switch yet")

// Sync waits until all that the owners had declared when it was called is in
// the switch, confirmed by a barrier; without owners, all of all owners. It
// returns the switch's error (ErrRefused) for an owner whose change was
// refused. When ctx ends before, the error says what was waited for.
func (t *Target) Sync(ctx context.Context, owners ...string) error {
	return t.wait(ctx, 0, t.have(owners))
}

// SyncConnected is Sync for those by whose work the switch comes back: it fails
// as soon as there was no connection for as long as patience.
func (t *Target) SyncConnected(ctx context.Context, patience time.Duration, owners ...string) error {
	return t.wait(ctx, patience, t.have(owners))
}

// have returns whether the switch has what owners, or all, want now; to be
// called with t.mu held.
func (t *Target) have(owners []string) func() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := map[string]uint64{}
	for _, owner := range owners {
		if o, ok := t.owners[owner]; ok {
			wanted[owner] = o.wanted
		}
	}
	if len(owners) == 0 {
		for owner, o := range t.owners {
			wanted[owner] = o.wanted
		}
	}
	return func() (bool, error) {
		done := t.inSync
		var errs []error
		for owner, n := range wanted {
			o, ok := t.owners[owner]
			switch {
			case !ok:
				// Deleted, and the deletion is in the switch.
			case o.err != nil:
				errs = append(errs, fmt.Errorf("flows of %s: %w", owner, o.err))
			case o.done < n:
				done = false
			}
		}
		return done || len(errs) > 0, errors.Join(errs...)
	}
}

// Owners returns the owners that want flows or groups, or whose deletion is not
// in the switch yet, in no order.
func (t *Target) Owners() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.owners))
}

// WaitReady waits until there is a connection and the switch has what is
// wanted.
func (t *Target) WaitReady(ctx context.Context) error {
	return t.wait(ctx, 0, func() (bool, error) { return t.inSync, nil })
}

// Ready says why the switch does not have what is wanted, nil when it has.
// Changes that are just being sent do not count.
func (t *Target) Ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inSync {
		return nil
	}
	return t.reason()
}

func (t *Target) reason() error {
	if t.lastErr != nil {
		return t.lastErr
	}
	return errNotReady
}

// wait calls cond, with t.mu held, after every change until it is true. It gives
// up when there was no connection for as long as patience, if that is not 0.
func (t *Target) wait(ctx context.Context, patience time.Duration, cond func() (bool, error)) error {
	var lost <-chan time.Time
	for {
		t.mu.Lock()
		done, err := cond()
		changed, reason, connected := t.changed, t.reason(), t.stats.Connected
		t.mu.Unlock()
		if done {
			return err
		}
		switch {
		case connected:
			lost = nil
		case lost == nil && patience > 0:
			lost = time.After(patience)
		}
		select {
		case <-changed:
		case <-lost:
			return fmt.Errorf("wait for the switch: no connection for %s (%w)", patience, reason)
		case <-ctx.Done():
			return fmt.Errorf("wait for the switch: %w (%w)", context.Cause(ctx), reason)
		}
	}
}

// Stats are the counters of a Target since it was made.
type Stats struct {
	// Connected says whether there is a connection; InSync whether the switch
	// of that connection has been brought to what is wanted.
	Connected, InSync bool
	// Flows and Groups are wanted now; Owners want them.
	Flows, Groups, Owners int
	// FlowAdds, FlowModifies and FlowDeletes count flow mods that the switch
	// took.
	FlowAdds, FlowModifies, FlowDeletes uint64
	// GroupAdds, GroupModifies and GroupDeletes count group mods likewise.
	GroupAdds, GroupModifies, GroupDeletes uint64
	// Bundles counts bundles that were committed, Refused those that were not.
	Bundles, Refused uint64
	// Audits counts comparisons with the switch; Repairs the flows and groups
	// in them that something else had changed.
	Audits, Repairs uint64
	// Connects counts connections.
	Connects uint64
}

// Stats returns the counters.
func (t *Target) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.InSync = t.inSync
	s.Flows, s.Groups = len(t.flows), len(t.groups)
	for _, o := range t.owners {
		if !o.deleted {
			s.Owners++
		}
	}
	return s
}

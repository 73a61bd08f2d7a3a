// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Defaults of Params.
const (
	DefaultAuditInterval = 5 * time.Second
	defaultRetryOwner    = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	minBackoff           = 100 * time.Millisecond
	maxBackoff           = 2 * time.Second
)

// Params describe a Target.
type Params struct {
	// Socket is the bridge's management socket, such as
	// /var/run/openvswitch/br-int.mgmt.
	Socket string
	// AuditInterval is how often the switch is read and compared with what is
	// wanted; 0 is DefaultAuditInterval.
	AuditInterval time.Duration
}

// Target keeps the flows and groups of many owners in one bridge.
type Target struct {
	params Params
	dial   func(ctx context.Context) (ofswitch, error)
	// wake holds one token when there is something to send.
	wake chan struct{}

	mu      sync.Mutex
	owners  map[string]*ownerState
	cookies map[uint64]string
	flows   map[flow.Key]*entry
	groups  map[uint32]*groupEntry
	dirty   dirtySet
	// complete says that every owner has been declared.
	complete bool
	// inSync says that the switch of the current connection was brought to
	// what was wanted at least once.
	inSync  bool
	lastErr error
	stats   Stats
	// changed is closed and replaced when anything above changed that a
	// waiter may wait for.
	changed chan struct{}
}

// ownerState is what one owner wants.
type ownerState struct {
	flows  []flow.Key
	groups []uint32
	// wanted counts the changes; done is the last one that is in the switch.
	wanted, done uint64
	// err is why the switch refused the last change, until the next one.
	err     error
	retryAt time.Time
	deleted bool
}

// dirtySet says what may differ from the switch, and through whom.
type dirtySet struct {
	// full makes all flows and groups count.
	full   bool
	flows  map[flow.Key]string
	groups map[uint32]string
	owners map[string]uint64
}

func newDirtySet() dirtySet {
	return dirtySet{flows: map[flow.Key]string{}, groups: map[uint32]string{}, owners: map[string]uint64{}}
}

func (d dirtySet) empty() bool { return !d.full && len(d.flows)+len(d.groups)+len(d.owners) == 0 }

// New returns a Target that wants nothing yet. Run connects it.
func New(params Params) *Target {
	if params.AuditInterval <= 0 {
		params.AuditInterval = DefaultAuditInterval
	}
	return &Target{
		params: params,
		dial: func(ctx context.Context) (ofswitch, error) {
			return connect(ctx, params.Socket)
		},
		wake:    make(chan struct{}, 1),
		owners:  map[string]*ownerState{},
		cookies: map[uint64]string{},
		flows:   map[flow.Key]*entry{},
		groups:  map[uint32]*groupEntry{},
		dirty:   newDirtySet(),
		changed: make(chan struct{}),
	}
}

// Update declares all flows and groups that owner wants; what it wanted before
// and is not among them goes. The cookies of the flows are set by the Target.
// Nothing is recorded when a flow or group is invalid, is named twice, or
// belongs to another owner (ErrConflict); the error names it. The caller must
// not change the flows afterwards.
func (t *Target) Update(owner string, flows []flow.Flow, groups []flow.Group) error {
	entries, err := newEntries(owner, flows)
	if err != nil {
		return fmt.Errorf("update %s: %w", owner, err)
	}
	groupEntries, err := newGroupEntries(owner, groups)
	if err != nil {
		return fmt.Errorf("update %s: %w", owner, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.conflicts(owner, entries, groupEntries); err != nil {
		return fmt.Errorf("update %s: %w", owner, err)
	}
	t.replace(owner, entries, groupEntries)
	return nil
}

// Delete declares that owner wants nothing any more.
func (t *Target) Delete(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleteLocked(owner)
}

func (t *Target) deleteLocked(owner string) {
	o, ok := t.owners[owner]
	if !ok || o.deleted {
		return
	}
	t.replace(owner, nil, nil)
	o.deleted = true
	t.forget(owner, o)
}

// Prune deletes every owner for which live returns false and returns how many
// it deleted. live must not call the Target.
func (t *Target) Prune(live func(owner string) bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for owner, o := range t.owners {
		if !o.deleted && !live(owner) {
			t.deleteLocked(owner)
			n++
		}
	}
	return n
}

// Complete declares that every owner of before the start has been declared
// again. From now on flows and groups that nobody wants are deleted.
func (t *Target) Complete() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.complete {
		return
	}
	t.complete = true
	t.dirty.full = true
	t.wakeUp()
}

func newEntries(owner string, flows []flow.Flow) (map[flow.Key]*entry, error) {
	cookie := Cookie(owner)
	entries := make(map[flow.Key]*entry, len(flows))
	var errs []error
	for _, f := range flows {
		if err := f.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		f.Cookie = cookie
		sum, err := sumActions(f.Actions)
		if err != nil {
			errs = append(errs, fmt.Errorf("flow %s: %w", f, err))
			continue
		}
		k := f.Key()
		if _, twice := entries[k]; twice {
			errs = append(errs, fmt.Errorf("%s is named twice", describeFlow(k)))
			continue
		}
		entries[k] = &entry{flow: f, owner: owner, cookie: cookie, sum: sum}
	}
	return entries, errors.Join(errs...)
}

func newGroupEntries(owner string, groups []flow.Group) (map[uint32]*groupEntry, error) {
	entries := make(map[uint32]*groupEntry, len(groups))
	var errs []error
	for _, g := range groups {
		if err := g.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		sum, err := sumGroup(g)
		if err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", g, err))
			continue
		}
		if _, twice := entries[g.ID]; twice {
			errs = append(errs, fmt.Errorf("%s is named twice", describeGroup(g.ID)))
			continue
		}
		entries[g.ID] = &groupEntry{group: g, owner: owner, sum: sum}
	}
	return entries, errors.Join(errs...)
}

func (t *Target) conflicts(owner string, flows map[flow.Key]*entry, groups map[uint32]*groupEntry) error {
	var errs []error
	for k := range flows {
		if other, ok := t.flows[k]; ok && other.owner != owner {
			errs = append(errs, &ConflictError{Owner: owner, Other: other.owner, Entry: describeFlow(k)})
		}
	}
	for id := range groups {
		if other, ok := t.groups[id]; ok && other.owner != owner {
			errs = append(errs, &ConflictError{Owner: owner, Other: other.owner, Entry: describeGroup(id)})
		}
	}
	return errors.Join(errs...)
}

// replace records what owner wants and marks what changed.
func (t *Target) replace(owner string, flows map[flow.Key]*entry, groups map[uint32]*groupEntry) {
	o, ok := t.owners[owner]
	if !ok {
		o = &ownerState{}
		t.owners[owner] = o
		t.cookies[Cookie(owner)] = owner
	}
	o.deleted = false
	// What the switch refused may have left differences that are no longer
	// marked.
	changed := o.err != nil
	t.dirty.full = t.dirty.full || o.err != nil
	o.err = nil
	for _, k := range o.flows {
		if _, keep := flows[k]; !keep {
			delete(t.flows, k)
			t.dirty.flows[k] = owner
			changed = true
		}
	}
	for _, id := range o.groups {
		if _, keep := groups[id]; !keep {
			delete(t.groups, id)
			t.dirty.groups[id] = owner
			changed = true
		}
	}
	o.flows, o.groups = o.flows[:0], o.groups[:0]
	for k, e := range flows {
		o.flows = append(o.flows, k)
		if old, ok := t.flows[k]; !ok || old.sum != e.sum {
			t.flows[k] = e
			t.dirty.flows[k] = owner
			changed = true
		}
	}
	for id, g := range groups {
		o.groups = append(o.groups, id)
		if old, ok := t.groups[id]; !ok || old.sum != g.sum {
			t.groups[id] = g
			t.dirty.groups[id] = owner
			changed = true
		}
	}
	if changed {
		o.wanted++
		t.dirty.owners[owner] = o.wanted
		t.wakeUp()
	}
}

// wakeUp tells Run that there is something to send. t.mu is held.
func (t *Target) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// broadcast lets every waiter look again. t.mu is held.
func (t *Target) broadcast() {
	close(t.changed)
	t.changed = make(chan struct{})
}

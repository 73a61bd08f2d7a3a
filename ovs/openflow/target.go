// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Defaults of Params.
const (
	DefaultAuditInterval = 5 * time.Second
	defaultRetryOwner    = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	// timeoutPerMod is what each flow mod of a bundle may take beside that, ten
	// times what it does take.
	timeoutPerMod = 300 * time.Microsecond
	minBackoff    = 100 * time.Millisecond
	maxBackoff    = 2 * time.Second
)

// Params describe a Target.
type Params struct {
	// Socket is the bridge's management socket, such as
	// /var/run/openvswitch/br-int.mgmt.
	Socket string
	// AuditInterval is how often the switch is read and compared with what is
	// wanted; 0 is DefaultAuditInterval. With very many flows it takes longer.
	AuditInterval time.Duration
	// Fresh, which may be nil, is called when Run finds a switch without any flow
	// and before it sends the first: it may declare what a switch needs only then.
	Fresh func()
	// Meters are the meters of the bridge, which flow.Controller actions name.
	// They are put there before any flow, and others are removed. With none,
	// meters are left alone.
	Meters []flow.Meter
	// Repaired, which may be nil, is called by Run with each repair of what something
	// else had changed, and must return soon.
	Repaired func(Repair)
	// Learned are the tables whose flows the switch makes itself, when packets
	// meet a flow.Learn, which may name no other table. What is in them is neither
	// adopted nor audited nor removed, and nobody can declare flows there.
	Learned []uint8
}

// Repair is what an audit found and put right.
type Repair struct {
	Flows, Groups, Meters int
	// Wrong is the time since the switch first told of it, else since the audit
	// began; what only regular audits find was wrong for up to their interval longer.
	Wrong time.Duration
}

// learned reports whether the flows of a table are the switch's own.
func (p Params) learned(table uint8) bool { return slices.Contains(p.Learned, table) }

// Target keeps the flows and groups of many owners in one bridge.
type Target struct {
	params Params
	dial   func(ctx context.Context) (ofswitch, error)
	// wake holds one token when there is something to send.
	wake chan struct{}
	// injector has the connection of Inject.
	injector idleConn

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
	name   string
	cookie uint64
	flows  []*entry
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
			return connect(ctx, params.Socket, params.learned)
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

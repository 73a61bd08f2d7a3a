// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"time"

	"k8s.io/klog/v2"
)

// take removes the marks and returns what must be sent for them, nil when
// nothing was marked. The batch may be without operations.
func (t *Target) take(have *mirror) *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dirty.empty() {
		return nil
	}
	d := t.dirty
	t.dirty = newDirtySet()
	b := &batch{owners: d.owners}
	var byKind [opKinds][]op
	emit := func(o op, differs bool) {
		if differs && t.allowed(o) {
			byKind[o.kind] = append(byKind[o.kind], o)
		}
	}
	if d.full {
		t.planAll(have, emit)
	} else {
		for k, who := range d.flows {
			o, differs := have.diffFlow(k, t.flows[k])
			emit(o.by(who), differs)
		}
		for id, who := range d.groups {
			o, differs := have.diffGroup(id, t.groups[id])
			emit(o.by(who), differs)
		}
	}
	for _, ops := range byKind {
		b.ops = append(b.ops, ops...)
	}
	return b
}

// by names who caused an operation that has no owner of its own.
func (o op) by(who string) op {
	if o.owner == "" {
		o.owner = who
	}
	return o
}

// same tells whether two operations are about the same entry.
func (o op) same(p op) bool {
	return o.kind == p.kind && o.key == p.key && o.group == p.group && string(o.foreign.match) == string(p.foreign.match)
}

// planAll compares everything.
func (t *Target) planAll(have *mirror, emit func(op, bool)) {
	for k, e := range t.flows {
		emit(have.diffFlow(k, e))
	}
	for k, p := range have.flows {
		if _, wanted := t.flows[k]; !wanted {
			emit(op{kind: flowsDelete, key: k, owner: t.cookies[p.cookie]}, true)
		}
	}
	for _, r := range have.foreign {
		emit(op{kind: foreignDelete, foreign: r}, true)
	}
	for id, g := range t.groups {
		emit(have.diffGroup(id, g))
	}
	for id := range have.groups {
		if _, wanted := t.groups[id]; !wanted {
			emit(op{kind: groupDelete, group: id}, true)
		}
	}
}

// allowed holds back deletions before the desired state is complete, and all
// that concerns an owner whose last change the switch refused: its flows stay
// as they are. A group that such an owner's flows may refer to stays too.
func (t *Target) allowed(o op) bool {
	switch o.kind {
	case flowsDelete, foreignDelete:
		if !t.complete {
			return false
		}
	case groupDelete:
		if !t.complete || t.anyRefused() {
			return false
		}
	}
	owner, ok := t.owners[o.owner]
	return !ok || owner.err == nil
}

func (t *Target) anyRefused() bool {
	for _, o := range t.owners {
		if o.err != nil {
			return true
		}
	}
	return false
}

// done records that the changes up to the given ones are in the switch.
func (t *Target) done(owners map[string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, n := range owners {
		o, ok := t.owners[name]
		if !ok || o.err != nil {
			continue
		}
		o.done = max(o.done, n)
		t.forget(name, o)
	}
	t.broadcast()
}

// forget lets go of an owner that was deleted once nothing of it is left to
// send. t.mu is held.
func (t *Target) forget(name string, o *ownerState) {
	if !o.deleted || o.done != o.wanted {
		return
	}
	delete(t.owners, name)
	if t.complete {
		delete(t.cookies, Cookie(name))
	}
}

// refused records why the switch did not take the change of an owner.
func (t *Target) refused(ctx context.Context, owner string, err error) {
	logger := klog.FromContext(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.owners[owner]
	if !ok {
		logger.Error(err, "The switch refused a change that has no owner")
		return
	}
	o.err = err
	o.retryAt = time.Now().Add(defaultRetryOwner)
	logger.Error(err, "The switch refused the flows of an owner", "owner", owner)
	t.broadcast()
}

// retryRefused marks refused changes to be sent again. t.mu is held.
func (t *Target) retryRefused(due func(*ownerState) bool) {
	for name, o := range t.owners {
		if o.err != nil && due(o) {
			o.err = nil
			t.dirty.full = true
			t.dirty.owners[name] = o.wanted
		}
	}
}

func (s *Stats) count(k opKind) {
	switch k {
	case groupAdd:
		s.GroupAdds++
	case groupModify:
		s.GroupModifies++
	case groupDelete:
		s.GroupDeletes++
	case flowsAdd:
		s.FlowAdds++
	case flowsModify:
		s.FlowModifies++
	case flowsDelete, foreignDelete:
		s.FlowDeletes++
	}
}

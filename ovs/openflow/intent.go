// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"errors"
	"fmt"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Update declares all flows and groups that owner wants; what it wanted before
// and is not among them goes. The cookies of the flows are set by the Target.
// Nothing is recorded when a flow or group is invalid, is named twice, is in a
// table that the switch fills (Params.Learned), has the switch fill another
// table, or belongs to another owner (ErrConflict); the error names it. The flows
// are not kept.
func (t *Target) Update(owner string, flows []flow.Flow, groups []flow.Group) error {
	entries := make(map[flow.Key]*entry, len(flows))
	groupEntries, err := newGroupEntries(owner, groups)
	if err = errors.Join(t.params.checkTables(flows), addEntries(entries, flows), err); err != nil {
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

// Patch changes some of the flows of any number of owners. What it records is
// sent in one atomic bundle, and it costs as much as it changes. A flow goes
// from one owner to another when one change removes it and another sets it.
//
// Nothing at all is recorded when a flow is invalid, is set twice or is both set
// and removed by one owner, or when a flow that is set or removed belongs to
// another owner (ErrConflict) that does not remove it; the error names it. When
// the switch refuses a flow, its owner is left out as after Update, and the
// changes of the others are made.
//
// Update still replaces everything that an owner has, also what Patch set.
func (t *Target) Patch(changes ...flow.Change) error {
	set := make([]map[flow.Key]*entry, len(changes))
	setBy := map[flow.Key]string{}
	var errs []error
	for i, c := range changes {
		set[i] = make(map[flow.Key]*entry, len(c.Set))
		errs = append(errs, t.params.checkTables(c.Set), addEntries(set[i], c.Set))
		for k := range set[i] {
			if _, twice := setBy[k]; twice {
				errs = append(errs, fmt.Errorf("%s is named twice", describeFlow(k)))
			}
			setBy[k] = c.Owner
		}
	}
	removed := map[flow.Key]bool{}
	for _, c := range changes {
		for _, k := range c.Remove {
			if owner, ok := setBy[k]; ok && owner == c.Owner {
				errs = append(errs, fmt.Errorf("%s is both set and removed", describeFlow(k)))
			}
			removed[k] = true
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("patch: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, c := range changes {
		for k := range set[i] {
			if !removed[k] {
				errs = append(errs, t.conflict(c.Owner, k))
			}
		}
		for _, k := range c.Remove {
			errs = append(errs, t.conflict(c.Owner, k))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("patch: %w", err)
	}
	t.patch(changes, set)
	return nil
}

// checkTables refuses flows in the tables of the switch, and that it learns what
// the next audit would remove.
func (p Params) checkTables(flows []flow.Flow) error {
	var errs []error
	for _, f := range flows {
		if p.learned(f.Table) {
			errs = append(errs, fmt.Errorf("%s: only the switch makes flows in table %d", describeFlow(f.Key()), f.Table))
		}
		for _, a := range f.Actions {
			if l, ok := a.(flow.Learn); ok && !p.learned(l.Table) {
				errs = append(errs, fmt.Errorf("%s: table %d is not for what is learned", describeFlow(f.Key()), l.Table))
			}
		}
	}
	return errors.Join(errs...)
}

// addEntries checks flows and adds them to entries.
func addEntries(entries map[flow.Key]*entry, flows []flow.Flow) error {
	var errs []error
	// Many flows do the same, such as addresses of one class.
	shared := map[string]string{}
	for _, f := range flows {
		if err := f.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		instructions, err := encodeInstructions(f.Actions)
		if err != nil {
			errs = append(errs, fmt.Errorf("flow %s: %w", f, err))
			continue
		}
		k := f.Key()
		if n := bundledLen(k, len(instructions)); n > maxMessage {
			errs = append(errs, fmt.Errorf("%s: %d bytes do not fit a message", describeFlow(k), n))
			continue
		}
		if _, twice := entries[k]; twice {
			errs = append(errs, fmt.Errorf("%s is named twice", describeFlow(k)))
			continue
		}
		text, known := shared[string(instructions)]
		if !known {
			text = string(instructions)
			shared[text] = text
		}
		entries[k] = &entry{key: k, instructions: text, sum: sumInstructions(instructions)}
	}
	return errors.Join(errs...)
}

func newGroupEntries(owner string, groups []flow.Group) (map[uint32]*groupEntry, error) {
	entries := make(map[uint32]*groupEntry, len(groups))
	var errs []error
	for _, g := range groups {
		if err := g.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		e, err := newGroupEntry(owner, g)
		if err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", g, err))
			continue
		}
		if _, twice := entries[g.ID]; twice {
			errs = append(errs, fmt.Errorf("%s is named twice", describeGroup(g.ID)))
			continue
		}
		entries[g.ID] = e
	}
	return entries, errors.Join(errs...)
}

// conflict is an error when another owner has a flow.
func (t *Target) conflict(owner string, k flow.Key) error {
	if other, ok := t.flows[k]; ok && other.owner.name != owner {
		return &ConflictError{Owner: owner, Other: other.owner.name, Entry: describeFlow(k)}
	}
	return nil
}

func (t *Target) conflicts(owner string, flows map[flow.Key]*entry, groups map[uint32]*groupEntry) error {
	var errs []error
	for k := range flows {
		errs = append(errs, t.conflict(owner, k))
	}
	for id := range groups {
		if other, ok := t.groups[id]; ok && other.owner != owner {
			errs = append(errs, &ConflictError{Owner: owner, Other: other.owner, Entry: describeGroup(id)})
		}
	}
	return errors.Join(errs...)
}

// changeOf begins a change of an owner, which is made when there is none. It
// reports whether there is something to send already: what the switch refused
// may have left differences that are no longer marked.
func (t *Target) changeOf(owner string) (o *ownerState, changed bool) {
	o, ok := t.owners[owner]
	if !ok {
		o = &ownerState{name: owner, cookie: Cookie(owner)}
		t.owners[owner] = o
		t.cookies[o.cookie] = owner
	}
	o.deleted = false
	changed = o.err != nil
	t.dirty.full = t.dirty.full || changed
	o.err = nil
	return o, changed
}

// record counts a change of an owner. t.mu is held.
func (t *Target) record(o *ownerState) {
	o.wanted++
	t.dirty.owners[o.name] = o.wanted
	t.wakeUp()
}

// put records a flow that o wants and reports whether that is new.
func (t *Target) put(o *ownerState, e *entry) bool {
	old, ok := t.flows[e.key]
	if ok && old.owner == o && old.sum == e.sum {
		return false
	}
	e.owner = o
	if ok && old.owner == o {
		e.at = old.at
		o.flows[e.at] = e
	} else {
		if ok {
			t.drop(old)
		}
		e.at = len(o.flows)
		o.flows = append(o.flows, e)
	}
	t.flows[e.key] = e
	t.dirty.flows[e.key] = o.name
	return true
}

// drop records that nobody wants a flow any more.
func (t *Target) drop(e *entry) {
	o := e.owner
	last := len(o.flows) - 1
	o.flows[e.at] = o.flows[last]
	o.flows[e.at].at = e.at
	o.flows[last] = nil
	o.flows = o.flows[:last]
	delete(t.flows, e.key)
	t.dirty.flows[e.key] = o.name
}

// patch records changes that have been checked.
func (t *Target) patch(changes []flow.Change, set []map[flow.Key]*entry) {
	touched := map[*ownerState]bool{}
	for _, c := range changes {
		o, changed := t.changeOf(c.Owner)
		touched[o] = touched[o] || changed
		for _, k := range c.Remove {
			if e, ok := t.flows[k]; ok {
				t.drop(e)
				touched[o] = true
			}
		}
	}
	for i, c := range changes {
		o := t.owners[c.Owner]
		for _, e := range set[i] {
			touched[o] = t.put(o, e) || touched[o]
		}
	}
	for o, changed := range touched {
		if changed {
			t.record(o)
		}
	}
}

// replace records what owner wants and marks what changed.
func (t *Target) replace(owner string, flows map[flow.Key]*entry, groups map[uint32]*groupEntry) {
	o, changed := t.changeOf(owner)
	for i := len(o.flows) - 1; i >= 0; i-- {
		if e := o.flows[i]; flows[e.key] == nil {
			t.drop(e)
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
	o.groups = o.groups[:0]
	for _, e := range flows {
		changed = t.put(o, e) || changed
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
		t.record(o)
	}
}

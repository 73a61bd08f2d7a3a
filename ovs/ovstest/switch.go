// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
)

// SwitchParams describe a fake switch.
type SwitchParams struct {
	// Tables are the tables that exist. Flows in others, and jumps to them,
	// are refused.
	Tables []uint8
	// Learned are tables too; openflow.Params.Learned says of which kind.
	Learned []uint8
}

// Switch is a fake switch behind the methods of openflow.Target. Changes take
// effect at once.
type Switch struct {
	// tables are those that exist; true means that the switch itself fills it.
	tables map[uint8]bool

	mu      sync.Mutex
	flows   map[flow.Key]ownedFlow
	groups  map[uint32]flow.Group
	byGroup map[uint32]string
	owners  map[string]*belongings
	// index finds the flows of a table.
	index map[uint8]*table
	conns *conntrack
	// learned are flows without an owner.
	learned map[flow.Key]*learnedFlow
	choose  func(flow.Group, Packet) int
	fault   error
}

type ownedFlow struct {
	flow.Flow
	owner string
}

// belongings are what an owner has in the switch.
type belongings struct {
	flows  map[flow.Key]bool
	groups map[uint32]bool
}

// NewSwitch returns a fake switch that holds nothing.
func NewSwitch(params SwitchParams) *Switch {
	s := &Switch{
		tables: map[uint8]bool{},
		flows:  map[flow.Key]ownedFlow{}, groups: map[uint32]flow.Group{},
		byGroup: map[uint32]string{}, owners: map[string]*belongings{},
		index: map[uint8]*table{}, conns: newConntrack(), learned: map[flow.Key]*learnedFlow{},
	}
	for _, t := range params.Tables {
		s.tables[t] = false
	}
	for _, t := range params.Learned {
		s.tables[t] = true
	}
	return s
}

// Fail makes every later Update and Sync return err, until it is called with
// nil.
func (s *Switch) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

// Update is openflow.Target.Update.
func (s *Switch) Update(owner string, flows []flow.Flow, groups []flow.Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return fmt.Errorf("update %s: %w", owner, s.fault)
	}
	if err := s.check(owner, flows, groups); err != nil {
		return fmt.Errorf("update %s: %w", owner, err)
	}
	s.remove(owner)
	b := s.of(owner)
	for _, g := range groups {
		s.groups[g.ID], s.byGroup[g.ID] = g, owner
		b.groups[g.ID] = true
	}
	for _, f := range flows {
		s.put(owner, f)
	}
	s.tidy(owner)
	return nil
}

// of is what owner has; it is made when there is nothing.
func (s *Switch) of(owner string) *belongings {
	b, ok := s.owners[owner]
	if !ok {
		b = &belongings{flows: map[flow.Key]bool{}, groups: map[uint32]bool{}}
		s.owners[owner] = b
	}
	return b
}

// tidy forgets an owner that has nothing.
func (s *Switch) tidy(owner string) {
	if b, ok := s.owners[owner]; ok && len(b.flows)+len(b.groups) == 0 {
		delete(s.owners, owner)
	}
}

func (s *Switch) put(owner string, f flow.Flow) {
	f.Cookie = openflow.Cookie(owner)
	k := f.Key()
	s.take(k)
	s.flows[k] = ownedFlow{Flow: f, owner: owner}
	s.of(owner).flows[k] = true
	s.tableOf(f.Table).add(f)
}

// tableOf is the index of a table; it is made when there is none.
func (s *Switch) tableOf(n uint8) *table {
	if s.index[n] == nil {
		s.index[n] = newTable()
	}
	return s.index[n]
}

func (s *Switch) take(k flow.Key) {
	old, ok := s.flows[k]
	if !ok {
		return
	}
	delete(s.flows, k)
	delete(s.of(old.owner).flows, k)
	s.index[k.Table].remove(k)
}

// Connections returns the connection table, sorted.
func (s *Switch) Connections() []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns.list()
}

// ForgetAllConnections empties the connection table.
func (s *Switch) ForgetAllConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = newConntrack()
}

// ForgetConnections is openflow.Target.ForgetConnections.
func (s *Switch) ForgetConnections(_ context.Context, connections []flow.Connection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return fmt.Errorf("forget connections: %w", s.fault)
	}
	var errs []error
	for _, c := range connections {
		errs = append(errs, c.Check())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("forget connections: %w", err)
	}
	for _, c := range connections {
		s.conns.forget(c)
	}
	return nil
}

func (s *Switch) check(owner string, flows []flow.Flow, groups []flow.Group) error {
	known := map[uint32]bool{}
	for id, other := range s.byGroup {
		known[id] = other != owner
	}
	var errs []error
	for _, g := range groups {
		if other, ok := s.byGroup[g.ID]; ok && other != owner {
			errs = append(errs, &openflow.ConflictError{Owner: owner, Other: other, Entry: fmt.Sprintf("group %d", g.ID)})
		}
		known[g.ID] = true
		errs = append(errs, g.Check())
	}
	seen := map[flow.Key]bool{}
	for _, f := range flows {
		k := f.Key()
		if old, ok := s.flows[k]; ok && old.owner != owner {
			errs = append(errs, &openflow.ConflictError{Owner: owner, Other: old.owner, Entry: "flow " + k.String()})
		}
		errs = append(errs, s.checkFlow(f, k, seen, known))
	}
	for _, g := range groups {
		for _, b := range g.Buckets {
			errs = append(errs, s.checkTargets(g, b.Actions, known))
		}
	}
	return errors.Join(errs...)
}

func (s *Switch) checkFlow(f flow.Flow, k flow.Key, seen map[flow.Key]bool, groups map[uint32]bool) error {
	var errs []error
	if seen[k] {
		errs = append(errs, fmt.Errorf("flow %s is named twice", k))
	}
	seen[k] = true
	errs = append(errs, f.Check())
	if learned, ok := s.tables[f.Table]; !ok {
		errs = append(errs, fmt.Errorf("flow %s: no table %d", f, f.Table))
	} else if learned {
		errs = append(errs, fmt.Errorf("flow %s: only the switch makes flows in table %d", f, f.Table))
	}
	return errors.Join(append(errs, s.checkTargets(f, f.Actions, groups))...)
}

// checkTargets refuses actions that lead to tables or groups that are not
// there.
func (s *Switch) checkTargets(of fmt.Stringer, actions []flow.Action, groups map[uint32]bool) error {
	var errs []error
	table := func(t uint8) {
		if _, ok := s.tables[t]; !ok {
			errs = append(errs, fmt.Errorf("%s: no table %d", of, t))
		}
	}
	for _, a := range actions {
		switch a := a.(type) {
		case flow.GotoTable:
			table(a.Table)
		case flow.Resubmit:
			table(a.Table)
		case flow.CT:
			if a.Table != flow.NoTable {
				table(a.Table)
			}
		case flow.Learn:
			if !s.tables[a.Table] {
				errs = append(errs, fmt.Errorf("%s: table %d is not for what is learned", of, a.Table))
			}
		case flow.ToGroup:
			if !groups[a.ID] {
				errs = append(errs, fmt.Errorf("%s: no group %d", of, a.ID))
			}
		}
	}
	return errors.Join(errs...)
}

// remove takes away all that owner wants.
func (s *Switch) remove(owner string) {
	b, ok := s.owners[owner]
	if !ok {
		return
	}
	for k := range b.flows {
		s.take(k)
	}
	for id := range b.groups {
		delete(s.groups, id)
		delete(s.byGroup, id)
	}
	delete(s.owners, owner)
}

// Delete is openflow.Target.Delete.
func (s *Switch) Delete(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(owner)
}

// Prune is openflow.Target.Prune.
func (s *Switch) Prune(live func(owner string) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, owner := range slices.Sorted(maps.Keys(s.owners)) {
		if !live(owner) {
			s.remove(owner)
			n++
		}
	}
	return n
}

// Owners returns the owners that have a flow or a group, sorted.
func (s *Switch) Owners() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.owners))
}

// Complete is openflow.Target.Complete: here every flow has an owner.
func (*Switch) Complete() {}

// Sync is openflow.Target.Sync.
func (s *Switch) Sync(context.Context, ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// Flows returns the flows in the order of flow.Compare, without cookies.
func (s *Switch) Flows() []flow.Flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]flow.Flow, 0, len(s.flows))
	for _, o := range s.flows {
		f := o.Flow
		f.Cookie = 0
		out = append(out, f)
	}
	flow.Sort(out)
	return out
}

// Dump is all groups and flows as sorted text, one a line, without cookies.
func (s *Switch) Dump() string {
	flows := s.Flows()
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		b.WriteString(s.groups[id].String() + "\n")
	}
	for _, f := range flows {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

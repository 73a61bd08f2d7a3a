// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
)

// learnedFlow is a flow that a packet taught the switch.
type learnedFlow struct {
	flow       flow.Flow
	idle, hard uint16
	packets    uint64
}

// learn does the action of that name. A flow that is there keeps its counter.
func (s *Switch) learn(a flow.Learn, from *state) {
	f := a.Flow(from.get)
	k := f.Key()
	l, known := s.learned[k]
	if known {
		s.tableOf(k.Table).remove(k)
	} else {
		l = &learnedFlow{}
		s.learned[k] = l
	}
	l.flow, l.idle, l.hard = f, a.IdleTimeout, a.HardTimeout
	s.tableOf(k.Table).add(f)
}

func (s *Switch) unlearn(drop func(flow.Flow) bool) {
	for k, l := range s.learned {
		if drop(l.flow) {
			delete(s.learned, k)
			s.tableOf(k.Table).remove(k)
		}
	}
}

// ExpireLearned removes everything that the switch has learned, as if all
// timeouts were over.
func (s *Switch) ExpireLearned() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlearn(func(flow.Flow) bool { return true })
}

// LearnedFlows is openflow.Target.LearnedFlows, in the order of flow.Compare.
func (s *Switch) LearnedFlows(_ context.Context, table uint8) ([]openflow.LearnedFlow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return nil, fmt.Errorf("read learned flows: %w", s.fault)
	}
	var out []openflow.LearnedFlow
	for k, l := range s.learned {
		if k.Table == table {
			out = append(out, openflow.LearnedFlow{Flow: l.flow, IdleTimeout: l.idle, HardTimeout: l.hard, Packets: l.packets})
		}
	}
	slices.SortFunc(out, func(a, b openflow.LearnedFlow) int { return flow.Compare(a.Flow, b.Flow) })
	return out, nil
}

// RemoveLearned is openflow.Target.RemoveLearned.
func (s *Switch) RemoveLearned(_ context.Context, table uint8, matches []flow.Match) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return fmt.Errorf("remove learned flows: %w", s.fault)
	}
	if !s.tables[table] {
		return fmt.Errorf("remove learned flows: table %d has none", table)
	}
	var errs []error
	for _, m := range matches {
		errs = append(errs, m.Check())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove learned flows: %w", err)
	}
	for _, m := range matches {
		m := m.Canonical()
		s.unlearn(func(f flow.Flow) bool { return f.Table == table && implies(f.Match, m) })
	}
	return nil
}

// implies reports whether every packet that a canonical match a lets through is
// let through by b too.
func implies(a, b flow.Match) bool {
	for _, want := range b {
		have, ok := a.Get(want.Field)
		if !ok {
			return false
		}
		for i := range want.Value {
			need, given := byte(0xff), byte(0xff)
			if want.Mask != nil {
				need = want.Mask[i]
			}
			if have.Mask != nil {
				given = have.Mask[i]
			}
			if need&^given != 0 || have.Value[i]&need != want.Value[i] {
				return false
			}
		}
	}
	return true
}

// DumpLearned is what the switch has learned as sorted text, one flow a line,
// without cookies.
func (s *Switch) DumpLearned() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var flows []flow.Flow
	for _, l := range s.learned {
		f := l.flow
		f.Cookie = 0
		flows = append(flows, f)
	}
	flow.Sort(flows)
	var b strings.Builder
	for _, f := range flows {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// Choose has pick choose the buckets of "select" groups, by their place, until it
// is called again; nil is the first of a weight above 0. pick must not call the
// switch.
func (s *Switch) Choose(pick func(flow.Group, Packet) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.choose = pick
}

// bucket is the place of the bucket that a packet gets, -1 when there is none.
func (s *Switch) bucket(g flow.Group, at *state) (int, error) {
	usable := func(b flow.Bucket) bool { return g.Type != flow.GroupSelect || b.Weight > 0 }
	if g.Type != flow.GroupSelect || s.choose == nil {
		return slices.IndexFunc(g.Buckets, usable), nil
	}
	n := s.choose(g, at.packet())
	if n < 0 || n >= len(g.Buckets) || !usable(g.Buckets[n]) {
		return 0, fmt.Errorf("group %d has no bucket %d with a weight", g.ID, n)
	}
	return n, nil
}

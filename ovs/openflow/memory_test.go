// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// memory is a switch that does what it is told, or refuses.
type memory struct {
	t *testing.T

	mu      sync.Mutex
	table   map[flow.Key]flow.Flow
	groupsT map[uint32]flow.Group
	alien   []rawFlow
	metersT []flow.Meter
	// noMeters makes it a switch that takes none.
	noMeters bool
	// slow is how long it takes to read the flows.
	slow time.Duration
	// refuse is asked about every operation.
	refuse func(op) error
	log    []string
	gone   chan struct{}
	told   chan struct{}
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, table: map[flow.Key]flow.Flow{}, groupsT: map[uint32]flow.Group{}}
}

// dial makes the channel here, so that it belongs to the bubble of the test.
func (m *memory) dial() (ofswitch, error) {
	m.gone, m.told = make(chan struct{}), make(chan struct{}, 1)
	return m, nil
}

func (m *memory) flows(context.Context) ([]rawFlow, error) {
	m.mu.Lock()
	slow := m.slow
	m.mu.Unlock()
	time.Sleep(slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	out := append([]rawFlow(nil), m.alien...)
	for _, f := range m.table {
		b := reported(m.t, f)
		raws, err := parseFlowStats(b)
		if err != nil {
			return nil, err
		}
		out = append(out, raws...)
	}
	return out, nil
}

func (m *memory) groups(context.Context) ([]rawGroup, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []rawGroup
	for id, g := range m.groupsT {
		b, err := encodeBuckets(g)
		if err != nil {
			return nil, err
		}
		out = append(out, rawGroup{id: id, kind: uint8(g.Type), buckets: b, properties: groupProperties(g.Type)})
	}
	return out, nil
}

func (m *memory) commit(_ context.Context, ops []op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range ops {
		if m.refuse != nil {
			if err := m.refuse(o); err != nil {
				return err
			}
		}
	}
	var lines []string
	for _, o := range ops {
		word := map[opKind]string{flowsAdd: "add", flowsModify: "modify", flowsDelete: "delete", foreignDelete: "delete", groupAdd: "add", groupModify: "modify", groupDelete: "delete"}[o.kind]
		lines = append(lines, word+" "+describe(o))
		switch o.kind {
		case flowsAdd, flowsModify:
			f := o.entry.flow()
			m.table[o.key] = f
		case flowsDelete:
			delete(m.table, o.key)
		case foreignDelete:
			m.alien = nil
		case groupAdd, groupModify:
			m.groupsT[o.group] = o.wanted.group()
		case groupDelete:
			delete(m.groupsT, o.group)
		}
	}
	sort.Strings(lines)
	m.log = append(m.log, strings.Join(lines, "; "))
	return nil
}

func describe(o op) string {
	switch o.kind {
	case groupAdd, groupModify, groupDelete:
		return describeGroup(o.group)
	case foreignDelete:
		return "foreign"
	}
	return fmt.Sprintf("%d/%d", o.key.Table, o.key.Priority)
}

func (m *memory) meters(context.Context) ([]flow.Meter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]flow.Meter(nil), m.metersT...), nil
}

func (m *memory) setMeters(_ context.Context, c meterChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.metersT == nil && m.noMeters {
		return &SwitchError{Type: 12, Code: 0}
	}
	gone := map[uint32]bool{}
	for _, x := range append(c.modify, c.remove...) {
		gone[x.ID] = true
	}
	kept := slices.DeleteFunc(m.metersT, func(x flow.Meter) bool { return gone[x.ID] })
	m.metersT = append(append(kept, c.add...), c.modify...)
	m.log = append(m.log, fmt.Sprintf("meters +%d ~%d -%d", len(c.add), len(c.modify), len(c.remove)))
	return nil
}

func (m *memory) changes() <-chan struct{} { return m.told }
func (m *memory) lost() <-chan struct{}    { return m.gone }
func (m *memory) cause() error             { return io.EOF }
func (m *memory) close()                   {}

// drain returns the bundles since the last call.
func (m *memory) drain() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.log
	m.log = nil
	return out
}

func (m *memory) change(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
}

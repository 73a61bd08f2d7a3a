// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Verdict is what becomes of a packet.
type Verdict struct {
	// Outputs are the ports it leaves by, in order, each with the packet as it
	// leaves.
	Outputs []Output
	// Flows are those that it met.
	Flows []flow.Flow
	// Choices counts lookups in which several conjunctive matches of one
	// priority were complete. Open vSwitch takes any of them; the one with the
	// lowest number is followed here.
	Choices int
	// Err is set when the tracer cannot tell: two flows of the same priority
	// match, a loop, or an action it does not know.
	Err error
}

// Output is one copy of a packet that leaves.
type Output struct {
	Port   uint32
	Packet Packet
}

// String is "drop" or the actions by which the packet leaves.
func (v Verdict) String() string {
	if v.Err != nil {
		return "error: " + v.Err.Error()
	}
	if len(v.Outputs) == 0 {
		return "drop"
	}
	out := make([]string, len(v.Outputs))
	for i, o := range v.Outputs {
		out[i] = flow.Output{Port: o.Port}.String()
	}
	return strings.Join(out, ",")
}

// Met is the flows that the packet met, one a line.
func (v Verdict) Met() string {
	var b strings.Builder
	for _, f := range v.Flows {
		b.WriteString("  " + f.String() + "\n")
	}
	return b.String()
}

// Limits of Open vSwitch: how deep a resubmit to the same or an earlier table may
// nest, and how many lookups a packet may need.
const (
	maxDepth   = 64
	maxLookups = 4096
)

// Trace says what the switch does with p. A packet that goes through ct gets the
// state that the switch's own connection table gives it, and its commit is
// remembered for the packets that follow; ctNext, bits of ct_state, takes the
// place of the table for the first packets that ct sends on to another table,
// like --ct-next of ofproto/trace. Of nat the tracer knows one address and port
// as a new destination, and one address as a new source.
func (s *Switch) Trace(p Packet, ctNext ...uint32) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.Check(); err != nil {
		return Verdict{Err: fmt.Errorf("packet %s: %w", p, err)}
	}
	t := &tracer{sw: s, state: newState(p), next: ctNext}
	t.verdict.Err = t.lookup(0, 0, 0)
	return t.verdict
}

type tracer struct {
	*state
	sw      *Switch
	verdict Verdict
	// next are the states that the test gives.
	next    []uint32
	known   known
	lookups int
}

// errEnd ends a list of actions without fault.
var errEnd = errors.New("end")

// lookup runs the packet through a table and those that follow. from is the
// table that leads to it.
func (t *tracer) lookup(table, from uint8, depth int) error {
	if t.lookups++; t.lookups > maxLookups {
		return fmt.Errorf("more than %d lookups", maxLookups)
	}
	if table <= from {
		depth++
	}
	if depth > maxDepth {
		return fmt.Errorf("more than %d tables deep", maxDepth)
	}
	tb, ok := t.sw.index[table]
	if !ok {
		return nil
	}
	r, choice, err := tb.lookup(t.state)
	if choice {
		t.verdict.Choices++
	}
	if err != nil || r == nil {
		return err
	}
	f := r.flow
	if l, ok := t.sw.learned[f.Key()]; ok {
		l.packets++
	}
	f.Cookie = 0
	t.verdict.Flows = append(t.verdict.Flows, f)
	return t.run(f.Actions, table, depth)
}

func (t *tracer) run(actions []flow.Action, table uint8, depth int) error {
	for _, a := range actions {
		switch err := t.do(a, table, depth); {
		case errors.Is(err, errEnd):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

func (t *tracer) do(a flow.Action, table uint8, depth int) error {
	switch a := a.(type) {
	case flow.Output:
		t.output(a.Port)
	case flow.Controller:
		t.output(flow.PortController)
	case flow.OutputReg:
		t.output(uint32(t.bits(a.Source).Uint64()))
	case flow.SetField:
		t.set(a.FieldMatch)
	case flow.Move:
		t.store(a.Dest, t.bits(a.Source))
	case flow.DecTTL:
		ttl := t.uint(flow.FieldIPTTL)
		if ttl <= 1 {
			return errEnd
		}
		t.set(flow.IPTTL(uint8(ttl - 1)))
	case flow.GotoTable:
		return t.lookup(a.Table, table, depth)
	case flow.Resubmit:
		return t.lookup(a.Table, table, depth)
	case flow.ToGroup:
		return t.group(t.sw.groups[a.ID], table, depth)
	case flow.CT:
		return t.ct(a)
	case flow.CTClear:
		t.clear(ctFields...)
		t.known = known{}
	case flow.Learn:
		t.sw.learn(a, t.state)
	default:
		return fmt.Errorf("the tracer does not know %v", a)
	}
	return nil
}

// group follows every bucket of an "all" group, of a "select" group the one that
// the test chooses, and of others the first. Changes that a bucket makes to the
// packet end with it.
func (t *tracer) group(g flow.Group, table uint8, depth int) error {
	buckets := g.Buckets
	if g.Type != flow.GroupAll {
		n, err := t.sw.bucket(g, t.state)
		if err != nil || n < 0 {
			return err
		}
		buckets = buckets[n : n+1]
	}
	for _, b := range buckets {
		saved := t.state
		t.state = saved.clone()
		err := t.run(b.Actions, table, depth)
		t.state = saved
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tracer) output(port uint32) {
	from := uint32(t.uint(flow.FieldInPort))
	if port == from {
		return
	}
	if port == flow.PortInPort {
		port = from
	}
	t.verdict.Outputs = append(t.verdict.Outputs, Output{Port: port, Packet: t.packet()})
}

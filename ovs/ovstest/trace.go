// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"errors"
	"fmt"
	"math/big"
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

// maxDepth bounds resubmits, as in Open vSwitch.
const maxDepth = 64

// Trace says what the switch does with p. It knows the actions of the
// forwarding pipeline; ct and conjunction make the verdict an error.
func (s *Switch) Trace(p Packet) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.Check(); err != nil {
		return Verdict{Err: fmt.Errorf("packet %s: %w", p, err)}
	}
	t := &tracer{sw: s, values: map[flow.Field][]byte{}}
	for _, fm := range p {
		t.values[fm.Field] = append([]byte(nil), fm.Value...)
	}
	if err := t.lookup(0, 0); !errors.Is(err, errEnd) {
		t.verdict.Err = err
	}
	return t.verdict
}

type tracer struct {
	sw      *Switch
	values  map[flow.Field][]byte
	verdict Verdict
}

// errEnd ends the processing of a packet without fault.
var errEnd = errors.New("end")

// metadata are the fields that every packet has, 0 unless set.
func metadata(f flow.Field) bool {
	return f <= flow.FieldMetadata || f == flow.FieldVLANVID || f == flow.FieldIPFrag
}

func (t *tracer) get(f flow.Field) ([]byte, bool) {
	if v, ok := t.values[f]; ok {
		return v, true
	}
	return make([]byte, f.Info().Bytes), metadata(f)
}

func (t *tracer) matches(m flow.Match) bool {
	for _, fm := range m {
		v, ok := t.get(fm.Field)
		if !ok {
			return false
		}
		for i := range v {
			mask := byte(0xff)
			if fm.Mask != nil {
				mask = fm.Mask[i]
			}
			if v[i]&mask != fm.Value[i] {
				return false
			}
		}
	}
	return true
}

// lookup runs the packet through a table and those that follow.
func (t *tracer) lookup(table uint8, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d tables deep", maxDepth)
	}
	var best, rival *flow.Flow
	for _, f := range t.sw.flows {
		switch {
		case f.Table != table || !t.matches(f.Match):
		case best == nil || f.Priority > best.Priority:
			best, rival = &f, nil
		case f.Priority == best.Priority:
			rival = &f
		}
	}
	if best == nil {
		return nil
	}
	if rival != nil {
		return fmt.Errorf("both match: %s and %s", best, rival)
	}
	best.Cookie = 0
	t.verdict.Flows = append(t.verdict.Flows, *best)
	return t.run(best.Actions, depth)
}

func (t *tracer) run(actions []flow.Action, depth int) error {
	for _, a := range actions {
		if err := t.do(a, depth); err != nil {
			return err
		}
	}
	return nil
}

func (t *tracer) do(a flow.Action, depth int) error {
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
		ttl, ok := t.get(flow.FieldIPTTL)
		if !ok || ttl[0] <= 1 {
			return errEnd
		}
		t.set(flow.IPTTL(ttl[0] - 1))
	case flow.GotoTable:
		return t.lookup(a.Table, depth+1)
	case flow.Resubmit:
		return t.lookup(a.Table, depth+1)
	case flow.ToGroup:
		return t.group(t.sw.groups[a.ID], depth)
	default:
		return fmt.Errorf("the tracer does not know %v", a)
	}
	return nil
}

// group follows every bucket of an "all" group and the first usable one of
// others. Changes that a bucket makes to the packet end with it.
func (t *tracer) group(g flow.Group, depth int) error {
	for _, b := range g.Buckets {
		if g.Type == flow.GroupSelect && b.Weight == 0 {
			continue
		}
		saved := t.values
		t.values = make(map[flow.Field][]byte, len(saved))
		for f, v := range saved {
			t.values[f] = v
		}
		err := t.run(b.Actions, depth)
		t.values = saved
		if err != nil && !errors.Is(err, errEnd) {
			return err
		}
		if g.Type != flow.GroupAll {
			return nil
		}
	}
	return nil
}

func (t *tracer) output(port uint32) {
	in, _ := t.get(flow.FieldInPort)
	from := uint32(new(big.Int).SetBytes(in).Uint64())
	if port == from {
		return
	}
	if port == flow.PortInPort {
		port = from
	}
	p := make(Packet, 0, len(t.values))
	for f, v := range t.values {
		p = append(p, flow.FieldMatch{Field: f, Value: append([]byte(nil), v...)})
	}
	t.verdict.Outputs = append(t.verdict.Outputs, Output{Port: port, Packet: p.Canonical()})
}

func (t *tracer) set(m flow.FieldMatch) {
	old, _ := t.get(m.Field)
	v := make([]byte, len(old))
	for i := range v {
		mask := byte(0xff)
		if m.Mask != nil {
			mask = m.Mask[i]
		}
		v[i] = old[i]&^mask | m.Value[i]
	}
	t.values[m.Field] = v
}

func (t *tracer) bits(s flow.Subfield) *big.Int {
	v, _ := t.get(s.Field)
	n := new(big.Int).SetBytes(v)
	n.Rsh(n, uint(s.Offset))
	return n.And(n, mask(s.N))
}

func mask(n int) *big.Int {
	m := new(big.Int).Lsh(big.NewInt(1), uint(n))
	return m.Sub(m, big.NewInt(1))
}

func (t *tracer) store(s flow.Subfield, bits *big.Int) {
	v, _ := t.get(s.Field)
	n := new(big.Int).SetBytes(v)
	hole := new(big.Int).Lsh(mask(s.N), uint(s.Offset))
	n.AndNot(n, hole)
	n.Or(n, new(big.Int).Lsh(bits, uint(s.Offset)))
	t.values[s.Field] = n.FillBytes(make([]byte, len(v)))
}

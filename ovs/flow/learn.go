// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Learn makes the switch itself add a flow when a packet meets the action
// (ovs-actions(7), "learn"). When there is a flow with the same identity, it
// gets the new actions and goes on counting; its hard timeout starts anew, its
// idle timeout does not.
//
// Open vSwitch ignores the action in the buckets of a group: a bucket that leaves
// its choice in a register and resubmits to a flow with the action does instead.
type Learn struct {
	// Table, Priority and Cookie are those of the flow that is added.
	Table    uint8
	Priority uint16
	Cookie   uint64
	// IdleTimeout and HardTimeout are in seconds, after which the flow goes
	// when no packet meets it, or in any case; 0 is never.
	IdleTimeout, HardTimeout uint16
	// Match are whole fields that the flow compares with constants. It holds
	// the prerequisites of the fields in Copy.
	Match Match
	// Copy are fields that the flow compares, whole, with what the packet has in
	// them.
	Copy []Field
	// Load is what the flow does: it writes constants.
	Load []LearnLoad
}

// LearnLoad writes into a run of at most 64 bits: Value or, when Source names a
// field, the bits that the packet that teaches has there, of which there must be
// as many.
type LearnLoad struct {
	Dest   Subfield
	Value  uint64
	Source Subfield
}

// fromPacket reports whether the packet has what is written.
func (l LearnLoad) fromPacket() bool { return l.Source != Subfield{} }

func (l LearnLoad) String() string {
	if l.fromPacket() {
		return fmt.Sprintf("load:%s->%s", l.Source, l.Dest)
	}
	return fmt.Sprintf("load:%#x->%s", l.Value, l.Dest)
}

func (l LearnLoad) check() error {
	if err := l.Dest.check(); err != nil {
		return err
	}
	switch {
	case l.Dest.N > 64:
		return fmt.Errorf("%v has more than 64 bits", l.Dest)
	case !l.fromPacket() && l.Dest.N < 64 && l.Value>>l.Dest.N != 0:
		return fmt.Errorf("%#x does not fit %v", l.Value, l.Dest)
	case !l.fromPacket():
		return nil
	}
	if err := l.Source.check(); err != nil {
		return err
	}
	if l.Source.N != l.Dest.N {
		return fmt.Errorf("%v: source and destination differ in length", l)
	}
	return nil
}

func (a Learn) String() string {
	p := []string{"table=" + strconv.Itoa(int(a.Table))}
	if a.IdleTimeout != 0 {
		p = append(p, "idle_timeout="+strconv.Itoa(int(a.IdleTimeout)))
	}
	if a.HardTimeout != 0 {
		p = append(p, "hard_timeout="+strconv.Itoa(int(a.HardTimeout)))
	}
	if a.Priority != defaultPriority {
		p = append(p, "priority="+strconv.Itoa(int(a.Priority)))
	}
	if a.Cookie != 0 {
		p = append(p, fmt.Sprintf("cookie=%#x", a.Cookie))
	}
	for _, m := range a.Match.Canonical() {
		p = append(p, m.String())
	}
	for _, f := range a.Copy {
		p = append(p, Whole(f).String())
	}
	for _, l := range a.Load {
		p = append(p, l.String())
	}
	return "learn(" + strings.Join(p, ",") + ")"
}

// Flow is what a packet adds that has these values in its fields. Timeouts are
// no part of it.
func (a Learn) Flow(value func(Field) []byte) Flow {
	m := append(Match(nil), a.Match...)
	for _, f := range a.Copy {
		m = append(m, FieldMatch{Field: f, Value: value(f)})
	}
	out := Flow{Table: a.Table, Priority: a.Priority, Cookie: a.Cookie, Match: m.Canonical()}
	for _, l := range a.Load {
		v := l.Value
		if l.fromPacket() {
			v = l.Source.of(value(l.Source.Field))
		}
		out.Actions = append(out.Actions, Load(l.Dest, v))
	}
	return out
}

// learnable reports whether Open vSwitch counts as many bits in f as are on the
// wire, as which an action says how much of f it means.
func (f Field) learnable() bool { return f.Valid() && f.Info().Bits == 8*f.Info().Bytes }

func (a Learn) check() error {
	var errs []error
	for _, m := range a.Match {
		switch {
		case m.Field.Valid() && !m.Field.learnable():
			errs = append(errs, fmt.Errorf("learn: %v cannot be compared", m.Field))
		case m.Mask != nil:
			errs = append(errs, fmt.Errorf("learn: %v is compared in part", m.Field))
		}
	}
	for _, f := range a.Copy {
		if !f.learnable() || f.wide() {
			errs = append(errs, fmt.Errorf("learn: %v cannot be copied", f))
		}
	}
	for _, l := range a.Load {
		if err := l.check(); err != nil {
			errs = append(errs, fmt.Errorf("learn: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	taught := a.Flow(func(f Field) []byte { return make([]byte, f.Info().Bytes) })
	if err := taught.Match.Check(); err != nil {
		return fmt.Errorf("learn: %w", err)
	}
	return nil
}

// checkLearn refuses to learn from fields that the packets of f need not have.
func (f Flow) checkLearn() error {
	var errs []error
	for _, a := range f.Actions {
		l, ok := a.(Learn)
		if !ok {
			continue
		}
		from := slices.Clone(l.Copy)
		for _, load := range l.Load {
			from = append(from, load.Source.Field)
		}
		for _, field := range from {
			if !field.Valid() {
				continue
			}
			if err := f.Match.checkPrereq(field); err != nil {
				errs = append(errs, fmt.Errorf("learn from %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

func parseLearn(arg string) (Action, error) {
	words, err := splitList(arg)
	if err != nil {
		return nil, err
	}
	a := Learn{Priority: defaultPriority}
	for _, w := range words {
		if err := a.parseWord(strings.TrimSpace(w)); err != nil {
			return nil, fmt.Errorf("%q: %w", w, err)
		}
	}
	if len(a.Match) > 0 {
		if err := a.Match.Check(); err != nil {
			return nil, err
		}
		a.Match = a.Match.Canonical()
	}
	return a, nil
}

func (a *Learn) parseWord(w string) error {
	if load, ok := strings.CutPrefix(w, "load:"); ok {
		return a.parseLoad(load)
	}
	key, value, constant := strings.Cut(w, "=")
	if !constant {
		sub, err := parseSubfield(w)
		if err != nil {
			return err
		}
		if sub != Whole(sub.Field) {
			return errors.New("only whole fields are copied")
		}
		a.Copy = append(a.Copy, sub.Field)
		return nil
	}
	var err error
	number := func(bits int) (n uint64) {
		n, err = strconv.ParseUint(value, 0, bits)
		return n
	}
	switch key {
	case "table":
		a.Table = uint8(number(8))
	case "priority":
		a.Priority = uint16(number(16))
	case "cookie":
		a.Cookie = number(64)
	case "idle_timeout":
		a.IdleTimeout = uint16(number(16))
	case "hard_timeout":
		a.HardTimeout = uint16(number(16))
	default:
		f, known := fieldsByName[key]
		var fm FieldMatch
		fm, err = parseMatchField(f, known, key, value)
		a.Match = append(a.Match, fm)
	}
	return err
}

func (a *Learn) parseLoad(s string) error {
	value, dest, ok := strings.Cut(s, "->")
	if !ok {
		return errors.New("no destination")
	}
	sub, err := parseSubfield(dest)
	if err != nil {
		return err
	}
	load := LearnLoad{Dest: sub}
	if load.Value, err = strconv.ParseUint(value, 0, 64); err != nil && !errors.Is(err, strconv.ErrRange) {
		load.Source, err = parseSubfield(value)
	}
	a.Load = append(a.Load, load)
	return err
}

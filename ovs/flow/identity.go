// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Key is the identity of a flow in a switch. Keys are comparable; two flows
// with the same Key replace each other.
type Key struct {
	Table    uint8
	Priority uint16
	match    string
}

// Key returns the identity of f. It does not depend on how the match was
// written down.
func (f Flow) Key() Key {
	canonical := f.Match.Canonical()
	b := make([]byte, 0, 16*len(canonical))
	for _, m := range canonical {
		b = append(b, byte(m.Field), byte(len(m.Mask)))
		b = append(b, m.Value...)
		b = append(b, m.Mask...)
	}
	return Key{Table: f.Table, Priority: f.Priority, match: string(b)}
}

// Match returns the canonical match that is part of the identity.
func (k Key) Match() Match {
	var m Match
	for rest := []byte(k.match); len(rest) >= 2; {
		f, maskLen := Field(rest[0]), int(rest[1])
		n := f.Info().Bytes
		if len(rest) < 2+n+maskLen {
			break
		}
		fm := FieldMatch{Field: f, Value: rest[2 : 2+n]}
		if maskLen > 0 {
			fm.Mask = rest[2+n : 2+n+maskLen]
		}
		m = append(m, fm)
		rest = rest[2+n+maskLen:]
	}
	return m
}

// String is the identity in the words of ovs-ofctl.
func (k Key) String() string {
	s := fmt.Sprintf("table=%d, priority=%d", k.Table, k.Priority)
	if m := k.Match().String(); m != "" {
		s += "," + m
	}
	return s
}

// Equal reports whether f and g are the same entry with the same cookie and
// actions.
func (f Flow) Equal(g Flow) bool {
	return f.Cookie == g.Cookie && f.Key() == g.Key() && EqualActions(f.Actions, g.Actions)
}

// EqualActions reports whether two lists of actions do the same.
func EqualActions(a, b []Action) bool {
	return slices.EqualFunc(a, b, func(x, y Action) bool {
		return x == nil && y == nil || x != nil && y != nil && x.String() == y.String()
	})
}

// Compare orders flows as a person reads a pipeline: by table, then the
// highest priority first, then by the text of the match.
func Compare(a, b Flow) int {
	if c := cmp.Compare(a.Table, b.Table); c != 0 {
		return c
	}
	if c := cmp.Compare(b.Priority, a.Priority); c != 0 {
		return c
	}
	return strings.Compare(a.Match.String(), b.Match.String())
}

// Sort sorts flows in the order of Compare.
func Sort(flows []Flow) { slices.SortStableFunc(flows, Compare) }

// Check reports everything about f that a switch would refuse and that can be
// known without the switch.
func (f Flow) Check() error {
	errs := []error{f.Match.Check()}
	if len(f.Actions) > 0 {
		errs = append(errs, f.checkConjunctions(), f.checkCT(), f.checkLearn())
	}
	for i, a := range f.Actions {
		if g, ok := a.(GotoTable); ok {
			if i != len(f.Actions)-1 {
				errs = append(errs, errors.New("goto_table is not the last action"))
			}
			if g.Table <= f.Table {
				errs = append(errs, fmt.Errorf("goto_table:%d does not lead to a later table", g.Table))
			}
			continue
		}
		errs = append(errs, checkAction(a))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("flow %s: %w", f, err)
	}
	return nil
}

// checkConjunctions refuses what ovs-actions(7) forbids: a flow that is a clause
// of a conjunctive match does nothing else, and is one clause of it only. A
// switch takes a flow that is two clauses and then never sees them both.
func (f Flow) checkConjunctions() error {
	var seen map[uint32]bool
	n := 0
	for _, a := range f.Actions {
		c, ok := a.(Conjunction)
		if !ok {
			continue
		}
		n++
		if seen == nil {
			seen = make(map[uint32]bool, len(f.Actions))
		}
		if seen[c.ID] {
			return fmt.Errorf("conjunction %d is named twice", c.ID)
		}
		seen[c.ID] = true
	}
	if n != 0 && n != len(f.Actions) {
		return errors.New("conjunction together with another action")
	}
	return nil
}

// checkCT refuses connection tracking of what is not IP.
func (f Flow) checkCT() error {
	for _, a := range f.Actions {
		if _, ok := a.(CT); !ok {
			continue
		}
		if v, ok := f.Match.exact(FieldEthType); !ok || uint16(v) != EthTypeIPv4 && uint16(v) != EthTypeIPv6 {
			return fmt.Errorf("ct needs a match on %v", FieldEthType)
		}
	}
	return nil
}

func checkAction(a Action) error {
	switch a := a.(type) {
	case nil:
		return errors.New("action is nil")
	case GotoTable:
		return errors.New("goto_table cannot be used here")
	case SetField:
		return a.check()
	case OutputReg:
		return a.Source.check()
	case Controller:
		if a.Meter > MaxMeter {
			return fmt.Errorf("%v: a meter is at most %d", a, MaxMeter)
		}
		if len(a.Userdata) > maxUserdata {
			return fmt.Errorf("controller: %d bytes of userdata, at most %d fit", len(a.Userdata), maxUserdata)
		}
	case Move:
		if err := errors.Join(a.Source.check(), a.Dest.check()); err != nil {
			return err
		}
		if a.Source.N != a.Dest.N {
			return fmt.Errorf("%v: source and destination differ in length", a)
		}
	case Conjunction:
		if a.Clause < 1 || a.N < 2 || a.Clause > a.N || a.N > 64 {
			return fmt.Errorf("%v: clause must be in 1..N and N in 2..64", a)
		}
	case CT:
		return a.check()
	case Learn:
		return a.check()
	}
	return nil
}

func (a CT) check() error {
	var errs []error
	if a.Force && !a.Commit {
		errs = append(errs, errors.New("ct: force needs commit"))
	}
	if a.ZoneFrom.Field != FieldInvalid {
		errs = append(errs, a.ZoneFrom.check())
		if a.ZoneFrom.N != 16 {
			errs = append(errs, errors.New("ct: a zone has 16 bits"))
		}
	}
	if !a.Commit && (len(a.Exec) > 0 || a.NAT != nil && a.NAT.Kind != NATRestore) {
		errs = append(errs, errors.New("ct: exec and nat with arguments need commit"))
	}
	if n := a.NAT; n != nil {
		errs = append(errs, n.check())
	}
	for _, e := range a.Exec {
		errs = append(errs, checkAction(e))
	}
	return errors.Join(errs...)
}

func (n NAT) check() error {
	if n.AddrMax.IsValid() && (!n.AddrMin.IsValid() || n.AddrMin.BitLen() != n.AddrMax.BitLen() || n.AddrMax.Less(n.AddrMin)) {
		return errors.New("ct: nat address range is not a range")
	}
	if n.PortMax != 0 && n.PortMax < n.PortMin {
		return errors.New("ct: nat port range is not a range")
	}
	if n.PortMin != 0 && !n.AddrMin.IsValid() {
		return errors.New("ct: nat ports need an address")
	}
	if n.Random && n.Hash {
		return errors.New("ct: nat is either random or hash")
	}
	return nil
}

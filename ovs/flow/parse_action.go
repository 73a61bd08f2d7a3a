// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// splitList splits at commas that are not inside parentheses or brackets.
func splitList(s string) ([]string, error) {
	var out []string
	depth, start := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			if depth--; depth < 0 {
				return nil, errors.New("unbalanced parentheses")
			}
		case ',':
			if depth == 0 {
				out = append(out, s[start:i])
				start = i + 1
			}
		}
	}
	if depth != 0 {
		return nil, errors.New("unbalanced parentheses")
	}
	if last := s[start:]; last != "" {
		out = append(out, last)
	}
	return out, nil
}

func parseActions(s string) ([]Action, error) {
	if s == "" || s == "drop" {
		return nil, nil
	}
	words, err := splitList(s)
	if err != nil {
		return nil, err
	}
	actions := make([]Action, 0, len(words))
	for _, w := range words {
		a, err := parseAction(strings.TrimSpace(w))
		if err != nil {
			return nil, fmt.Errorf("action %q: %w", w, err)
		}
		actions = append(actions, a)
	}
	return actions, nil
}

// verb splits an action into its name and its argument, which follows a colon
// or stands in parentheses.
func verb(s string) (name, arg string) {
	i := strings.IndexAny(s, ":(")
	if i < 0 {
		return s, ""
	}
	if s[i] == '(' && strings.HasSuffix(s, ")") {
		return s[:i], s[i+1 : len(s)-1]
	}
	return s[:i], s[i+1:]
}

func parseAction(s string) (Action, error) {
	name, arg := verb(s)
	switch strings.ToLower(name) {
	case "output":
		return parseOutput(arg)
	case "in_port", "local", "normal":
		return parseOutput(name)
	case "controller":
		return parseController(arg)
	case "group":
		n, err := strconv.ParseUint(arg, 0, 32)
		return ToGroup{ID: uint32(n)}, err
	case "goto_table":
		n, err := strconv.ParseUint(arg, 0, 8)
		return GotoTable{Table: uint8(n)}, err
	case "resubmit":
		port, table, _ := strings.Cut(arg, ",")
		if port != "" {
			return nil, errors.New("resubmit with a port is not supported")
		}
		n, err := strconv.ParseUint(table, 0, 8)
		return Resubmit{Table: uint8(n)}, err
	case "dec_ttl":
		return DecTTL{}, nil
	case "set_field":
		return parseSetField(arg)
	case "load":
		return parseLoad(arg)
	case "move":
		return parseMove(arg)
	case "ct_clear":
		return CTClear{}, nil
	case "ct":
		return parseCT(arg)
	case "conjunction":
		return parseConjunction(arg)
	case "learn":
		return parseLearn(arg)
	}
	return nil, errors.New("unknown action")
}

func parseOutput(arg string) (Action, error) {
	if n, err := strconv.ParseUint(arg, 0, 32); err == nil {
		return Output{Port: uint32(n)}, nil
	}
	for p, name := range portNames {
		if strings.EqualFold(name, arg) {
			return Output{Port: p}, nil
		}
	}
	sub, err := parseSubfield(arg)
	return OutputReg{Source: sub}, err
}

// parseController reads CONTROLLER:MAX_LEN and controller(KEY=VALUE,...).
func parseController(arg string) (Action, error) {
	if n, err := strconv.ParseUint(arg, 0, 16); err == nil {
		return Controller{MaxLen: uint16(n)}, nil
	}
	a := Controller{MaxLen: 0xffff}
	words, err := splitList(arg)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		var n uint64
		switch key {
		case "max_len":
			n, err = strconv.ParseUint(value, 0, 16)
			a.MaxLen = uint16(n)
		case "userdata":
			a.Userdata, err = hex.DecodeString(strings.ReplaceAll(value, ".", ""))
		case "meter_id":
			n, err = strconv.ParseUint(value, 0, 32)
			a.Meter = uint32(n)
		default:
			err = errors.New("unknown argument")
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", w, err)
		}
	}
	return a, nil
}

func parseSubfield(s string) (Subfield, error) {
	name, bits, ok := strings.Cut(s, "[")
	if !ok {
		name, bits = s, "]"
	}
	f, known := fieldsByName[name]
	if !known {
		return Subfield{}, fmt.Errorf("%q is not a known field", name)
	}
	bits, ok = strings.CutSuffix(bits, "]")
	if !ok {
		return Subfield{}, fmt.Errorf("%q lacks a closing bracket", s)
	}
	if bits == "" {
		return Whole(f), nil
	}
	from, to, isRange := strings.Cut(bits, "..")
	if !isRange {
		to = from
	}
	lo, err := strconv.ParseUint(from, 10, 8)
	if err != nil {
		return Subfield{}, err
	}
	hi, err := strconv.ParseUint(to, 10, 8)
	if err != nil {
		return Subfield{}, err
	}
	sub := Subfield{Field: f, Offset: int(lo), N: int(hi) - int(lo) + 1}
	return sub, sub.check()
}

func parseSetField(arg string) (Action, error) {
	value, name, ok := strings.Cut(arg, "->")
	if !ok {
		return nil, errors.New("no destination")
	}
	f, known := fieldsByName[name]
	if !known {
		return nil, fmt.Errorf("%q is not a known field", name)
	}
	fm, err := parseFieldValue(f, value)
	if err != nil {
		return nil, err
	}
	a := Set(fm)
	return a, a.check()
}

// parseLoad reads load:VALUE->SUBFIELD as the masked SetField it is.
func parseLoad(arg string) (Action, error) {
	value, dest, ok := strings.Cut(arg, "->")
	if !ok {
		return nil, errors.New("no destination")
	}
	sub, err := parseSubfield(dest)
	if err != nil {
		return nil, err
	}
	v, err := strconv.ParseUint(value, 0, min(sub.N, 64))
	if err != nil {
		return nil, err
	}
	a := Load(sub, v)
	return a, a.check()
}

// Load is the SetField that writes v, of at most 64 bits, into a run of bits.
func Load(dest Subfield, v uint64) SetField {
	n := dest.Field.Info().Bytes
	m := FieldMatch{Field: dest.Field, Value: make([]byte, n), Mask: make([]byte, n)}
	for i := range dest.N {
		bit := dest.Offset + i
		at, shift := n-1-bit/8, bit%8
		if at < 0 {
			break
		}
		m.Mask[at] |= 1 << shift
		if i < 64 && v&(1<<i) != 0 {
			m.Value[at] |= 1 << shift
		}
	}
	return Set(m)
}

func parseMove(arg string) (Action, error) {
	from, to, ok := strings.Cut(arg, "->")
	if !ok {
		return nil, errors.New("no destination")
	}
	src, err := parseSubfield(from)
	if err != nil {
		return nil, err
	}
	dst, err := parseSubfield(to)
	return Move{Source: src, Dest: dst}, err
}

func parseConjunction(arg string) (Action, error) {
	id, rest, _ := strings.Cut(arg, ",")
	clause, n, _ := strings.Cut(rest, "/")
	i, err1 := strconv.ParseUint(strings.TrimSpace(id), 0, 32)
	k, err2 := strconv.ParseUint(strings.TrimSpace(clause), 0, 8)
	m, err3 := strconv.ParseUint(strings.TrimSpace(n), 0, 8)
	return Conjunction{ID: uint32(i), Clause: uint8(k), N: uint8(m)}, errors.Join(err1, err2, err3)
}

func parseCT(arg string) (Action, error) {
	words, err := splitList(arg)
	if err != nil {
		return nil, err
	}
	a := CT{Table: NoTable}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		name, inner := verb(w)
		switch {
		case w == "commit":
			a.Commit = true
		case w == "force":
			a.Force = true
		case key == "table":
			var n uint64
			n, err = strconv.ParseUint(value, 0, 8)
			a.Table = uint8(n)
		case key == "zone":
			err = a.parseZone(value)
		case name == "nat":
			a.NAT, err = parseNAT(inner)
		case name == "exec":
			a.Exec, err = parseActions(inner)
		default:
			err = errors.New("unknown argument")
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", w, err)
		}
	}
	return a, nil
}

func (a *CT) parseZone(s string) error {
	n, err := strconv.ParseUint(s, 0, 16)
	if err == nil {
		a.Zone = uint16(n)
		return nil
	}
	a.ZoneFrom, err = parseSubfield(s)
	return err
}

func parseNAT(arg string) (*NAT, error) {
	n := &NAT{}
	if arg == "" {
		return n, nil
	}
	words, err := splitList(arg)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "src", "dst":
			n.Kind = NATSource
			if key == "dst" {
				n.Kind = NATDestination
			}
			err = n.parseRange(value)
		case "random":
			n.Random = true
		case "hash":
			n.Hash = true
		case "persistent":
			n.Persistent = true
		default:
			err = fmt.Errorf("unknown word %q", w)
		}
		if err != nil {
			return nil, err
		}
	}
	if n.Kind == NATRestore {
		return nil, errors.New("neither src nor dst")
	}
	return n, nil
}

// parseRange reads ADDR[-ADDR][:PORT[-PORT]]; IPv6 addresses stand in brackets
// when a port follows.
func (n *NAT) parseRange(s string) error {
	if s == "" {
		return nil
	}
	addrs, ports := s, ""
	if strings.Contains(s, "[") {
		if i := strings.LastIndex(s, "]:"); i >= 0 {
			addrs, ports = s[:i+1], s[i+2:]
		}
		addrs = strings.NewReplacer("[", "", "]", "").Replace(addrs)
	} else if strings.Count(s, ":") == 1 {
		addrs, ports, _ = strings.Cut(s, ":")
	}
	lo, hi, isRange := strings.Cut(addrs, "-")
	var err error
	if n.AddrMin, err = netip.ParseAddr(lo); err != nil {
		return err
	}
	if isRange {
		if n.AddrMax, err = netip.ParseAddr(hi); err != nil {
			return err
		}
	}
	if ports == "" {
		return nil
	}
	lo, hi, isRange = strings.Cut(ports, "-")
	v, err := strconv.ParseUint(lo, 10, 16)
	if err != nil {
		return err
	}
	n.PortMin = uint16(v)
	if isRange {
		v, err = strconv.ParseUint(hi, 10, 16)
		n.PortMax = uint16(v)
	}
	return err
}

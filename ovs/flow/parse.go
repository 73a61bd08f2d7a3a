// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ParseFlow reads one flow as String writes it or as ovs-ofctl dump-flows
// prints it, with or without statistics.
func ParseFlow(s string) (Flow, error) {
	f, err := parseFlow(s)
	if err != nil {
		return Flow{}, fmt.Errorf("parse flow %q: %w", s, err)
	}
	return f, nil
}

func parseFlow(s string) (Flow, error) {
	head, tail, ok := cutActions(s)
	if !ok {
		return Flow{}, errors.New("no actions")
	}
	f := Flow{Priority: defaultPriority}
	var p matchParser
	for _, word := range strings.FieldsFunc(head, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		key, value, hasValue := strings.Cut(word, "=")
		var err error
		switch {
		case !hasValue:
			err = p.word(key)
		case key == "table":
			var n uint64
			n, err = strconv.ParseUint(value, 0, 8)
			f.Table = uint8(n)
		case key == "priority":
			var n uint64
			n, err = strconv.ParseUint(value, 0, 16)
			f.Priority = uint16(n)
		case key == "cookie":
			f.Cookie, err = strconv.ParseUint(value, 0, 64)
		case statistics[key]:
		default:
			p.fields = append(p.fields, [2]string{key, value})
		}
		if err != nil {
			return Flow{}, fmt.Errorf("%q: %w", word, err)
		}
	}
	var err error
	if f.Match, err = p.match(); err != nil {
		return Flow{}, err
	}
	if f.Actions, err = parseActions(tail); err != nil {
		return Flow{}, err
	}
	return f, f.Check()
}

// statistics are what dump-flows says of a flow beside what the flow is. Only
// flows that the switch has learned have timeouts.
var statistics = map[string]bool{
	"duration": true, "n_packets": true, "n_bytes": true, "idle_age": true, "hard_age": true,
	"idle_timeout": true, "hard_timeout": true,
}

// defaultPriority is what ovs-ofctl means when it names none.
const defaultPriority uint16 = 32768

// cutActions splits at "actions=", which the match cannot contain.
func cutActions(s string) (head, tail string, ok bool) {
	if head, tail, ok = strings.Cut(s, "actions="); !ok {
		return "", "", false
	}
	return strings.TrimRight(head, " ,"), strings.TrimSpace(tail), true
}

// matchParser collects the fields of a match before it reads their values,
// because what tp_dst means depends on the protocol, wherever it was named.
type matchParser struct {
	m      Match
	fields [][2]string
}

func (p *matchParser) word(w string) error {
	if w == "ip6" {
		w = "ipv6"
	}
	for _, s := range shorthands {
		if s.name != w {
			continue
		}
		p.m = append(p.m, EthType(s.ethType))
		if s.proto >= 0 {
			p.m = append(p.m, IPProto(uint8(s.proto)))
		}
		return nil
	}
	return errors.New("is neither a field nor a protocol")
}

func (p *matchParser) match() (Match, error) {
	// Fields that decide the meaning of others come first.
	for _, early := range []bool{true, false} {
		for _, kv := range p.fields {
			f, known := p.field(kv[0])
			if (f == FieldEthType || f == FieldIPProto) != early {
				continue
			}
			fm, err := parseMatchField(f, known, kv[0], kv[1])
			if err != nil {
				return nil, fmt.Errorf("%s=%s: %w", kv[0], kv[1], err)
			}
			p.m = append(p.m, fm)
		}
	}
	if len(p.m) == 0 {
		return nil, nil
	}
	if err := p.m.Check(); err != nil {
		return nil, err
	}
	return p.m.Canonical(), nil
}

// byProto holds the names whose meaning the protocol decides.
var byProto = map[string]map[uint8]Field{
	"tp_src":    {ProtoTCP: FieldTCPSrc, ProtoUDP: FieldUDPSrc, ProtoSCTP: FieldSCTPSrc},
	"tp_dst":    {ProtoTCP: FieldTCPDst, ProtoUDP: FieldUDPDst, ProtoSCTP: FieldSCTPDst},
	"icmp_type": {ProtoICMP: FieldICMPType, ProtoICMPv6: FieldICMPv6Type},
	"icmp_code": {ProtoICMP: FieldICMPCode, ProtoICMPv6: FieldICMPv6Code},
}

func (p *matchParser) field(name string) (Field, bool) {
	if fields, ok := byProto[name]; ok {
		proto, _ := p.m.exact(FieldIPProto)
		f, known := fields[uint8(proto)]
		return f, known
	}
	f, known := fieldsByName[name]
	return f, known
}

func parseMatchField(f Field, known bool, name, value string) (FieldMatch, error) {
	switch {
	case name == "dl_vlan":
		n, err := strconv.ParseUint(value, 0, 12)
		return Uint(FieldVLANVID, n|vlanPresent), err
	case name == "vlan_tci":
		return parseVLANTCI(value)
	case !known:
		return FieldMatch{}, errors.New("unknown field, or its protocol is not matched")
	case f.Info().kind == kindFlags && value != "" && !strings.ContainsAny(value[:1], "0123456789"):
		return parseFlags(f, value)
	case f.Info().kind == kindFrag:
		if vm, ok := fragNames[value]; ok {
			return UintMask(f, uint64(vm[0]), uint64(vm[1])), nil
		}
	}
	fm, err := parseFieldValue(f, value)
	if err != nil {
		return FieldMatch{}, err
	}
	return fm.canonical(), fm.canonical().check()
}

func parseVLANTCI(s string) (FieldMatch, error) {
	v, mask, hasMask := strings.Cut(s, "/")
	value, err := strconv.ParseUint(v, 0, 16)
	if err != nil {
		return FieldMatch{}, err
	}
	m := uint64(0xffff)
	if hasMask {
		if m, err = strconv.ParseUint(mask, 0, 16); err != nil {
			return FieldMatch{}, err
		}
	}
	if m&^0x1fff != 0 {
		return FieldMatch{}, errors.New("the VLAN priority cannot be matched")
	}
	return UintMask(FieldVLANVID, value, m), nil
}

// parseFlags reads +FLAG-FLAG, and FLAG|FLAG for a match on all flags.
func parseFlags(f Field, s string) (FieldMatch, error) {
	if s[0] != '+' && s[0] != '-' {
		var v uint64
		for name := range strings.SplitSeq(s, "|") {
			bit, err := flagBit(f, name)
			if err != nil {
				return FieldMatch{}, err
			}
			v |= bit
		}
		return Uint(f, v), nil
	}
	var v, mask uint64
	for rest := s; rest != ""; {
		sign := rest[0]
		end := strings.IndexAny(rest[1:], "+-") + 1
		if end == 0 {
			end = len(rest)
		}
		bit, err := flagBit(f, rest[1:end])
		if err != nil {
			return FieldMatch{}, err
		}
		if mask&bit != 0 {
			return FieldMatch{}, fmt.Errorf("%q names a flag twice", s)
		}
		rest = rest[end:]
		mask |= bit
		if sign == '+' {
			v |= bit
		}
	}
	return UintMask(f, v, mask), nil
}

func flagBit(f Field, name string) (uint64, error) {
	i := slices.Index(flagsOf(f), name)
	if i < 0 {
		return 0, fmt.Errorf("%q is not a flag of %v", name, f)
	}
	return 1 << i, nil
}

// parseFieldValue reads VALUE or VALUE/MASK.
func parseFieldValue(f Field, s string) (FieldMatch, error) {
	info := f.Info()
	value, mask, hasMask := strings.Cut(s, "/")
	v, err := parseValue(info, value)
	if err != nil {
		return FieldMatch{}, err
	}
	m := FieldMatch{Field: f, Value: v}
	if !hasMask {
		return m, nil
	}
	if n, err := strconv.ParseUint(mask, 10, 8); err == nil && (info.kind == kindIPv4 || info.kind == kindIPv6) {
		if int(n) > info.Bits {
			return FieldMatch{}, fmt.Errorf("prefix length %d is above %d", n, info.Bits)
		}
		m.Mask = net.CIDRMask(int(n), info.Bits)
		return m, nil
	}
	if m.Mask, err = parseValue(info, mask); err != nil {
		return FieldMatch{}, err
	}
	return m, nil
}

func parseValue(info FieldInfo, s string) ([]byte, error) {
	switch info.kind {
	case kindMAC:
		a, err := net.ParseMAC(s)
		if err == nil && len(a) != 6 {
			err = fmt.Errorf("%q is not an Ethernet address", s)
		}
		return a, err
	case kindIPv4, kindIPv6:
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		if a.Zone() != "" || a.BitLen() != info.Bits {
			return nil, fmt.Errorf("%q is of the wrong family", s)
		}
		return a.AsSlice(), nil
	case kindPort:
		for p, n := range portNames {
			if strings.EqualFold(n, s) {
				return bigEndian(uint64(p), 4), nil
			}
		}
		if strings.EqualFold(s, "controller") {
			return bigEndian(uint64(PortController), 4), nil
		}
	}
	return parseNumber(s, info)
}

// parseNumber reads a number of up to 128 bits that must fit the field.
func parseNumber(s string, info FieldInfo) ([]byte, error) {
	digits, isHex := strings.CutPrefix(strings.ToLower(s), "0x")
	if !isHex || len(digits) <= 16 {
		n, err := strconv.ParseUint(s, 0, min(info.Bits, 64))
		if err != nil {
			return nil, err
		}
		return bigEndian(n, info.Bytes), nil
	}
	if len(digits) > 2*info.Bytes {
		return nil, fmt.Errorf("%q does not fit %d bits", s, info.Bits)
	}
	digits = strings.Repeat("0", 2*info.Bytes-len(digits)) + digits
	b := make([]byte, 0, info.Bytes)
	for i := 0; i < len(digits); i += 2 {
		n, err := strconv.ParseUint(digits[i:i+2], 16, 8)
		if err != nil {
			return nil, err
		}
		b = append(b, byte(n))
	}
	return b, nil
}

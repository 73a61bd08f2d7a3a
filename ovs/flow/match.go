// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Uint compares a field of at most 64 bits with v.
func Uint(f Field, v uint64) FieldMatch {
	return FieldMatch{Field: f, Value: bigEndian(v, f.Info().Bytes)}
}

// UintMask compares the bits of a field of at most 64 bits that are set in
// mask.
func UintMask(f Field, v, mask uint64) FieldMatch {
	n := f.Info().Bytes
	return FieldMatch{Field: f, Value: bigEndian(v&mask, n), Mask: bigEndian(mask, n)}.canonical()
}

// MAC compares an Ethernet address field.
func MAC(f Field, a net.HardwareAddr) FieldMatch {
	return FieldMatch{Field: f, Value: slices.Clone([]byte(a))}
}

// Addr compares an IP address field. The family of a must be that of the field.
func Addr(f Field, a netip.Addr) FieldMatch {
	return FieldMatch{Field: f, Value: a.Unmap().AsSlice()}
}

// Prefix compares the leading bits of an IP address field. The family of p
// must be that of the field.
func Prefix(f Field, p netip.Prefix) FieldMatch {
	m := FieldMatch{Field: f, Value: p.Masked().Addr().AsSlice()}
	if p.IsValid() && !p.IsSingleIP() {
		m.Mask = net.CIDRMask(p.Bits(), p.Addr().BitLen())
	}
	return m
}

// InPort matches the OpenFlow port on which the packet came in.
func InPort(port uint32) FieldMatch { return Uint(FieldInPort, uint64(port)) }

// EthSrc matches the Ethernet source.
func EthSrc(a net.HardwareAddr) FieldMatch { return MAC(FieldEthSrc, a) }

// EthDst matches the Ethernet destination.
func EthDst(a net.HardwareAddr) FieldMatch { return MAC(FieldEthDst, a) }

// EthType matches the Ethernet type; see the EthType constants.
func EthType(t uint16) FieldMatch { return Uint(FieldEthType, uint64(t)) }

// EthTypeOf matches the Ethernet type of the family of a.
func EthTypeOf(a netip.Addr) FieldMatch {
	if a.Unmap().Is4() {
		return EthType(EthTypeIPv4)
	}
	return EthType(EthTypeIPv6)
}

// IPProto matches the IPv4 protocol or the IPv6 next header; see the Proto
// constants.
func IPProto(p uint8) FieldMatch { return Uint(FieldIPProto, uint64(p)) }

// IPSrc matches the source address, in the family of p.
func IPSrc(p netip.Prefix) FieldMatch { return Prefix(byFamily(p, FieldIPSrc, FieldIPv6Src), p) }

// IPDst matches the destination address, in the family of p.
func IPDst(p netip.Prefix) FieldMatch { return Prefix(byFamily(p, FieldIPDst, FieldIPv6Dst), p) }

func byFamily(p netip.Prefix, v4, v6 Field) Field {
	if p.Addr().Is4() {
		return v4
	}
	return v6
}

// IPTTL matches the IPv4 time to live or the IPv6 hop limit.
func IPTTL(n uint8) FieldMatch { return Uint(FieldIPTTL, uint64(n)) }

// Reg matches the bits of register n that are set in mask.
func Reg(n int, v, mask uint32) FieldMatch {
	return UintMask(FieldReg(n), uint64(v), uint64(mask))
}

// XXReg matches the whole 128-bit register n, which is four registers (see
// WideRegisters).
func XXReg(n int, v [16]byte) FieldMatch {
	return FieldMatch{Field: FieldXXReg(n), Value: v[:]}
}

// ARPOp matches the ARP operation: 1 request, 2 reply.
func ARPOp(op uint16) FieldMatch { return Uint(FieldARPOp, uint64(op)) }

// ICMPv6Type matches the type of an ICMPv6 message.
func ICMPv6Type(t uint8) FieldMatch { return Uint(FieldICMPv6Type, uint64(t)) }

// Bits of ct_state (ovs-fields(7)).
const (
	CTNew         uint32 = 0x01
	CTEstablished uint32 = 0x02
	CTRelated     uint32 = 0x04
	CTReply       uint32 = 0x08
	CTInvalid     uint32 = 0x10
	CTTracked     uint32 = 0x20
	CTSNAT        uint32 = 0x40
	CTDNAT        uint32 = 0x80
)

// CTState matches packets that have the bits in set and none of those in
// unset.
func CTState(set, unset uint32) FieldMatch {
	return UintMask(FieldCTState, uint64(set), uint64(set|unset))
}

// Bits of tcp_flags that matter here.
const (
	TCPSyn uint16 = 0x02
	TCPAck uint16 = 0x10
)

// TCPFlags matches segments that have the flags in set and none of those in
// unset.
func TCPFlags(set, unset uint16) FieldMatch {
	return UintMask(FieldTCPFlags, uint64(set), uint64(set|unset))
}

func bigEndian(v uint64, n int) []byte {
	if n <= 8 {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], v)
		return slices.Clone(b[8-n:])
	}
	b := make([]byte, n)
	binary.BigEndian.PutUint64(b[n-8:], v)
	return b
}

// uintOf is the value of at most 8 bytes in network byte order.
func uintOf(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// fullMask is the mask that makes a match of f exact.
func (f Field) fullMask() []byte {
	info := f.Info()
	m := bytes.Repeat([]byte{0xff}, info.Bytes)
	for extra := 8*info.Bytes - info.Bits; extra > 0; extra -= 8 {
		i := (8*info.Bytes - info.Bits - extra) / 8
		m[i] = 0xff >> min(extra, 8)
	}
	return m
}

// canonical drops a mask that covers the whole field and clears the bits of
// the value that are not compared.
func (m FieldMatch) canonical() FieldMatch {
	if m.Mask == nil || len(m.Mask) != len(m.Value) {
		return m
	}
	value, mask := slices.Clone(m.Value), slices.Clone(m.Mask)
	full := m.Field.fullMask()
	for i := range value {
		value[i] &= mask[i]
		if i < len(full) {
			mask[i] &= full[i]
		}
	}
	if bytes.Equal(mask, full) {
		mask = nil
	}
	return FieldMatch{Field: m.Field, Value: value, Mask: mask}
}

func (m FieldMatch) wildcard() bool {
	return m.Mask != nil && !slices.ContainsFunc(m.Mask, func(b byte) bool { return b != 0 })
}

func (m FieldMatch) check() error {
	if !m.Field.Valid() {
		return fmt.Errorf("%v is not a known field", m.Field)
	}
	info := m.Field.Info()
	if len(m.Value) != info.Bytes {
		return fmt.Errorf("%v: value of %d bytes, want %d", m.Field, len(m.Value), info.Bytes)
	}
	if m.Mask == nil {
		return nil
	}
	if !info.Maskable {
		return fmt.Errorf("%v cannot be masked", m.Field)
	}
	if len(m.Mask) != info.Bytes {
		return fmt.Errorf("%v: mask of %d bytes, want %d", m.Field, len(m.Mask), info.Bytes)
	}
	for i := range m.Value {
		if m.Value[i]&^m.Mask[i] != 0 {
			return fmt.Errorf("%v: value has bits outside the mask", m.Field)
		}
	}
	return nil
}

// Canonical returns the match with its fields in the order of the Field
// constants, masks that cover a whole field removed and fields of which
// nothing is compared left out. A 128-bit register becomes the registers that
// it is made of, as which a switch reports it. Equal matches have equal
// canonical forms.
func (m Match) Canonical() Match {
	out := make(Match, 0, len(m))
	add := func(fm FieldMatch) {
		if c := fm.canonical(); !c.wildcard() {
			out = append(out, c)
		}
	}
	for _, fm := range m {
		if !fm.Field.wide() || fm.check() != nil {
			add(fm)
			continue
		}
		for i := range 4 {
			part := FieldMatch{Field: fm.Field.firstReg() + Field(i), Value: fm.Value[4*i : 4*i+4 : 4*i+4]}
			if fm.Mask != nil {
				part.Mask = fm.Mask[4*i : 4*i+4 : 4*i+4]
			}
			add(part)
		}
	}
	slices.SortStableFunc(out, func(a, b FieldMatch) int { return int(a.Field) - int(b.Field) })
	return out
}

// Get returns what m says about f.
func (m Match) Get(f Field) (FieldMatch, bool) {
	for _, fm := range m {
		if fm.Field == f {
			return fm, true
		}
	}
	return FieldMatch{}, false
}

// exact returns the value of a field that m compares whole.
func (m Match) exact(f Field) (uint64, bool) {
	fm, ok := m.Get(f)
	if !ok || fm.Mask != nil || len(fm.Value) > 8 {
		return 0, false
	}
	return uintOf(fm.Value), true
}

// Check reports every field that is malformed, named twice (a register also
// through the 128-bit register that it is part of) or lacks a prerequisite
// (OpenFlow 1.5.1, 7.2.3.9).
func (m Match) Check() error {
	var errs []error
	var seen [fieldCount]bool
	for _, fm := range m {
		if err := fm.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		if seen[fm.Field] {
			errs = append(errs, fmt.Errorf("%v is named twice", fm.Field))
		}
		seen[fm.Field] = true
		if fm.Field.wide() {
			for i := range Field(4) {
				if r := fm.Field.firstReg() + i; seen[r] {
					errs = append(errs, fmt.Errorf("%v is named twice, also as %v", r, fm.Field))
				}
			}
		} else if fm.Field >= FieldReg0 && fm.Field <= FieldReg15 {
			if w := FieldXXReg0 + (fm.Field-FieldReg0)/4; seen[w] {
				errs = append(errs, fmt.Errorf("%v is named twice, also as %v", fm.Field, w))
			}
		}
		if err := m.checkPrereq(fm.Field); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m Match) checkPrereq(f Field) error {
	p := fields[f].prereq
	if len(p.ethTypes) > 0 {
		if v, ok := m.exact(FieldEthType); !ok || !slices.Contains(p.ethTypes, uint16(v)) {
			return fmt.Errorf("%v needs a match on %v", f, FieldEthType)
		}
	}
	if len(p.ipProtos) > 0 {
		if v, ok := m.exact(FieldIPProto); !ok || !slices.Contains(p.ipProtos, uint8(v)) {
			return fmt.Errorf("%v needs a match on %v", f, FieldIPProto)
		}
	}
	if len(p.icmpTypes) > 0 {
		if v, ok := m.exact(FieldICMPv6Type); !ok || !slices.Contains(p.icmpTypes, uint8(v)) {
			return fmt.Errorf("%v needs a match on %v", f, FieldICMPv6Type)
		}
	}
	return nil
}

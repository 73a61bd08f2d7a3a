// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Reserved ports (OpenFlow 1.5.1, 7.2.1).
const (
	PortInPort     uint32 = 0xfffffff8
	PortNormal     uint32 = 0xfffffffa
	PortController uint32 = 0xfffffffd
	PortLocal      uint32 = 0xfffffffe
)

var portNames = map[uint32]string{
	PortInPort: "IN_PORT",
	PortNormal: "NORMAL",
	PortLocal:  "LOCAL",
}

// Output sends the packet out of a port. A packet is never sent out of the
// port it came in on unless Port is PortInPort.
type Output struct{ Port uint32 }

func (a Output) String() string {
	if n, ok := portNames[a.Port]; ok {
		return n
	}
	return "output:" + strconv.FormatUint(uint64(a.Port), 10)
}

// Controller sends the first MaxLen bytes of the packet to the controller;
// 65535 is all of it. Open vSwitch, which keeps no packets for a controller,
// always sends all of it.
type Controller struct {
	MaxLen uint16
	// Userdata comes back with the packet.
	Userdata []byte
	// Meter limits how many packets are sent; 0 is no limit.
	Meter uint32
}

func (a Controller) String() string {
	if len(a.Userdata) == 0 && a.Meter == 0 {
		return fmt.Sprintf("CONTROLLER:%d", a.MaxLen)
	}
	var p []string
	if a.MaxLen != 0xffff {
		p = append(p, "max_len="+strconv.Itoa(int(a.MaxLen)))
	}
	if len(a.Userdata) > 0 {
		hex := make([]string, len(a.Userdata))
		for i, b := range a.Userdata {
			hex[i] = fmt.Sprintf("%02x", b)
		}
		p = append(p, "userdata="+strings.Join(hex, "."))
	}
	if a.Meter != 0 {
		p = append(p, "meter_id="+strconv.FormatUint(uint64(a.Meter), 10))
	}
	return "controller(" + strings.Join(p, ",") + ")"
}

// OutputReg sends the packet out of the port whose number is in Source.
type OutputReg struct{ Source Subfield }

func (a OutputReg) String() string { return "output:" + a.Source.String() }

// ToGroup hands the packet to a group.
type ToGroup struct{ ID uint32 }

func (a ToGroup) String() string { return "group:" + strconv.FormatUint(uint64(a.ID), 10) }

// GotoTable goes on in a later table. It is an instruction of its own and
// must come last.
type GotoTable struct{ Table uint8 }

func (a GotoTable) String() string { return "goto_table:" + strconv.Itoa(int(a.Table)) }

// Resubmit looks the packet up in another table and comes back.
type Resubmit struct{ Table uint8 }

func (a Resubmit) String() string { return "resubmit(," + strconv.Itoa(int(a.Table)) + ")" }

// DecTTL decrements the IPv4 time to live or the IPv6 hop limit. Open vSwitch
// drops a packet whose value is 1 or less, so such packets must be handled
// before.
type DecTTL struct{}

func (DecTTL) String() string { return "dec_ttl" }

// SetField writes the bits of a field that are in the mask, all of them
// without one.
type SetField struct{ FieldMatch }

func (a SetField) String() string {
	return "set_field:" + a.valueText() + "->" + a.Field.String()
}

// Set is a SetField with the value of a FieldMatch: Set(EthSrc(mac)).
func Set(m FieldMatch) SetField { return SetField{m.canonical()} }

// SetReg writes the bits of register n that are set in mask.
func SetReg(n int, v, mask uint32) SetField { return Set(Reg(n, v, mask)) }

// SetTunDst sets the address of the tunnel's other end.
func SetTunDst(a netip.Addr) SetField {
	if a.Unmap().Is4() {
		return Set(Addr(FieldTunDst, a))
	}
	return Set(Addr(FieldTunIPv6Dst, a))
}

// SetEthSrc and SetEthDst rewrite the Ethernet addresses.
func SetEthSrc(a net.HardwareAddr) SetField { return Set(EthSrc(a)) }

// SetEthDst rewrites the Ethernet destination.
func SetEthDst(a net.HardwareAddr) SetField { return Set(EthDst(a)) }

// Subfield is a run of bits of a field. Bit 0 is the least significant.
type Subfield struct {
	Field     Field
	Offset, N int
}

// Whole is all bits of f.
func Whole(f Field) Subfield { return Subfield{Field: f, N: f.Info().Bits} }

func (s Subfield) String() string {
	name := fields[min(s.Field, fieldCount-1)].nxmName
	switch {
	case s.Offset == 0 && s.N == s.Field.Info().Bits:
		return name + "[]"
	case s.N == 1:
		return fmt.Sprintf("%s[%d]", name, s.Offset)
	}
	return fmt.Sprintf("%s[%d..%d]", name, s.Offset, s.Offset+s.N-1)
}

// of is the bits in a value of the field, the lowest 64 at most.
func (s Subfield) of(value []byte) uint64 {
	var v uint64
	for i := range min(s.N, 64) {
		bit := s.Offset + i
		if at := len(value) - 1 - bit/8; at >= 0 && value[at]&(1<<(bit%8)) != 0 {
			v |= 1 << i
		}
	}
	return v
}

func (s Subfield) check() error {
	if !s.Field.Valid() {
		return fmt.Errorf("%v is not a known field", s.Field)
	}
	if bits := s.Field.Info().Bits; s.Offset < 0 || s.N < 1 || s.Offset+s.N > bits {
		return fmt.Errorf("%v has no bits %d to %d", s.Field, s.Offset, s.Offset+s.N-1)
	}
	return nil
}

// Move copies Source to Dest, which must have the same number of bits.
type Move struct{ Source, Dest Subfield }

func (a Move) String() string { return "move:" + a.Source.String() + "->" + a.Dest.String() }

// Conjunction says that the flow is clause Clause (counted from 1) of N of
// the conjunctive match ID.
type Conjunction struct {
	ID        uint32
	Clause, N uint8
}

func (a Conjunction) String() string {
	return fmt.Sprintf("conjunction(%d,%d/%d)", a.ID, a.Clause, a.N)
}

// CTClear forgets the connection tracking state of the packet.
type CTClear struct{}

func (CTClear) String() string { return "ct_clear" }

// NoTable is the value of CT.Table for a packet that is not looked up again.
const NoTable uint8 = 0xff

// CT sends the packet through the connection tracker (ovs-actions(7)).
type CT struct {
	Commit, Force bool
	// Zone is the zone, unless ZoneFrom names the bits that hold it.
	Zone     uint16
	ZoneFrom Subfield
	// Table is where the tracked packet goes on; NoTable when it does not.
	Table uint8
	NAT   *NAT
	// Exec are SetField actions on ct_mark and ct_label, and Move onto them.
	Exec []Action
}

func (a CT) String() string {
	var p []string
	switch {
	case a.Force:
		p = append(p, "commit,force")
	case a.Commit:
		p = append(p, "commit")
	}
	if a.Table != NoTable {
		p = append(p, "table="+strconv.Itoa(int(a.Table)))
	}
	if a.ZoneFrom.Field != FieldInvalid {
		p = append(p, "zone="+a.ZoneFrom.String())
	} else if a.Zone != 0 {
		p = append(p, "zone="+strconv.Itoa(int(a.Zone)))
	}
	if a.NAT != nil {
		p = append(p, a.NAT.String())
	}
	if len(a.Exec) > 0 {
		p = append(p, "exec("+formatActions(a.Exec)+")")
	}
	if len(p) == 0 {
		return "ct"
	}
	return "ct(" + strings.Join(p, ",") + ")"
}

// NATKind says which address a NAT rewrites.
type NATKind uint8

// NATRestore applies the mapping the connection already has.
const (
	NATRestore NATKind = iota
	NATSource
	NATDestination
)

// NAT is address translation by the connection tracker. Addresses and ports
// are inclusive ranges; the zero value of an end means that there is no range.
type NAT struct {
	Kind             NATKind
	AddrMin, AddrMax netip.Addr
	PortMin, PortMax uint16
	// Random, Hash and Persistent choose how a mapping is picked.
	Random, Hash, Persistent bool
}

func (n NAT) String() string {
	if n.Kind == NATRestore {
		return "nat"
	}
	s := "nat(src"
	if n.Kind == NATDestination {
		s = "nat(dst"
	}
	if n.AddrMin.IsValid() {
		s += "=" + n.addrText(n.AddrMin)
		if n.AddrMax.IsValid() && n.AddrMax != n.AddrMin {
			s += "-" + n.addrText(n.AddrMax)
		}
		if n.PortMin != 0 {
			s += ":" + strconv.Itoa(int(n.PortMin))
			if n.PortMax > n.PortMin {
				s += "-" + strconv.Itoa(int(n.PortMax))
			}
		}
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{n.Persistent, "persistent"}, {n.Hash, "hash"}, {n.Random, "random"}} {
		if f.on {
			s += "," + f.name
		}
	}
	return s + ")"
}

// addrText brackets an IPv6 address that is followed by a port.
func (n NAT) addrText(a netip.Addr) string {
	if a.Is6() && n.PortMin != 0 {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// String is the flow as ovs-ofctl dump-flows --no-stats prints it and
// ovs-ofctl add-flow reads it.
func (f Flow) String() string {
	var b strings.Builder
	if f.Cookie != 0 {
		fmt.Fprintf(&b, "cookie=%#x, ", f.Cookie)
	}
	fmt.Fprintf(&b, "table=%d, priority=%d", f.Table, f.Priority)
	if m := f.Match.String(); m != "" {
		b.WriteString("," + m)
	}
	return b.String() + " actions=" + formatActions(f.Actions)
}

func formatActions(actions []Action) string {
	if len(actions) == 0 {
		return "drop"
	}
	s := make([]string, len(actions))
	for i, a := range actions {
		if a == nil {
			s[i] = "nil"
			continue
		}
		s[i] = a.String()
	}
	return strings.Join(s, ",")
}

// shorthand is a word that stands for an Ethernet type and a protocol.
type shorthand struct {
	name    string
	ethType uint16
	proto   int // -1: none
}

// shorthands is searched in order: the first one that a match has is printed.
var shorthands = []shorthand{
	{"icmp", EthTypeIPv4, int(ProtoICMP)},
	{"tcp", EthTypeIPv4, int(ProtoTCP)},
	{"udp", EthTypeIPv4, int(ProtoUDP)},
	{"sctp", EthTypeIPv4, int(ProtoSCTP)},
	{"ip", EthTypeIPv4, -1},
	{"icmp6", EthTypeIPv6, int(ProtoICMPv6)},
	{"tcp6", EthTypeIPv6, int(ProtoTCP)},
	{"udp6", EthTypeIPv6, int(ProtoUDP)},
	{"sctp6", EthTypeIPv6, int(ProtoSCTP)},
	{"ipv6", EthTypeIPv6, -1},
	{"arp", EthTypeARP, -1},
}

func (m Match) shorthand() (shorthand, bool) {
	ethType, ok := m.exact(FieldEthType)
	if !ok {
		return shorthand{}, false
	}
	proto, hasProto := m.exact(FieldIPProto)
	for _, s := range shorthands {
		if uint16(ethType) == s.ethType && (s.proto < 0 || hasProto && int(proto) == s.proto) {
			return s, true
		}
	}
	return shorthand{}, false
}

// String is the match in the words and the order of ovs-ofctl, empty for a
// match of everything.
func (m Match) String() string {
	m = m.Canonical()
	short, hasShort := m.shorthand()
	var p []string
	for _, fm := range m {
		if hasShort && fm.Field >= FieldReg0 {
			p = append(p, short.name)
			hasShort = false
		}
		switch {
		case fm.Field == FieldEthType && short.name != "":
		case fm.Field == FieldIPProto && short.proto > 0:
		default:
			p = append(p, fm.text())
		}
	}
	return strings.Join(p, ",")
}

func (m FieldMatch) text() string {
	if m.check() != nil {
		s := m.Field.String() + "=" + hex.EncodeToString(m.Value)
		if m.Mask != nil {
			s += "/" + hex.EncodeToString(m.Mask)
		}
		return s
	}
	switch {
	case m.Field == FieldVLANVID && m.Mask == nil && uintOf(m.Value)&vlanPresent != 0:
		return "dl_vlan=" + strconv.FormatUint(uintOf(m.Value)&^vlanPresent, 10)
	case m.Field == FieldVLANVID:
		mask := m.Mask
		if mask == nil {
			mask = m.Field.fullMask()
		}
		return fmt.Sprintf("vlan_tci=%#04x/%#04x", uintOf(m.Value), uintOf(mask))
	case m.Field == FieldCTState:
		mask := m.Mask
		if mask == nil {
			mask = m.Field.fullMask()
		}
		return "ct_state=" + formatFlags(ctFlags, uintOf(m.Value), uintOf(mask))
	case m.Field == FieldTCPFlags && m.Mask != nil:
		return "tcp_flags=" + formatFlags(tcpFlags, uintOf(m.Value), uintOf(m.Mask))
	case m.Field == FieldIPFrag:
		return m.Field.inMatch() + "=" + formatFrag(m)
	}
	return m.Field.inMatch() + "=" + m.valueText()
}

// String is the comparison with the name of the field that means nothing else,
// whatever the protocol: tcp_src, where Match.String says tp_src.
func (m FieldMatch) String() string {
	if m.check() != nil {
		return m.text()
	}
	return m.Field.String() + "=" + m.valueText()
}

// valueText is VALUE or VALUE/MASK. A number of which only some bits count is
// written in hexadecimal.
func (m FieldMatch) valueText() string {
	switch {
	case m.Mask == nil:
		return formatValue(m.Field, m.Value)
	case m.Field.Info().kind == kindDecimal:
		return formatHex(m.Value) + "/" + formatHex(m.Mask)
	}
	return formatValue(m.Field, m.Value) + "/" + formatMask(m.Field, m.Mask)
}

// vlanPresent is the bit of vlan_vid that says that there is a tag.
const vlanPresent = 0x1000

func formatValue(f Field, v []byte) string {
	info := f.Info()
	if len(v) != info.Bytes {
		return hex.EncodeToString(v)
	}
	switch info.kind {
	case kindDecimal:
		return strconv.FormatUint(uintOf(v), 10)
	case kindMAC:
		return net.HardwareAddr(v).String()
	case kindIPv4, kindIPv6:
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	case kindPort:
		p := uint32(uintOf(v))
		if p == PortController {
			return "CONTROLLER"
		}
		if n, ok := portNames[p]; ok {
			return n
		}
		return strconv.FormatUint(uint64(p), 10)
	}
	return formatHex(v)
}

// formatHex is the shortest 0x form.
func formatHex(v []byte) string {
	s := strings.TrimLeft(hex.EncodeToString(v), "0")
	if s == "" {
		return "0"
	}
	return "0x" + s
}

func formatMask(f Field, mask []byte) string {
	switch f.Info().kind {
	case kindMAC:
		return net.HardwareAddr(mask).String()
	case kindIPv4, kindIPv6:
		if ones, bits := net.IPMask(mask).Size(); bits != 0 {
			return strconv.Itoa(ones)
		}
		a, _ := netip.AddrFromSlice(mask)
		return a.String()
	}
	return formatHex(mask)
}

// ctFlags are the bits of ct_state in the order of their value.
var ctFlags = []string{"new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"}

// tcpFlags are those of tcp_flags (RFC 9293, 3.1; RFC 3540).
var tcpFlags = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"}

// flagsOf are the names of the bits of a field.
func flagsOf(f Field) []string {
	if f == FieldTCPFlags {
		return tcpFlags
	}
	return ctFlags
}

func formatFlags(names []string, v, mask uint64) string {
	var b strings.Builder
	for i, name := range names {
		if mask&(1<<i) == 0 {
			continue
		}
		sign := "-"
		if v&(1<<i) != 0 {
			sign = "+"
		}
		b.WriteString(sign + name)
	}
	return b.String()
}

// fragNames are the values of ip_frag that have a name (ovs-fields(7)): bit 0
// any fragment, bit 1 a later fragment.
var fragNames = map[string][2]byte{
	"no":        {0, 3},
	"yes":       {1, 1},
	"first":     {1, 3},
	"later":     {2, 2},
	"not_later": {0, 2},
}

func formatFrag(m FieldMatch) string {
	mask := byte(3)
	if m.Mask != nil {
		mask = m.Mask[0]
	}
	for name, vm := range fragNames {
		if vm[0] == m.Value[0] && vm[1] == mask {
			return name
		}
	}
	return fmt.Sprintf("%#x/%#x", m.Value[0], mask)
}

// SPDX-License-Identifier: Apache-2.0

package flow

import "strconv"

// Field names a field of a packet or of its metadata. The order of the
// constants is the order in which a match is printed, which is that of
// ovs-ofctl dump-flows.
type Field uint8

// The fields that Waymark matches on or writes.
const (
	FieldInvalid Field = iota
	FieldPktMark
	FieldConjID
	FieldCTState
	FieldCTZone
	FieldCTMark
	FieldCTLabel
	FieldCTNWProto
	FieldCTTPSrc
	FieldCTTPDst
	FieldReg0
	fieldReg1
	fieldReg2
	fieldReg3
	fieldReg4
	fieldReg5
	fieldReg6
	fieldReg7
	fieldReg8
	fieldReg9
	fieldReg10
	fieldReg11
	fieldReg12
	fieldReg13
	fieldReg14
	FieldReg15
	FieldXXReg0
	fieldXXReg1
	fieldXXReg2
	FieldXXReg3
	FieldTunID
	FieldTunSrc
	FieldTunDst
	FieldTunIPv6Src
	FieldTunIPv6Dst
	FieldMetadata
	FieldInPort
	FieldVLANVID
	FieldEthSrc
	FieldEthDst
	FieldEthType
	FieldIPSrc
	FieldIPDst
	FieldIPv6Src
	FieldIPv6Dst
	FieldARPSPA
	FieldARPTPA
	FieldIPProto
	FieldARPOp
	FieldIPTTL
	FieldIPFrag
	FieldARPSHA
	FieldARPTHA
	FieldICMPType
	FieldICMPCode
	FieldICMPv6Type
	FieldICMPv6Code
	FieldTCPSrc
	FieldTCPDst
	FieldUDPSrc
	FieldUDPDst
	FieldSCTPSrc
	FieldSCTPDst
	FieldTCPFlags
	FieldNDTarget
	FieldNDSLL
	FieldNDTLL
	fieldCount
)

// Registers is the number of 32-bit registers, reg0 to reg15.
const Registers = 16

// FieldReg returns register n. It is FieldInvalid if there is no such
// register.
func FieldReg(n int) Field {
	if n < 0 || n >= Registers {
		return FieldInvalid
	}
	return FieldReg0 + Field(n)
}

// WideRegisters is the number of 128-bit registers, xxreg0 to xxreg3. Each is
// another name for four registers: xxreg0 for reg0 to reg3, with reg0 in its
// most significant bits.
const WideRegisters = 4

// FieldXXReg returns 128-bit register n. It is FieldInvalid if there is no
// such register.
func FieldXXReg(n int) Field {
	if n < 0 || n >= WideRegisters {
		return FieldInvalid
	}
	return FieldXXReg0 + Field(n)
}

// wide reports whether f is a 128-bit register.
func (f Field) wide() bool { return f >= FieldXXReg0 && f <= FieldXXReg3 }

// firstReg is the register that holds the most significant bits of a 128-bit
// register.
func (f Field) firstReg() Field { return FieldReg0 + 4*(f-FieldXXReg0) }

// OXM classes (OpenFlow 1.5.1, 7.2.3.3; Open vSwitch nicira-ext).
const (
	classNXM0     = 0x0000
	classNXM1     = 0x0001
	classOpenFlow = 0x8000
)

// Ethernet types and IP protocols, as in the IANA registries.
const (
	EthTypeIPv4 uint16 = 0x0800
	EthTypeARP  uint16 = 0x0806
	EthTypeIPv6 uint16 = 0x86dd

	ProtoICMP uint8 = 1
	ProtoTCP  uint8 = 6
	ProtoUDP  uint8 = 17
	// ProtoFragment is the fragment header of IPv6 (RFC 8200, 4.5).
	ProtoFragment uint8 = 44
	ProtoICMPv6   uint8 = 58
	ProtoSCTP     uint8 = 132
)

// textKind is how ovs-ofctl writes the value of a field.
type textKind uint8

const (
	kindDecimal textKind = iota
	kindHex
	kindMAC
	kindIPv4
	kindIPv6
	kindPort
	kindFlags
	kindFrag
)

// prereq is what a match must hold before the field means anything. Empty
// lists ask for nothing.
type prereq struct {
	ethTypes  []uint16
	ipProtos  []uint8
	icmpTypes []uint8
}

// FieldInfo is what the codec, the text form and the packet tracer need to
// know of a field.
type FieldInfo struct {
	// Name is the name ovs-ofctl uses when it writes the field.
	Name string
	// Class and Code are the OXM header under which Open vSwitch reports the
	// field to an OpenFlow 1.5 controller.
	Class uint16
	Code  uint8
	// Bytes is the length on the wire, Bits the number of bits that count.
	Bytes, Bits int
	// Maskable fields can be matched by some of their bits.
	Maskable bool

	matchName string
	nxmName   string
	kind      textKind
	prereq    prereq
}

var (
	onlyIPv4  = prereq{ethTypes: []uint16{EthTypeIPv4}}
	onlyIPv6  = prereq{ethTypes: []uint16{EthTypeIPv6}}
	onlyIP    = prereq{ethTypes: []uint16{EthTypeIPv4, EthTypeIPv6}}
	onlyARP   = prereq{ethTypes: []uint16{EthTypeARP}}
	onlyTCP   = prereq{ethTypes: onlyIP.ethTypes, ipProtos: []uint8{ProtoTCP}}
	onlyUDP   = prereq{ethTypes: onlyIP.ethTypes, ipProtos: []uint8{ProtoUDP}}
	onlySCTP  = prereq{ethTypes: onlyIP.ethTypes, ipProtos: []uint8{ProtoSCTP}}
	onlyICMP  = prereq{ethTypes: onlyIPv4.ethTypes, ipProtos: []uint8{ProtoICMP}}
	onlyICMP6 = prereq{ethTypes: onlyIPv6.ethTypes, ipProtos: []uint8{ProtoICMPv6}}
	onlyND    = prereq{ethTypes: onlyIPv6.ethTypes, ipProtos: []uint8{ProtoICMPv6}, icmpTypes: []uint8{135, 136}}
	onlyNS    = prereq{ethTypes: onlyIPv6.ethTypes, ipProtos: []uint8{ProtoICMPv6}, icmpTypes: []uint8{135}}
	onlyNA    = prereq{ethTypes: onlyIPv6.ethTypes, ipProtos: []uint8{ProtoICMPv6}, icmpTypes: []uint8{136}}
)

// fields follows ovs-fields(7). matchName is the name in a match where it
// differs from Name, which is used in set_field.
var fields = [fieldCount]FieldInfo{
	FieldPktMark:    {Name: "pkt_mark", nxmName: "NXM_NX_PKT_MARK", Class: classNXM1, Code: 33, Bytes: 4, Maskable: true, kind: kindHex},
	FieldConjID:     {Name: "conj_id", nxmName: "NXM_NX_CONJ_ID", Class: classNXM1, Code: 37, Bytes: 4, kind: kindDecimal},
	FieldCTState:    {Name: "ct_state", nxmName: "NXM_NX_CT_STATE", Class: classNXM1, Code: 105, Bytes: 4, Bits: 8, Maskable: true, kind: kindFlags},
	FieldCTZone:     {Name: "ct_zone", nxmName: "NXM_NX_CT_ZONE", Class: classNXM1, Code: 106, Bytes: 2, Maskable: true, kind: kindDecimal},
	FieldCTMark:     {Name: "ct_mark", nxmName: "NXM_NX_CT_MARK", Class: classNXM1, Code: 107, Bytes: 4, Maskable: true, kind: kindHex},
	FieldCTLabel:    {Name: "ct_label", nxmName: "NXM_NX_CT_LABEL", Class: classNXM1, Code: 108, Bytes: 16, Maskable: true, kind: kindHex},
	FieldCTNWProto:  {Name: "ct_nw_proto", nxmName: "NXM_NX_CT_NW_PROTO", Class: classNXM1, Code: 119, Bytes: 1, kind: kindDecimal},
	FieldCTTPSrc:    {Name: "ct_tp_src", nxmName: "NXM_NX_CT_TP_SRC", Class: classNXM1, Code: 124, Bytes: 2, Maskable: true, kind: kindDecimal},
	FieldCTTPDst:    {Name: "ct_tp_dst", nxmName: "NXM_NX_CT_TP_DST", Class: classNXM1, Code: 125, Bytes: 2, Maskable: true, kind: kindDecimal},
	FieldReg0:       register(0),
	fieldReg1:       register(1),
	fieldReg2:       register(2),
	fieldReg3:       register(3),
	fieldReg4:       register(4),
	fieldReg5:       register(5),
	fieldReg6:       register(6),
	fieldReg7:       register(7),
	fieldReg8:       register(8),
	fieldReg9:       register(9),
	fieldReg10:      register(10),
	fieldReg11:      register(11),
	fieldReg12:      register(12),
	fieldReg13:      register(13),
	fieldReg14:      register(14),
	FieldReg15:      register(15),
	FieldXXReg0:     wideRegister(0),
	fieldXXReg1:     wideRegister(1),
	fieldXXReg2:     wideRegister(2),
	FieldXXReg3:     wideRegister(3),
	FieldTunID:      {Name: "tun_id", nxmName: "NXM_NX_TUN_ID", Class: classOpenFlow, Code: 38, Bytes: 8, Maskable: true, kind: kindHex},
	FieldTunSrc:     {Name: "tun_src", nxmName: "NXM_NX_TUN_IPV4_SRC", Class: classNXM1, Code: 31, Bytes: 4, Maskable: true, kind: kindIPv4},
	FieldTunDst:     {Name: "tun_dst", nxmName: "NXM_NX_TUN_IPV4_DST", Class: classNXM1, Code: 32, Bytes: 4, Maskable: true, kind: kindIPv4},
	FieldTunIPv6Src: {Name: "tun_ipv6_src", nxmName: "NXM_NX_TUN_IPV6_SRC", Class: classNXM1, Code: 109, Bytes: 16, Maskable: true, kind: kindIPv6},
	FieldTunIPv6Dst: {Name: "tun_ipv6_dst", nxmName: "NXM_NX_TUN_IPV6_DST", Class: classNXM1, Code: 110, Bytes: 16, Maskable: true, kind: kindIPv6},
	FieldMetadata:   {Name: "metadata", nxmName: "OXM_OF_METADATA", Class: classOpenFlow, Code: 2, Bytes: 8, Maskable: true, kind: kindHex},
	FieldInPort:     {Name: "in_port", nxmName: "OXM_OF_IN_PORT", Class: classOpenFlow, Code: 0, Bytes: 4, kind: kindPort},
	FieldVLANVID:    {Name: "vlan_vid", nxmName: "OXM_OF_VLAN_VID", Class: classOpenFlow, Code: 6, Bytes: 2, Bits: 13, Maskable: true, kind: kindHex},
	FieldEthSrc:     {Name: "eth_src", matchName: "dl_src", nxmName: "NXM_OF_ETH_SRC", Class: classOpenFlow, Code: 4, Bytes: 6, Maskable: true, kind: kindMAC},
	FieldEthDst:     {Name: "eth_dst", matchName: "dl_dst", nxmName: "NXM_OF_ETH_DST", Class: classOpenFlow, Code: 3, Bytes: 6, Maskable: true, kind: kindMAC},
	FieldEthType:    {Name: "eth_type", matchName: "dl_type", nxmName: "NXM_OF_ETH_TYPE", Class: classOpenFlow, Code: 5, Bytes: 2, kind: kindHex},
	FieldIPSrc:      {Name: "ip_src", matchName: "nw_src", nxmName: "NXM_OF_IP_SRC", Class: classOpenFlow, Code: 11, Bytes: 4, Maskable: true, kind: kindIPv4, prereq: onlyIPv4},
	FieldIPDst:      {Name: "ip_dst", matchName: "nw_dst", nxmName: "NXM_OF_IP_DST", Class: classOpenFlow, Code: 12, Bytes: 4, Maskable: true, kind: kindIPv4, prereq: onlyIPv4},
	FieldIPv6Src:    {Name: "ipv6_src", nxmName: "NXM_NX_IPV6_SRC", Class: classOpenFlow, Code: 26, Bytes: 16, Maskable: true, kind: kindIPv6, prereq: onlyIPv6},
	FieldIPv6Dst:    {Name: "ipv6_dst", nxmName: "NXM_NX_IPV6_DST", Class: classOpenFlow, Code: 27, Bytes: 16, Maskable: true, kind: kindIPv6, prereq: onlyIPv6},
	FieldARPSPA:     {Name: "arp_spa", nxmName: "NXM_OF_ARP_SPA", Class: classOpenFlow, Code: 22, Bytes: 4, Maskable: true, kind: kindIPv4, prereq: onlyARP},
	FieldARPTPA:     {Name: "arp_tpa", nxmName: "NXM_OF_ARP_TPA", Class: classOpenFlow, Code: 23, Bytes: 4, Maskable: true, kind: kindIPv4, prereq: onlyARP},
	FieldIPProto:    {Name: "nw_proto", nxmName: "NXM_OF_IP_PROTO", Class: classOpenFlow, Code: 10, Bytes: 1, kind: kindDecimal, prereq: onlyIP},
	FieldARPOp:      {Name: "arp_op", nxmName: "NXM_OF_ARP_OP", Class: classOpenFlow, Code: 21, Bytes: 2, kind: kindDecimal, prereq: onlyARP},
	FieldIPTTL:      {Name: "nw_ttl", nxmName: "NXM_NX_IP_TTL", Class: classNXM1, Code: 29, Bytes: 1, kind: kindDecimal, prereq: onlyIP},
	FieldIPFrag:     {Name: "ip_frag", matchName: "nw_frag", nxmName: "NXM_NX_IP_FRAG", Class: classNXM1, Code: 26, Bytes: 1, Bits: 2, Maskable: true, kind: kindFrag, prereq: onlyIP},
	FieldARPSHA:     {Name: "arp_sha", nxmName: "NXM_NX_ARP_SHA", Class: classOpenFlow, Code: 24, Bytes: 6, Maskable: true, kind: kindMAC, prereq: onlyARP},
	FieldARPTHA:     {Name: "arp_tha", nxmName: "NXM_NX_ARP_THA", Class: classOpenFlow, Code: 25, Bytes: 6, Maskable: true, kind: kindMAC, prereq: onlyARP},
	FieldICMPType:   {Name: "icmp_type", nxmName: "NXM_OF_ICMP_TYPE", Class: classOpenFlow, Code: 19, Bytes: 1, kind: kindDecimal, prereq: onlyICMP},
	FieldICMPCode:   {Name: "icmp_code", nxmName: "NXM_OF_ICMP_CODE", Class: classOpenFlow, Code: 20, Bytes: 1, kind: kindDecimal, prereq: onlyICMP},
	FieldICMPv6Type: {Name: "icmpv6_type", matchName: "icmp_type", nxmName: "NXM_NX_ICMPV6_TYPE", Class: classOpenFlow, Code: 29, Bytes: 1, kind: kindDecimal, prereq: onlyICMP6},
	FieldICMPv6Code: {Name: "icmpv6_code", matchName: "icmp_code", nxmName: "NXM_NX_ICMPV6_CODE", Class: classOpenFlow, Code: 30, Bytes: 1, kind: kindDecimal, prereq: onlyICMP6},
	FieldTCPSrc:     {Name: "tcp_src", matchName: "tp_src", nxmName: "NXM_OF_TCP_SRC", Class: classOpenFlow, Code: 13, Bytes: 2, Maskable: true, kind: kindDecimal, prereq: onlyTCP},
	FieldTCPDst:     {Name: "tcp_dst", matchName: "tp_dst", nxmName: "NXM_OF_TCP_DST", Class: classOpenFlow, Code: 14, Bytes: 2, Maskable: true, kind: kindDecimal, prereq: onlyTCP},
	FieldUDPSrc:     {Name: "udp_src", matchName: "tp_src", nxmName: "NXM_OF_UDP_SRC", Class: classOpenFlow, Code: 15, Bytes: 2, Maskable: true, kind: kindDecimal, prereq: onlyUDP},
	FieldUDPDst:     {Name: "udp_dst", matchName: "tp_dst", nxmName: "NXM_OF_UDP_DST", Class: classOpenFlow, Code: 16, Bytes: 2, Maskable: true, kind: kindDecimal, prereq: onlyUDP},
	FieldSCTPSrc:    {Name: "sctp_src", matchName: "tp_src", nxmName: "OXM_OF_SCTP_SRC", Class: classOpenFlow, Code: 17, Bytes: 2, Maskable: true, kind: kindDecimal, prereq: onlySCTP},
	FieldSCTPDst:    {Name: "sctp_dst", matchName: "tp_dst", nxmName: "OXM_OF_SCTP_DST", Class: classOpenFlow, Code: 18, Bytes: 2, Maskable: true, kind: kindDecimal, prereq: onlySCTP},
	// The switch reports it under its number with the Open Networking
	// Foundation, which openflow knows.
	FieldTCPFlags: {Name: "tcp_flags", nxmName: "NXM_NX_TCP_FLAGS", Class: classOpenFlow, Code: 42, Bytes: 2, Bits: 12, Maskable: true, kind: kindFlags, prereq: onlyTCP},
	FieldNDTarget: {Name: "nd_target", nxmName: "NXM_NX_ND_TARGET", Class: classOpenFlow, Code: 31, Bytes: 16, Maskable: true, kind: kindIPv6, prereq: onlyND},
	FieldNDSLL:    {Name: "nd_sll", nxmName: "NXM_NX_ND_SLL", Class: classOpenFlow, Code: 32, Bytes: 6, Maskable: true, kind: kindMAC, prereq: onlyNS},
	FieldNDTLL:    {Name: "nd_tll", nxmName: "NXM_NX_ND_TLL", Class: classOpenFlow, Code: 33, Bytes: 6, Maskable: true, kind: kindMAC, prereq: onlyNA},
}

func register(n uint8) FieldInfo {
	num := strconv.Itoa(int(n))
	return FieldInfo{Name: "reg" + num, nxmName: "NXM_NX_REG" + num, Class: classNXM1, Code: n, Bytes: 4, Maskable: true, kind: kindHex}
}

func wideRegister(n uint8) FieldInfo {
	num := strconv.Itoa(int(n))
	return FieldInfo{Name: "xxreg" + num, nxmName: "NXM_NX_XXREG" + num, Class: classNXM1, Code: 111 + n, Bytes: 16, Maskable: true, kind: kindHex}
}

// Info describes f. The zero FieldInfo means that f is not a field.
func (f Field) Info() FieldInfo {
	if f >= fieldCount {
		return FieldInfo{}
	}
	info := fields[f]
	if info.Bits == 0 {
		info.Bits = 8 * info.Bytes
	}
	return info
}

// Valid reports whether f names a field.
func (f Field) Valid() bool { return f > FieldInvalid && f < fieldCount }

// String is the name of the field in a set_field action.
func (f Field) String() string {
	if !f.Valid() {
		return "field" + strconv.Itoa(int(f))
	}
	return fields[f].Name
}

// inMatch is the name of the field in a match.
func (f Field) inMatch() string {
	if n := fields[f].matchName; n != "" {
		return n
	}
	return f.String()
}

// FieldByOXM finds a field by the class and code of an OXM or NXM header.
func FieldByOXM(class uint16, code uint8) (Field, bool) {
	f, ok := fieldsByOXM[oxmID(class, code)]
	return f, ok
}

func oxmID(class uint16, code uint8) uint32 { return uint32(class)<<8 | uint32(code) }

// legacyNXM holds the NXM codes that Open vSwitch keeps using inside moves for
// fields that have an OXM code, whatever the protocol version. in_port is left
// out: it is only two bytes there.
var legacyNXM = map[Field]uint32{
	FieldEthDst:     oxmID(classNXM0, 1),
	FieldEthSrc:     oxmID(classNXM0, 2),
	FieldEthType:    oxmID(classNXM0, 3),
	FieldIPProto:    oxmID(classNXM0, 6),
	FieldIPSrc:      oxmID(classNXM0, 7),
	FieldIPDst:      oxmID(classNXM0, 8),
	FieldTCPSrc:     oxmID(classNXM0, 9),
	FieldTCPDst:     oxmID(classNXM0, 10),
	FieldUDPSrc:     oxmID(classNXM0, 11),
	FieldUDPDst:     oxmID(classNXM0, 12),
	FieldICMPType:   oxmID(classNXM0, 13),
	FieldICMPCode:   oxmID(classNXM0, 14),
	FieldARPOp:      oxmID(classNXM0, 15),
	FieldARPSPA:     oxmID(classNXM0, 16),
	FieldARPTPA:     oxmID(classNXM0, 17),
	FieldTunID:      oxmID(classNXM1, 16),
	FieldARPSHA:     oxmID(classNXM1, 17),
	FieldARPTHA:     oxmID(classNXM1, 18),
	FieldIPv6Src:    oxmID(classNXM1, 19),
	FieldIPv6Dst:    oxmID(classNXM1, 20),
	FieldICMPv6Type: oxmID(classNXM1, 21),
	FieldICMPv6Code: oxmID(classNXM1, 22),
	FieldNDTarget:   oxmID(classNXM1, 23),
	FieldNDSLL:      oxmID(classNXM1, 24),
	FieldNDTLL:      oxmID(classNXM1, 25),
}

var fieldsByOXM = func() map[uint32]Field {
	m := make(map[uint32]Field, int(fieldCount)+len(legacyNXM))
	for f := FieldInvalid + 1; f < fieldCount; f++ {
		m[oxmID(fields[f].Class, fields[f].Code)] = f
	}
	for f, id := range legacyNXM {
		m[id] = f
	}
	return m
}()

// fieldsByName holds every name that a match, set_field or subfield may use.
// Names that mean a different field by context (tp_dst) are not in it.
var fieldsByName = func() map[string]Field {
	m := map[string]Field{
		"tunnel_id": FieldTunID, "ip_proto": FieldIPProto, "in_port_oxm": FieldInPort,
		"OXM_OF_ETH_SRC": FieldEthSrc, "OXM_OF_ETH_DST": FieldEthDst, "OXM_OF_IPV4_SRC": FieldIPSrc, "OXM_OF_IPV4_DST": FieldIPDst,
		"OXM_OF_TUNNEL_ID": FieldTunID,
	}
	for f := FieldInvalid + 1; f < fieldCount; f++ {
		m[fields[f].Name] = f
		m[fields[f].nxmName] = f
		switch n := fields[f].matchName; n {
		case "", "tp_src", "tp_dst", "icmp_type", "icmp_code":
		default:
			m[n] = f
		}
	}
	return m
}()

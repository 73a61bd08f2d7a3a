// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Connection is an entry of the connection table, in the direction of its
// first packet.
type Connection struct {
	Zone uint16
	// Proto is the IP protocol. Ports are 0 for protocols without them.
	Proto    uint8
	Src, Dst netip.AddrPort
	// Reply is where answers come from and go to, as long as translation is not
	// undone.
	Reply flow.Tuple
	// Answered says that a packet of the other direction was seen.
	Answered bool
	Mark     uint32
	Label    [16]byte
}

// tuple is what tells connections apart, in one direction.
type tuple struct {
	zone     uint16
	proto    uint8
	src, dst netip.AddrPort
}

func (t tuple) reverse() tuple {
	t.src, t.dst = t.dst, t.src
	return t
}

// conntrack is the connection table. As in the Linux kernel a committed
// connection stays new until a packet of the other direction was tracked.
type conntrack struct {
	// byTuple has every connection under the tuples of both directions.
	byTuple map[tuple]*connection
}

type connection struct {
	original tuple
	// answer is what packets of the other direction have: the reverse, unless
	// the connection is translated.
	answer   tuple
	answered bool
	mark     [4]byte
	label    [16]byte
}

func newConntrack() *conntrack { return &conntrack{byTuple: map[tuple]*connection{}} }

func (c *conntrack) list() []Connection {
	var out []Connection
	for t, conn := range c.byTuple {
		if t != conn.original {
			continue
		}
		var mark uint32
		for _, b := range conn.mark {
			mark = mark<<8 | uint32(b)
		}
		out = append(out, Connection{
			Zone: t.zone, Proto: t.proto, Src: t.src, Dst: t.dst,
			Reply:    flow.Tuple{Src: conn.answer.src, Dst: conn.answer.dst},
			Answered: conn.answered, Mark: mark, Label: conn.label,
		})
	}
	slices.SortFunc(out, func(a, b Connection) int {
		return cmp.Or(cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Proto, b.Proto), a.Src.Compare(b.Src), a.Dst.Compare(b.Dst))
	})
	return out
}

func (c *conntrack) remove(conn *connection) {
	delete(c.byTuple, conn.original)
	delete(c.byTuple, conn.answer)
}

// forget removes what one of openflow.Target.ForgetConnections chooses.
func (c *conntrack) forget(choice flow.Connection) {
	for t, conn := range c.byTuple {
		have := flow.Connection{
			Zone: t.zone, Protocol: t.proto,
			Original: flow.Tuple{Src: conn.original.src, Dst: conn.original.dst},
			Reply:    flow.Tuple{Src: conn.answer.src, Dst: conn.answer.dst},
		}
		if choice.Chooses(have) {
			c.remove(conn)
		}
	}
}

func (c *conntrack) create(t, answer tuple) *connection {
	conn := &connection{original: t, answer: answer}
	c.byTuple[t], c.byTuple[answer] = conn, conn
	return conn
}

// track finds the connection of a packet and the bits of ct_state. valid says
// whether a packet without a connection may begin one.
func (c *conntrack) track(t tuple, valid bool) (*connection, uint32) {
	conn, ok := c.byTuple[t]
	switch {
	case !ok && !valid:
		return nil, flow.CTTracked | flow.CTInvalid
	case !ok:
		return nil, flow.CTTracked | flow.CTNew
	case t != conn.original:
		conn.answered = true
		return conn, flow.CTTracked | flow.CTEstablished | flow.CTReply
	case conn.answered:
		return conn, flow.CTTracked | flow.CTEstablished
	}
	return conn, flow.CTTracked | flow.CTNew
}

var portFields = map[uint8][2]flow.Field{
	flow.ProtoTCP:  {flow.FieldTCPSrc, flow.FieldTCPDst},
	flow.ProtoUDP:  {flow.FieldUDPSrc, flow.FieldUDPDst},
	flow.ProtoSCTP: {flow.FieldSCTPSrc, flow.FieldSCTPDst},
}

// tupleOf is the tuple of a packet. An ICMP message that is not an echo has no
// connection of its own: whether it is related to one is in what it quotes,
// which a packet does not have here, so it is invalid unless the test says what
// it is.
func tupleOf(s *state, zone uint16) (t tuple, valid bool, err error) {
	src, dst := flow.FieldIPSrc, flow.FieldIPDst
	if s.uint(flow.FieldEthType) == uint64(flow.EthTypeIPv6) {
		src, dst = flow.FieldIPv6Src, flow.FieldIPv6Dst
	}
	if !s.present(src) || !s.present(dst) {
		return tuple{}, false, errors.New("ct: the packet is not IP")
	}
	t = tuple{zone: zone, proto: uint8(s.uint(flow.FieldIPProto))}
	var ports [2]uint16
	if fields, ok := portFields[t.proto]; ok {
		ports = [2]uint16{uint16(s.uint(fields[0])), uint16(s.uint(fields[1]))}
	}
	from, _ := netip.AddrFromSlice(s.get(src))
	to, _ := netip.AddrFromSlice(s.get(dst))
	t.src, t.dst = netip.AddrPortFrom(from, ports[0]), netip.AddrPortFrom(to, ports[1])
	switch t.proto {
	case flow.ProtoICMP:
		valid = s.uint(flow.FieldICMPType) == 8
	case flow.ProtoICMPv6:
		valid = s.uint(flow.FieldICMPv6Type) == 128
	default:
		valid = true
	}
	return t, valid, nil
}

// quoted reports whether a packet is an ICMP message that belongs to no
// connection by its own addresses.
func quoted(s *state) bool {
	switch uint8(s.uint(flow.FieldIPProto)) {
	case flow.ProtoICMP:
		k := s.uint(flow.FieldICMPType)
		return k != 0 && k != 8
	case flow.ProtoICMPv6:
		k := s.uint(flow.FieldICMPv6Type)
		return k != 128 && k != 129
	}
	return false
}

// known is the connection that a packet was found to belong to.
type known struct {
	conn  *connection
	key   tuple
	state uint32
}

// ct is the action of that name. Without a table the packet goes on untracked.
func (t *tracer) ct(a flow.CT) error {
	if err := checkNAT(a); err != nil {
		return err
	}
	zone := a.Zone
	if a.ZoneFrom.Field != flow.FieldInvalid {
		zone = uint16(t.bits(a.ZoneFrom).Uint64())
	}
	key, valid, err := tupleOf(t.state, zone)
	if err != nil {
		return err
	}
	var conn *connection
	ctState := flow.CTTracked | flow.CTInvalid
	if !quoted(t.state) {
		conn, ctState = t.sw.conns.track(key, valid)
	}
	if k := t.known; k.conn != nil && k.key.zone == zone && !a.Force {
		// Translated meanwhile, perhaps: it is still the same connection.
		conn, ctState, key = k.conn, k.state, k.key
	}
	given := a.Table != flow.NoTable && len(t.next) > 0
	if given {
		ctState, t.next = t.next[0]|flow.CTTracked, t.next[1:]
	}
	if a.Commit && (ctState&flow.CTInvalid == 0 || given) {
		if conn != nil && a.Force && key != conn.original {
			t.sw.conns.remove(conn)
			conn = nil
		}
		if conn == nil {
			answer, ok := t.sw.conns.answerTo(key, a.NAT)
			if !ok {
				return errEnd // the answers would be those of another connection
			}
			conn = t.sw.conns.create(key, answer)
		}
		if err := t.exec(a.Exec, conn); err != nil {
			return err
		}
	}
	if a.Table != flow.NoTable {
		original := key
		if conn != nil {
			original = conn.original
		}
		t.known = known{conn: conn, key: key, state: ctState}
		if err := t.recirculate(a, original, ctState, given); err != nil {
			return err
		}
	}
	t.known = known{conn: conn, key: key, state: ctState}
	t.clear(ctFields...)
	return nil
}

// ctFields are what a packet knows of its connection.
var ctFields = []flow.Field{
	flow.FieldCTState, flow.FieldCTZone, flow.FieldCTMark, flow.FieldCTLabel,
	flow.FieldCTNWProto, flow.FieldCTTPSrc, flow.FieldCTTPDst,
}

// recirculate goes on in a table with a copy of the packet that knows its
// connection. When the test has given the state, the mark, label and ports are
// those that the packet came with, as in ofproto/trace.
func (t *tracer) recirculate(a flow.CT, original tuple, ctState uint32, given bool) error {
	saved := t.state
	defer func() { t.state = saved }()
	t.state = saved.clone()
	conn := t.known.conn
	if a.NAT != nil && conn != nil {
		ctState |= t.translate(conn, t.known.key)
	}
	t.put(flow.FieldCTState, flow.Uint(flow.FieldCTState, uint64(ctState)).Value)
	t.put(flow.FieldCTZone, flow.Uint(flow.FieldCTZone, uint64(original.zone)).Value)
	if !given {
		t.clear(flow.FieldCTNWProto, flow.FieldCTTPSrc, flow.FieldCTTPDst)
		if ctState&flow.CTInvalid == 0 {
			t.put(flow.FieldCTNWProto, []byte{original.proto})
			t.put(flow.FieldCTTPSrc, flow.Uint(flow.FieldCTTPSrc, uint64(original.src.Port())).Value)
			t.put(flow.FieldCTTPDst, flow.Uint(flow.FieldCTTPDst, uint64(original.dst.Port())).Value)
		}
		t.clear(flow.FieldCTMark, flow.FieldCTLabel)
		if conn != nil {
			t.put(flow.FieldCTMark, conn.mark[:])
			t.put(flow.FieldCTLabel, conn.label[:])
		}
	}
	return t.lookup(a.Table, a.Table, 0)
}

// exec changes the mark and label of a connection. Only bits that an action
// writes change.
func (t *tracer) exec(actions []flow.Action, conn *connection) error {
	saved := t.state
	defer func() { t.state = saved }()
	t.state = saved.clone()
	written := &state{bytes: make([]byte, stateSize)}
	for _, a := range actions {
		var field flow.Field
		switch a := a.(type) {
		case flow.SetField:
			field = a.Field
			mask := a.Mask
			if mask == nil {
				mask = slices.Repeat([]byte{0xff}, len(a.Value))
			}
			written.set(flow.FieldMatch{Field: field, Value: mask, Mask: mask})
		case flow.Move:
			field = a.Dest.Field
			written.store(a.Dest, ones(a.Dest.N))
		}
		if field != flow.FieldCTMark && field != flow.FieldCTLabel {
			return fmt.Errorf("ct cannot execute %v", a)
		}
		if err := t.do(a, 0, 0); err != nil {
			return err
		}
	}
	merge(conn.mark[:], t.get(flow.FieldCTMark), written.get(flow.FieldCTMark))
	merge(conn.label[:], t.get(flow.FieldCTLabel), written.get(flow.FieldCTLabel))
	return nil
}

func merge(dst, v, mask []byte) {
	for i := range dst {
		dst[i] = dst[i]&^mask[i] | v[i]&mask[i]
	}
}

// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"fmt"
	"net/netip"

	"github.com/waymark-net/waymark/ovs/flow"
)

// checkNAT refuses what the tracer cannot do: it gives a new connection one
// address, and with the destination one port, and applies that later.
func checkNAT(a flow.CT) error {
	n := a.NAT
	if n == nil || n.Kind == flow.NATRestore {
		return nil
	}
	one := n.AddrMin.IsValid() && (!n.AddrMax.IsValid() || n.AddrMax == n.AddrMin) && n.PortMax <= n.PortMin
	if !one || !a.Commit || n.Kind == flow.NATSource && n.PortMin != 0 {
		return fmt.Errorf("the tracer does not know %v", a)
	}
	return nil
}

// answerTo is the tuple of the answers to a connection that n translates. A new
// source keeps its port when nothing else has it there, and takes the next that
// is free otherwise: which one Open vSwitch takes nobody can tell. ok is false
// when there is none.
func (c *conntrack) answerTo(t tuple, n *flow.NAT) (answer tuple, ok bool) {
	answer = t.reverse()
	if n != nil && n.Kind == flow.NATDestination {
		port := n.PortMin
		if port == 0 {
			port = t.dst.Port()
		}
		answer.src = netip.AddrPortFrom(n.AddrMin, port)
	}
	if n == nil || n.Kind != flow.NATSource {
		return answer, c.byTuple[answer] == nil
	}
	port := t.src.Port()
	for {
		answer.dst = netip.AddrPortFrom(n.AddrMin, port)
		if c.byTuple[answer] == nil {
			return answer, true
		}
		if port++; port < 1024 {
			port = 1024
		}
		if _, ports := portFields[t.proto]; !ports || port == t.src.Port() {
			return answer, false
		}
	}
}

// translate rewrites a packet that has the tuple key of a connection, and
// returns the bit of ct_state that says so.
func (s *state) translate(conn *connection, key tuple) uint32 {
	plain := conn.original.reverse()
	var ctState uint32
	switch {
	case conn.answer == plain:
		return 0
	case key == conn.original:
		s.rewrite(false, conn.answer.src)
		s.rewrite(true, conn.answer.dst)
		ctState = flow.CTSNAT
	default:
		s.rewrite(true, conn.original.dst)
		s.rewrite(false, conn.original.src)
		ctState = flow.CTDNAT
	}
	if conn.answer.dst == plain.dst {
		// It is the destination that was changed.
		ctState ^= flow.CTSNAT | flow.CTDNAT
	}
	return ctState
}

// rewrite changes the source or the destination of a packet.
func (s *state) rewrite(source bool, to netip.AddrPort) {
	fields := []flow.Field{flow.FieldIPDst, flow.FieldIPv6Dst}
	if source {
		fields = []flow.Field{flow.FieldIPSrc, flow.FieldIPv6Src}
	}
	field := fields[0]
	if to.Addr().Is6() {
		field = fields[1]
	}
	s.put(field, to.Addr().AsSlice())
	if ports, ok := portFields[uint8(s.uint(flow.FieldIPProto))]; ok {
		port := ports[1]
		if source {
			port = ports[0]
		}
		s.put(port, flow.Uint(port, uint64(to.Port())).Value)
	}
}

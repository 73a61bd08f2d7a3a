// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"fmt"
	"net/netip"

	"github.com/waymark-net/waymark/ovs/flow"
)

// checkNAT refuses what the tracer cannot do: it gives a new connection one
// address and port as its destination, and applies that later.
func checkNAT(a flow.CT) error {
	n := a.NAT
	if n == nil || n.Kind == flow.NATRestore {
		return nil
	}
	one := n.AddrMin.IsValid() && (!n.AddrMax.IsValid() || n.AddrMax == n.AddrMin) && n.PortMax <= n.PortMin
	if n.Kind != flow.NATDestination || !a.Commit || !one {
		return fmt.Errorf("the tracer does not know %v", a)
	}
	return nil
}

// answerTo is the tuple of the answers to a connection that n translates.
func answerTo(t tuple, n *flow.NAT) tuple {
	answer := t.reverse()
	if n != nil && n.Kind == flow.NATDestination {
		port := n.PortMin
		if port == 0 {
			port = t.dst.Port()
		}
		answer.src = netip.AddrPortFrom(n.AddrMin, port)
	}
	return answer
}

// translate rewrites a packet that has the tuple key of a connection, and
// returns the bit of ct_state that says so.
func (s *state) translate(conn *connection, key tuple) uint32 {
	switch {
	case conn.answer == conn.original.reverse():
		return 0
	case key == conn.original:
		s.rewrite(false, conn.answer.src)
		return flow.CTDNAT
	}
	s.rewrite(true, conn.original.dst)
	return flow.CTSNAT
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

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// ForgetConnections has the switch forget all connections that one of the given
// chooses, and returns when it has. The next packets of theirs are the first of
// new connections. It uses a connection of its own.
//
// For each that does not name the protocol and the whole of Original, and nothing
// of Reply, Open vSwitch looks through all connections of the zone.
//
// Nothing is sent when one is invalid. What the switch refuses is ErrRefused and
// leaves the others done; a switch older than Open vSwitch 3.1 refuses all.
func (t *Target) ForgetConnections(ctx context.Context, connections []flow.Connection) error {
	if len(connections) == 0 {
		return nil
	}
	var errs []error
	builders := make([]builder, 0, len(connections)+1)
	for _, c := range connections {
		errs = append(errs, c.Check())
		builders = append(builders, connectionFlush(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("forget connections: %w", err)
	}
	c, err := dial(ctx, t.params.Socket)
	if err != nil {
		return fmt.Errorf("forget connections: %w", err)
	}
	defer c.close()
	first := c.next()
	refused, err := c.untilBarrier(ctx, first, append(builders, plainMessage(of.Type_BarrierRequest)))
	if err == nil && refused != nil {
		err = refused
		if i := int64(refused.xid) - int64(first); i >= 0 && i < int64(len(connections)) {
			err = fmt.Errorf("%v: %w", connections[i], refused)
		}
	}
	if err != nil {
		return fmt.Errorf("forget connections: %w", err)
	}
	return nil
}

// NXT_CT_FLUSH of Open vSwitch 3.1 and the properties that choose (nicira-ext.h).
const (
	nxtCTFlush = 32

	flushOriginal = 0
	flushReply    = 1
	flushZone     = 2

	tupleSrc     = 0
	tupleDst     = 1
	tupleSrcPort = 2
	tupleDstPort = 3
)

func connectionFlush(c flow.Connection) builder {
	return func(xid uint32) ([]byte, error) {
		b := appendHeader(nil, of.Type_Experimenter, 0, xid)
		b = binary.BigEndian.AppendUint32(b, of.NxExperimenterID)
		b = binary.BigEndian.AppendUint32(b, nxtCTFlush)
		b = append(b, c.Protocol, 0, 0, 0, 0, 0, 0, 0)
		b = appendTuple(b, flushOriginal, c.Original)
		b = appendTuple(b, flushReply, c.Reply)
		b = appendProperty(b, flushZone, binary.BigEndian.AppendUint16(nil, c.Zone))
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		return b, nil
	}
}

// appendTuple appends the property of a direction, if something is chosen there.
func appendTuple(b []byte, kind uint16, t flow.Tuple) []byte {
	// Properties in a property begin at a multiple of 8.
	inner := make([]byte, 4)
	inner = appendEnd(inner, tupleSrc, tupleSrcPort, t.Src)
	inner = appendEnd(inner, tupleDst, tupleDstPort, t.Dst)
	if len(inner) == 4 {
		return b
	}
	return appendProperty(b, kind, inner)
}

func appendEnd(b []byte, addrKind, portKind uint16, end netip.AddrPort) []byte {
	if end.Addr().IsValid() {
		a := end.Addr().As16()
		b = appendProperty(b, addrKind, a[:])
	}
	if end.Port() != 0 {
		b = appendProperty(b, portKind, binary.BigEndian.AppendUint16(nil, end.Port()))
	}
	return b
}

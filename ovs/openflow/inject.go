// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/binary"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Inject has the switch do actions with an Ethernet frame as if it came in by
// inPort, which may be flow.PortController or flow.PortLocal, and returns when
// the switch has done so. A flow.Resubmit lets it go through the tables. It uses
// a connection of its own. An action that the switch refuses is ErrRefused.
func (t *Target) Inject(ctx context.Context, inPort uint32, frame []byte, actions []flow.Action) error {
	message, err := packetOut(inPort, frame, actions)
	if err != nil {
		return fmt.Errorf("inject a packet: %w", err)
	}
	c, err := dial(ctx, t.params.Socket)
	if err != nil {
		return fmt.Errorf("inject a packet: %w", err)
	}
	defer c.close()
	refused, err := c.untilBarrier(ctx, c.next(), []builder{message, plainMessage(of.Type_BarrierRequest)})
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil {
		return fmt.Errorf("inject a packet: %w", err)
	}
	return nil
}

// packetOut lays out OFPT_PACKET_OUT (OpenFlow 1.3.5, 7.3.7).
func packetOut(inPort uint32, frame []byte, actions []flow.Action) (builder, error) {
	if err := (flow.Flow{Actions: actions}).Check(); err != nil {
		return nil, err
	}
	list, err := encodeActions(actions)
	if err != nil {
		return nil, err
	}
	n := headerLen + 16 + len(list) + len(frame)
	if n > maxMessage {
		return nil, fmt.Errorf("packet of %d bytes does not fit a message", len(frame))
	}
	return func(xid uint32) ([]byte, error) {
		b := appendHeader(make([]byte, 0, n), of.Type_PacketOut, n, xid)
		b = append(b, 0xff, 0xff, 0xff, 0xff) // not in a buffer of the switch
		b = binary.BigEndian.AppendUint32(b, inPort)
		b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
		b = append(b, 0, 0, 0, 0, 0, 0)
		b = append(b, list...)
		return append(b, frame...), nil
	}, nil
}

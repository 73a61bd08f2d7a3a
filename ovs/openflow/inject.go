// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Inject has the switch do actions with an Ethernet frame as if it came in by
// inPort, which may be flow.PortController or flow.PortLocal, and returns when
// the switch has done so. A flow.Resubmit lets it go through the tables. It uses
// a connection of its own, which it keeps for a moment: one packet is often not
// the last. An action that the switch refuses is ErrRefused.
func (t *Target) Inject(ctx context.Context, inPort uint32, frame []byte, actions []flow.Action) error {
	message, err := packetOut(inPort, frame, actions)
	if err != nil {
		return fmt.Errorf("inject a packet: %w", err)
	}
	c := t.injector.take()
	if c == nil {
		if c, err = dial(ctx, t.params.Socket); err != nil {
			return fmt.Errorf("inject a packet: %w", err)
		}
	}
	refused, err := c.untilBarrier(ctx, c.next(), []builder{message, plainMessage(of.Type_BarrierRequest)})
	if err != nil {
		c.close()
		return fmt.Errorf("inject a packet: %w", err)
	}
	t.injector.keep(c)
	if refused != nil {
		return fmt.Errorf("inject a packet: %w", refused)
	}
	return nil
}

// keepIdle is how long a connection waits for the next packet.
const keepIdle = 100 * time.Millisecond

// idleConn keeps one connection that nobody uses.
type idleConn struct {
	mu    sync.Mutex
	c     *conn
	timer *time.Timer
}

// take returns the connection, or nil if there is none that works.
func (i *idleConn) take() *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := i.c
	if c == nil {
		return nil
	}
	i.c = nil
	i.timer.Stop()
	select {
	case <-c.lost():
		c.close()
		return nil
	default:
		return c
	}
}

// keep takes a connection over. Only one is kept.
func (i *idleConn) keep(c *conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.c != nil {
		c.close()
		return
	}
	i.c = c
	i.timer = time.AfterFunc(keepIdle, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		// It may have been taken, and kept again, while the timer waited.
		if i.c == c {
			i.c = nil
			c.close()
		}
	})
}

// packetOut lays out OFPT_PACKET_OUT (OpenFlow 1.5.1, 7.3.6).
func packetOut(inPort uint32, frame []byte, actions []flow.Action) (builder, error) {
	if err := (flow.Flow{Actions: actions}).Check(); err != nil {
		return nil, err
	}
	list, err := encodeActions(actions)
	if err != nil {
		return nil, err
	}
	in := appendMatch(nil, flow.Match{flow.InPort(inPort)})
	match := pad8(4 + len(in))
	n := headerLen + 8 + match + len(list) + len(frame)
	if n > maxMessage {
		return nil, fmt.Errorf("packet of %d bytes does not fit a message", len(frame))
	}
	return func(xid uint32) ([]byte, error) {
		b := appendHeader(make([]byte, 0, n), of.Type_PacketOut, n, xid)
		b = append(b, 0xff, 0xff, 0xff, 0xff) // not in a buffer of the switch
		b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, of.MatchType_OXM)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(in)))
		b = append(b, in...)
		b = b[:headerLen+8+match]
		b = append(b, list...)
		return append(b, frame...), nil
	}, nil
}

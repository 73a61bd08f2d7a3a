// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/binary"
	"errors"

	of "github.com/contiv/libOpenflow/openflow13"
)

// Flow monitoring (OpenFlow 1.5.1, 7.3.5.18).
const (
	multipartFlowMonitor = 16

	monitorAdd     = 1 << 1
	monitorRemoved = 1 << 2
	monitorModify  = 1 << 3

	// The events that are about a flow. The others say that this connection has
	// changed something itself, or that the switch had too much to say and left
	// some out, and has now said the rest.
	flowAdded    = 1
	flowRemoved  = 2
	flowModified = 3

	// flowUpdateLen is the fixed part of an update that is about a flow.
	flowUpdateLen = 24
)

// monitorRequest asks for what others change in any table, from now on.
func monitorRequest(xid uint32) ([]byte, error) {
	const n = headerLen + 8 + 16 + 8
	b := appendHeader(make([]byte, 0, n), of.Type_MultiPartRequest, n, xid)
	b = append(b, 0, multipartFlowMonitor, 0, 0, 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 1)                                     // the only monitor
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // whatever the flows' ports and groups
	b = binary.BigEndian.AppendUint16(b, monitorAdd|monitorRemoved|monitorModify)
	b = append(b, everyTable, 0)
	b = binary.BigEndian.AppendUint16(b, of.MatchType_OXM)
	return append(b, 0, 4, 0, 0, 0, 0), nil
}

// monitor has the switch say when somebody else changes flows. One that cannot
// is audited from time to time, as all are.
func (c *conn) monitor(ctx context.Context) error {
	err := c.dump(ctx, monitorRequest, multipartFlowMonitor, func([]byte) error { return nil })
	var refused *SwitchError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// changesOf returns a receiver of messages that answer nothing. It puts a token
// into changed when somebody else has changed a flow that is not of a learned table.
func changesOf(changed chan<- struct{}, learned func(table uint8) bool) func(msg []byte) {
	return func(msg []byte) {
		if parseHeader(msg).kind != of.Type_MultiPartReply {
			return
		}
		body, _, err := multipartBody(msg, multipartFlowMonitor)
		if err != nil || !foreignChange(body, learned) {
			return
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// foreignChange tells whether updates speak of a flow outside learned tables. What
// it cannot understand counts: an audit will tell.
func foreignChange(updates []byte, learned func(table uint8) bool) bool {
	for b := updates; len(b) > 0; {
		if len(b) < 4 {
			return true
		}
		n, event := int(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint16(b[2:])
		if n < 4 || n > len(b) {
			return true
		}
		switch event {
		case flowAdded, flowRemoved, flowModified:
			if n < flowUpdateLen || !learned(b[4]) {
				return true
			}
		}
		b = b[n:]
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	of "github.com/contiv/libOpenflow/openflow13"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/ovs/flow"
)

// PacketIn is a packet that a flow.Controller action sent.
type PacketIn struct {
	// Table and Cookie are those of the flow.
	Table    uint8
	Cookie   uint64
	Userdata []byte
	// Metadata are the fields that are not in the packet: in_port, registers
	// and ct_state among them. Those that are 0 may be missing.
	Metadata flow.Match
	// Data are the first bytes of the frame (of Open vSwitch, all), Length is
	// how many it has.
	Data   []byte
	Length int
}

// PacketQueueParams describe a PacketQueue.
type PacketQueueParams struct {
	// Tables are those whose flows send the packets. No other queue of the same
	// PacketIns has one of them.
	Tables []uint8
	// Size is how many packets wait for the reader at most; 0 is
	// DefaultPacketQueue.
	Size int
}

// DefaultPacketQueue is the default of PacketQueueParams.Size.
const DefaultPacketQueue = 256

// PacketQueue is where the packets of some tables wait for the one who handles
// them. A flood of them does not keep those of other tables from their reader.
type PacketQueue struct {
	tables  []uint8
	packets chan PacketIn
	lost    atomic.Uint64
}

// NewPacketQueue returns an empty queue. PacketInsParams say who fills it.
func NewPacketQueue(params PacketQueueParams) *PacketQueue {
	if params.Size <= 0 {
		params.Size = DefaultPacketQueue
	}
	return &PacketQueue{tables: slices.Clone(params.Tables), packets: make(chan PacketIn, params.Size)}
}

// Packets is where the packets arrive. It is never closed.
func (q *PacketQueue) Packets() <-chan PacketIn { return q.packets }

// Lost counts the packets that were dropped because the queue was full.
func (q *PacketQueue) Lost() uint64 { return q.lost.Load() }

// put does not wait.
func (q *PacketQueue) put(in PacketIn) {
	select {
	case q.packets <- in:
	default:
		q.lost.Add(1)
	}
}

// PacketInsParams describe a PacketIns.
type PacketInsParams struct {
	// Socket is the bridge's management socket.
	Socket string
	// Queues get the packets, each those of its tables. Others are dropped.
	Queues []*PacketQueue
}

// PacketIns receives the packets that flows send to the controller. It has a
// connection of its own, so that a flood of them does not delay the changes of
// a Target.
type PacketIns struct {
	params PacketInsParams
	queues map[uint8]*PacketQueue
	bad    atomic.Uint64
}

// NewPacketIns returns a PacketIns that Run connects.
func NewPacketIns(params PacketInsParams) *PacketIns {
	p := &PacketIns{params: params, queues: map[uint8]*PacketQueue{}}
	for _, q := range params.Queues {
		for _, table := range q.tables {
			p.queues[table] = q
		}
	}
	return p
}

// Malformed counts the packets that could not be read.
func (p *PacketIns) Malformed() uint64 { return p.bad.Load() }

// Run receives until ctx ends and returns the cause. It connects again when the
// connection is lost.
func (p *PacketIns) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithValues("socket", p.params.Socket)
	said := ""
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		connected, err := p.runOnce(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if connected {
			backoff = minBackoff
		}
		if err.Error() != said {
			said = err.Error()
			logger.Info("Waiting for packets of the switch", "reason", said)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(backoff):
		}
	}
}

// runOnce serves one connection. It always returns an error.
func (p *PacketIns) runOnce(ctx context.Context) (connected bool, err error) {
	timeout, cancel := context.WithTimeoutCause(ctx, defaultTimeout, errors.New("the switch does not answer"))
	defer cancel()
	c, err := dialAsync(timeout, p.params.Socket, p.receive)
	if err != nil {
		return false, err
	}
	defer c.close()
	refused, err := c.untilBarrier(timeout, c.next(), []builder{
		receivePackets, packetInFormat, packetInsOnly, plainMessage(of.Type_BarrierRequest),
	})
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil {
		return false, fmt.Errorf("ask for packets: %w", err)
	}
	select {
	case <-ctx.Done():
		return true, context.Cause(ctx)
	case <-c.lost():
		return true, c.cause()
	}
}

// receive is called by the reader of the connection and does not wait.
func (p *PacketIns) receive(msg []byte) {
	in, ours, err := parsePacketIn(msg)
	switch {
	case err != nil:
		p.bad.Add(1)
	case ours:
		if q := p.queues[in.Table]; q != nil {
			q.put(in)
		}
	}
}

// Nicira messages (ovs nicira-ext.h).
const (
	nxtSetPacketInFormat = 16
	nxtPacketIn2         = 30

	nxPacketIn2Format = 2
)

// receivePackets makes a connection to a management socket one that packets are
// sent to, which needs a length to send other than 0; the fragment mode must be
// the one that a Target sets.
func receivePackets(xid uint32) ([]byte, error) {
	return setConfig(xid, 0xffff), nil
}

func packetInFormat(xid uint32) ([]byte, error) {
	b := appendHeader(nil, of.Type_Experimenter, headerLen+12, xid)
	b = binary.BigEndian.AppendUint32(b, of.NxExperimenterID)
	b = binary.BigEndian.AppendUint32(b, nxtSetPacketInFormat)
	return binary.BigEndian.AppendUint32(b, nxPacketIn2Format), nil
}

const (
	// packetReasons are OFPR_TABLE_MISS, which is said of the Controller action of
	// a flow of priority 0 that matches everything, and those of all others:
	// OFPR_APPLY_ACTION, and from action sets, groups and packet-outs.
	packetReasons = 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<5

	// The properties of OFPT_SET_ASYNC: those with an even number are of slaves.
	asyncPacketIn   = 0
	asyncPortStatus = 2
	asyncLast       = 11
)

// packetInsOnly asks for packets of the Controller action and for no other
// message (OFPT_SET_ASYNC, OpenFlow 1.5.1, 7.3.10).
func packetInsOnly(xid uint32) ([]byte, error) {
	b := appendHeader(nil, of.Type_SetAsync, headerLen+8*(asyncLast+1), xid)
	for kind := range uint16(asyncLast + 1) {
		mask := uint32(0)
		if kind >= asyncPacketIn && kind < asyncPortStatus {
			mask = packetReasons
		}
		b = binary.BigEndian.AppendUint16(b, kind)
		b = binary.BigEndian.AppendUint16(b, 8)
		b = binary.BigEndian.AppendUint32(b, mask)
	}
	return b, nil
}

// Properties of a packet-in (ovs nicira-ext.h).
const (
	packetInPacket   = 0
	packetInFullLen  = 1
	packetInTable    = 3
	packetInCookie   = 4
	packetInMetadata = 6
	packetInUserdata = 7
)

// parsePacketIn reads NXT_PACKET_IN2. ours is false for other messages.
func parsePacketIn(msg []byte) (in PacketIn, ours bool, err error) {
	if len(msg) < headerLen+8 || msg[1] != of.Type_Experimenter ||
		binary.BigEndian.Uint32(msg[headerLen:]) != of.NxExperimenterID ||
		binary.BigEndian.Uint32(msg[headerLen+4:]) != nxtPacketIn2 {
		return PacketIn{}, false, nil
	}
	full := -1
	for b := msg[headerLen+8:]; len(b) > 0; {
		kind, value, rest, err := cutProperty(b)
		if err != nil {
			return PacketIn{}, true, fmt.Errorf("packet-in: %w", err)
		}
		b = rest
		switch {
		case kind == packetInPacket:
			in.Data = value
		case kind == packetInFullLen && len(value) == 4:
			full = int(binary.BigEndian.Uint32(value))
		case kind == packetInTable && len(value) > 0:
			in.Table = value[0]
		case kind == packetInCookie && len(value) == 12:
			in.Cookie = binary.BigEndian.Uint64(value[4:])
		case kind == packetInUserdata:
			in.Userdata = value
		case kind == packetInMetadata:
			in.Metadata, err = decodeMetadata(value)
		case kind == packetInFullLen || kind == packetInTable || kind == packetInCookie:
			err = fmt.Errorf("property %d of %d bytes", kind, len(value))
		}
		if err != nil {
			return PacketIn{}, true, fmt.Errorf("packet-in: %w", err)
		}
	}
	if in.Length = len(in.Data); full >= 0 {
		in.Length = full
	}
	if in.Length < len(in.Data) {
		return PacketIn{}, true, fmt.Errorf("packet-in: %d bytes of a packet of %d", len(in.Data), in.Length)
	}
	return in, true, nil
}

// decodeMetadata reads fields and leaves out those that Waymark does not know.
func decodeMetadata(b []byte) (flow.Match, error) {
	var m flow.Match
	for len(b) > 0 {
		h, _, rest, err := nextField(b)
		if err != nil {
			return nil, err
		}
		if _, known := flow.FieldByOXM(uint16(h>>16), uint8(h>>9&0x7f)); known || h>>16 == classPacketRegs {
			list, _, err := decodeMatchField(b)
			if err != nil {
				return nil, err
			}
			m = append(m, list...)
		}
		b = rest
	}
	return m.Canonical(), nil
}

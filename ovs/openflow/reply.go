// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// rawFlow is a flow as the switch reports it. The slices point into the
// message and are decoded only when something differs.
type rawFlow struct {
	table    uint8
	priority uint16
	cookie   uint64
	// timeouts and flags; anything but 0 is not from us.
	timeouts uint32
	flags    uint16
	// packets and bytes are what it has matched.
	packets, bytes uint64
	match          []byte
	actions        []byte
}

// multipartBody checks a multipart reply and tells whether more parts follow.
func multipartBody(msg []byte, kind uint16) (body []byte, more bool, err error) {
	if len(msg) < headerLen+8 {
		return nil, false, errShort
	}
	if k := binary.BigEndian.Uint16(msg[headerLen:]); k != kind {
		return nil, false, fmt.Errorf("multipart reply of type %d, want %d", k, kind)
	}
	flags := binary.BigEndian.Uint16(msg[headerLen+2:])
	return msg[headerLen+8:], flags&of.OFPMPF_REPLY_MORE != 0, nil
}

// flowDescLen is the fixed part of a flow in a reply, before its match (OpenFlow
// 1.5.1, 7.3.5.2).
const flowDescLen = 24

// Statistics of a flow (OpenFlow 1.5.1, 7.2.4.2).
const (
	oxsHeaderLen   = 4
	oxsPacketCount = 0x8002<<7 | 4
	oxsByteCount   = 0x8002<<7 | 5
)

// cutStats splits an ofp_stats with its padding from what follows, and returns
// the counters in it.
func cutStats(b []byte) (packets, bytes uint64, rest []byte, err error) {
	if len(b) < oxsHeaderLen {
		return 0, 0, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < oxsHeaderLen || len(b) < pad8(n) {
		return 0, 0, nil, errShort
	}
	for fields := b[oxsHeaderLen:n]; len(fields) > 0; {
		h, value, next, err := nextField(fields)
		if err != nil {
			return 0, 0, nil, err
		}
		fields = next
		switch {
		case len(value) != 8:
		case h>>9 == oxsPacketCount:
			packets = binary.BigEndian.Uint64(value)
		case h>>9 == oxsByteCount:
			bytes = binary.BigEndian.Uint64(value)
		}
	}
	return packets, bytes, b[pad8(n):], nil
}

func parseFlowStats(body []byte) ([]rawFlow, error) {
	var out []rawFlow
	err := eachFlow(body, func(r rawFlow) { out = append(out, r) })
	return out, err
}

// decode is the flow as data. It fails for matches and actions that Waymark
// does not use.
func (r rawFlow) decode() (flow.Flow, error) {
	m, err := decodeMatch(r.match)
	if err != nil {
		return flow.Flow{}, err
	}
	f := flow.Flow{Table: r.table, Priority: r.priority, Cookie: r.cookie, Match: m}
	f.Actions, err = decodeInstructions(r.actions)
	return f, err
}

// hash covers everything of a flow that does not change by itself.
func (r rawFlow) hash(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var b [17]byte
	b[0] = r.table
	binary.BigEndian.PutUint16(b[1:], r.priority)
	binary.BigEndian.PutUint64(b[3:], r.cookie)
	binary.BigEndian.PutUint32(b[11:], r.timeouts)
	binary.BigEndian.PutUint16(b[15:], r.flags)
	_, _ = h.Write(b[:])
	_, _ = h.Write(r.match)
	_ = h.WriteByte(0)
	_, _ = h.Write(r.actions)
	return h.Sum64()
}

func (r rawGroup) hash(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var b [5]byte
	b[0] = r.kind
	binary.BigEndian.PutUint32(b[1:], r.id)
	_, _ = h.Write(b[:])
	_, _ = h.Write(r.buckets)
	_ = h.WriteByte(0)
	_, _ = h.Write(r.properties)
	return h.Sum64()
}

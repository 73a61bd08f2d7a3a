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

// rawGroup is a group as the switch reports it.
type rawGroup struct {
	id      uint32
	kind    uint8
	buckets []byte
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

// flowStatsLen is the fixed part of a flow in a reply, before its match.
const flowStatsLen = 48

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
	return h.Sum64()
}

func parseGroupDesc(body []byte) ([]rawGroup, error) {
	var out []rawGroup
	for len(body) > 0 {
		if len(body) < 8 {
			return nil, errShort
		}
		n := int(binary.BigEndian.Uint16(body))
		if n < 8 || n > len(body) {
			return nil, fmt.Errorf("group description of length %d", n)
		}
		out = append(out, rawGroup{kind: body[2], id: binary.BigEndian.Uint32(body[4:]), buckets: body[8:n]})
		body = body[n:]
	}
	return out, nil
}

func (r rawGroup) decode() (flow.Group, error) {
	g := flow.Group{ID: r.id, Type: flow.GroupType(r.kind)}
	for b := r.buckets; len(b) > 0; {
		if len(b) < bucketLen {
			return flow.Group{}, errShort
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < bucketLen || n > len(b) {
			return flow.Group{}, fmt.Errorf("bucket of length %d", n)
		}
		bk := flow.Bucket{
			Weight:     binary.BigEndian.Uint16(b[2:]),
			WatchPort:  fromAny(binary.BigEndian.Uint32(b[4:])),
			WatchGroup: fromAny(binary.BigEndian.Uint32(b[8:])),
		}
		var err error
		if bk.Actions, err = decodeActions(b[bucketLen:n]); err != nil {
			return flow.Group{}, err
		}
		g.Buckets = append(g.Buckets, bk)
		b = b[n:]
	}
	return g, nil
}

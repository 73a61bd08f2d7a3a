// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"fmt"

	"github.com/contiv/libOpenflow/common"
	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

const (
	// version is OpenFlow 1.3 on the wire.
	version   = 4
	headerLen = 8
	// maxMessage is what the 16-bit length of a message allows.
	maxMessage = 0xffff
)

// builder lays out a message that carries the given transaction number.
type builder func(xid uint32) ([]byte, error)

// header is the start of every message (OpenFlow 1.3.5, 7.1.1).
type header struct {
	version, kind uint8
	length        int
	xid           uint32
}

func parseHeader(b []byte) header {
	return header{
		version: b[0], kind: b[1],
		length: int(binary.BigEndian.Uint16(b[2:])),
		xid:    binary.BigEndian.Uint32(b[4:]),
	}
}

func newHeader(kind uint8, xid uint32) common.Header {
	return common.Header{Version: version, Type: kind, Length: headerLen, Xid: xid}
}

func helloMessage(xid uint32) ([]byte, error) {
	// A version bitmap with bit 4 alone: OpenFlow 1.3 or nothing.
	b, err := (&common.Header{Version: version, Type: of.Type_Hello, Length: headerLen + 8, Xid: xid}).MarshalBinary()
	return append(b, 0, common.HelloElemType_VersionBitmap, 0, 8, 0, 0, 0, 1<<version), err
}

func plainMessage(kind uint8) builder {
	return func(xid uint32) ([]byte, error) {
		h := newHeader(kind, xid)
		return h.MarshalBinary()
	}
}

// fragNXMatch is OFPC_FRAG_NX_MATCH of Open vSwitch (nicira-ext.h): flows see the
// ports and ICMP types of first fragments. By default they see zeros, and what a
// flow forbids by its port would pass in two pieces.
const fragNXMatch = 3

func matchFragments(xid uint32) ([]byte, error) {
	m := of.NewSetConfig()
	m.Header.Xid, m.Flags = xid, fragNXMatch
	return m.MarshalBinary()
}

func flowDumpRequest(xid uint32) ([]byte, error) { return flowStatsRequest(everyTable, nil)(xid) }

func groupDumpRequest(xid uint32) ([]byte, error) {
	r := of.MultipartRequest{Header: newHeader(of.Type_MultiPartRequest, xid), Type: of.MultipartType_GroupDesc, Body: new(raw)}
	return r.MarshalBinary()
}

// bundle wraps messages into the ONF bundle extension for OpenFlow 1.3
// (EXT-230). The outer and the inner message carry the same xid, as the
// extension demands.
type bundle struct{ id uint32 }

// bundleAddLen is what a bundle adds to a message.
const bundleAddLen = headerLen + 16

const bundleFlags = of.OFPBCT_ATOMIC | of.OFPBCT_ORDERED

func (bd bundle) control(kind uint16) builder {
	return func(xid uint32) ([]byte, error) {
		m := of.NewBundleControl(&of.BundleControl{BundleID: bd.id, Type: kind, Flags: bundleFlags})
		m.Header.Xid = xid
		return m.MarshalBinary()
	}
}

func (bd bundle) add(inner builder) builder {
	return func(xid uint32) ([]byte, error) {
		m, err := inner(xid)
		if err != nil {
			return nil, err
		}
		if len(m) > maxMessage-bundleAddLen {
			return nil, fmt.Errorf("message of %d bytes does not fit a bundle", len(m))
		}
		b := make([]byte, 0, bundleAddLen+len(m))
		b = appendHeader(b, of.Type_Experimenter, bundleAddLen+len(m), xid)
		b = binary.BigEndian.AppendUint32(b, of.ONF_EXPERIMENTER_ID)
		b = binary.BigEndian.AppendUint32(b, of.Type_BundleAdd)
		b = binary.BigEndian.AppendUint32(b, bd.id)
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, bundleFlags)
		return append(b, m...), nil
	}
}

func appendHeader(b []byte, kind uint8, length int, xid uint32) []byte {
	b = append(b, version, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	return binary.BigEndian.AppendUint32(b, xid)
}

// flowModLen is the fixed part of a flow mod before its match.
const flowModLen = headerLen + 40

// flowMod lays out a flow mod (OpenFlow 1.3.5, 7.3.4.1). It is written here and
// not by libOpenflow because a hundred thousand of them are.
func flowMod(command uint8, k flow.Key, cookie uint64, fields []byte, instructions string) builder {
	return func(xid uint32) ([]byte, error) {
		match := pad8(4 + len(fields))
		n := flowModLen + match + len(instructions)
		if n > maxMessage {
			return nil, fmt.Errorf("flow of %d bytes does not fit a message", n)
		}
		b := make([]byte, 0, n)
		b = appendHeader(b, of.Type_FlowMod, n, xid)
		b = binary.BigEndian.AppendUint64(b, cookie)
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, k.Table, command, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, k.Priority)
		// No buffer, any port, any group, no flags.
		b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, of.MatchType_OXM)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(fields)))
		b = append(b, fields...)
		b = b[:flowModLen+match]
		return append(b, instructions...), nil
	}
}

// bundledLen is how long the flow mod of a flow is inside a bundle.
func bundledLen(k flow.Key, instructions int) int {
	return bundleAddLen + flowModLen + pad8(4+len(appendMatch(nil, k.Match()))) + instructions
}

// flowAdd adds a flow or replaces the one with the same identity.
func flowAdd(e *entry) builder {
	return flowMod(of.FC_ADD, e.key, e.owner.cookie, appendMatch(nil, e.key.Match()), e.instructions)
}

// flowDelete deletes exactly one flow; fields are encoded as by encodeMatch.
func flowDelete(table uint8, priority uint16, fields []byte) builder {
	return flowMod(of.FC_DELETE_STRICT, flow.Key{Table: table, Priority: priority}, 0, fields, "")
}

// groupMessage adds, modifies or deletes a group; command is an of.OFPGC
// constant.
func groupMessage(command uint16, e *groupEntry) builder {
	return func(xid uint32) ([]byte, error) {
		m := of.NewGroupMod()
		m.Header.Xid = xid
		m.Command, m.Type, m.GroupId = command, uint8(e.kind), e.id
		b, err := m.MarshalBinary()
		if err != nil || command == of.OFPGC_DELETE {
			return b, err
		}
		b = append(b, e.buckets...)
		if len(b) > maxMessage {
			return nil, fmt.Errorf("group of %d bytes does not fit a message", len(b))
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		return b, nil
	}
}

// bucketLen is the fixed part of a bucket.
const bucketLen = 16

func encodeBuckets(g flow.Group) ([]byte, error) {
	var out []byte
	for _, bk := range g.Buckets {
		actions, err := encodeActions(bk.Actions)
		if err != nil {
			return nil, err
		}
		n := bucketLen + len(actions)
		if out == nil {
			out = make([]byte, 0, n*len(g.Buckets)+1) // most often of one length; see sumBuckets
		}
		weight := bk.Weight
		if g.Type != flow.GroupSelect {
			weight = 0
		}
		out = binary.BigEndian.AppendUint16(out, uint16(n))
		out = binary.BigEndian.AppendUint16(out, weight)
		out = binary.BigEndian.AppendUint32(out, orAny(bk.WatchPort))
		out = binary.BigEndian.AppendUint32(out, orAny(bk.WatchGroup))
		out = append(append(out, 0, 0, 0, 0), actions...)
	}
	return out, nil
}

// orAny writes "none" as the wire does: OFPP_ANY and OFPG_ANY.
func orAny(n uint32) uint32 {
	if n == 0 {
		return 0xffffffff
	}
	return n
}

func fromAny(n uint32) uint32 {
	if n == 0xffffffff {
		return 0
	}
	return n
}

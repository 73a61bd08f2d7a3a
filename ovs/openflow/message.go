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
	// version is OpenFlow 1.5 on the wire. Before it a group cannot say how it
	// chooses, and what Open vSwitch does then disregards the ports of UDP.
	version   = 6
	headerLen = 8
	// maxMessage is what the 16-bit length of a message allows.
	maxMessage = 0xffff
)

// builder lays out a message that carries the given transaction number.
type builder func(xid uint32) ([]byte, error)

// header is the start of every message (OpenFlow 1.5.1, 7.1.1).
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
	// A version bitmap with bit 6 alone: OpenFlow 1.5 or nothing.
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
	return setConfig(xid, 0), nil
}

// setConfig lays out OFPT_SET_CONFIG (OpenFlow 1.5.1, 7.3.2) with the fragment
// mode of all connections.
func setConfig(xid uint32, missSendLen uint16) []byte {
	b := appendHeader(nil, of.Type_SetConfig, headerLen+4, xid)
	b = binary.BigEndian.AppendUint16(b, fragNXMatch)
	return binary.BigEndian.AppendUint16(b, missSendLen)
}

func flowDumpRequest(xid uint32) ([]byte, error) { return flowStatsRequest(everyTable, nil)(xid) }

func groupDumpRequest(xid uint32) ([]byte, error) {
	body := raw(binary.BigEndian.AppendUint32(nil, of.OFPG_ALL))
	body = append(body, 0, 0, 0, 0)
	r := of.MultipartRequest{Header: newHeader(of.Type_MultiPartRequest, xid), Type: of.MultipartType_GroupDesc, Body: &body}
	return r.MarshalBinary()
}

// bundle wraps messages into bundles (OpenFlow 1.5.1, 7.3.9). The outer and the
// inner message carry the same xid, as it demands.
type bundle struct{ id uint32 }

const (
	typeBundleControl = 33
	typeBundleAdd     = 34

	// bundleAddLen is what a bundle adds to a message.
	bundleAddLen = headerLen + 8
)

const bundleFlags = of.OFPBCT_ATOMIC | of.OFPBCT_ORDERED

func (bd bundle) control(kind uint16) builder {
	return func(xid uint32) ([]byte, error) {
		b := appendHeader(nil, typeBundleControl, headerLen+8, xid)
		b = binary.BigEndian.AppendUint32(b, bd.id)
		b = binary.BigEndian.AppendUint16(b, kind)
		return binary.BigEndian.AppendUint16(b, bundleFlags), nil
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
		b = appendHeader(b, typeBundleAdd, bundleAddLen+len(m), xid)
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

// flowMod lays out a flow mod (OpenFlow 1.5.1, 7.3.4.2). It is written here and
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
		// No buffer, any port, any group, no flags, no importance.
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

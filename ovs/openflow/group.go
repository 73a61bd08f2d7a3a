// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Groups as OpenFlow 1.5 has them (1.5.1, 7.3.4.3 and 7.3.5.6).
const (
	groupModLen  = headerLen + 16
	groupDescLen = 16
	bucketLen    = 8

	// allBuckets is OFPG_BUCKET_ALL: the command is for the whole group.
	allBuckets = 0xffffffff

	bucketWeight     = 0
	bucketWatchPort  = 1
	bucketWatchGroup = 2
)

// selection is the property of select groups that says how they choose, an
// extension of Open vSwitch (netronome-ext.h): method dp_hash with parameter 0,
// a hash of addresses, protocol and ports that the datapath computes. Without it
// Open vSwitch takes a hash in which ports of UDP do not count.
var selection = func() []byte {
	const experimenter, kind, netronome, method, length = 0xffff, 1, 0x154d, "dp_hash", 40
	b := binary.BigEndian.AppendUint16(nil, experimenter)
	b = binary.BigEndian.AppendUint16(b, length)
	b = binary.BigEndian.AppendUint32(b, netronome)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = append(append(b, 0, 0, 0, 0), method...)
	return append(b, make([]byte, length-len(b))...)
}()

// groupProperties are the properties that groups of a type have.
func groupProperties(kind flow.GroupType) []byte {
	if kind == flow.GroupSelect {
		return selection
	}
	return nil
}

// groupMessage adds, modifies or deletes a group; command is an of.OFPGC
// constant.
func groupMessage(command uint16, e *groupEntry) builder {
	return func(xid uint32) ([]byte, error) {
		buckets, properties := e.buckets, groupProperties(e.kind)
		if command == of.OFPGC_DELETE {
			buckets, properties = "", nil
		}
		n := groupModLen + len(buckets) + len(properties)
		if n > maxMessage {
			return nil, fmt.Errorf("group of %d bytes does not fit a message", n)
		}
		b := appendHeader(make([]byte, 0, n), of.Type_GroupMod, n, xid)
		b = binary.BigEndian.AppendUint16(b, command)
		b = append(b, byte(e.kind), 0)
		b = binary.BigEndian.AppendUint32(b, e.id)
		b = binary.BigEndian.AppendUint16(b, uint16(len(buckets)))
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint32(b, allBuckets)
		return append(append(b, buckets...), properties...), nil
	}
}

func encodeBuckets(g flow.Group) ([]byte, error) {
	var out []byte
	for i, bk := range g.Buckets {
		actions, err := encodeActions(bk.Actions)
		if err != nil {
			return nil, err
		}
		properties := bucketProperties(g.Type, bk)
		n := bucketLen + len(actions) + len(properties)
		if out == nil {
			out = make([]byte, 0, n*len(g.Buckets)+1) // most often of one length; see sumBuckets
		}
		out = binary.BigEndian.AppendUint16(out, uint16(n))
		out = binary.BigEndian.AppendUint16(out, uint16(len(actions)))
		out = binary.BigEndian.AppendUint32(out, uint32(i))
		out = append(append(out, actions...), properties...)
	}
	return out, nil
}

func bucketProperties(kind flow.GroupType, bk flow.Bucket) []byte {
	var b []byte
	if kind == flow.GroupSelect {
		b = append(binary.BigEndian.AppendUint16([]byte{0, bucketWeight, 0, 8}, bk.Weight), 0, 0)
	}
	if bk.WatchPort != 0 {
		b = binary.BigEndian.AppendUint32(append(b, 0, bucketWatchPort, 0, 8), bk.WatchPort)
	}
	if bk.WatchGroup != 0 {
		b = binary.BigEndian.AppendUint32(append(b, 0, bucketWatchGroup, 0, 8), bk.WatchGroup)
	}
	return b
}

// rawGroup is a group as the switch reports it.
type rawGroup struct {
	id                  uint32
	kind                uint8
	buckets, properties []byte
}

func parseGroupDesc(body []byte) ([]rawGroup, error) {
	var out []rawGroup
	for len(body) > 0 {
		if len(body) < groupDescLen {
			return nil, errShort
		}
		n := int(binary.BigEndian.Uint16(body))
		if n < groupDescLen || n > len(body) {
			return nil, fmt.Errorf("group description of length %d", n)
		}
		end := groupDescLen + int(binary.BigEndian.Uint16(body[8:]))
		if end > n {
			return nil, fmt.Errorf("group description of length %d with %d bytes of buckets", n, end-groupDescLen)
		}
		out = append(out, rawGroup{
			kind: body[2], id: binary.BigEndian.Uint32(body[4:]), buckets: body[groupDescLen:end], properties: body[end:n],
		})
		body = body[n:]
	}
	return out, nil
}

// decode is the group as data. It fails for what Waymark does not use.
func (r rawGroup) decode() (flow.Group, error) {
	g := flow.Group{ID: r.id, Type: flow.GroupType(r.kind)}
	if !bytes.Equal(r.properties, groupProperties(g.Type)) {
		return flow.Group{}, errors.New("group chooses in another way")
	}
	for b := r.buckets; len(b) > 0; {
		if len(b) < bucketLen {
			return flow.Group{}, errShort
		}
		n, end := int(binary.BigEndian.Uint16(b)), bucketLen+int(binary.BigEndian.Uint16(b[2:]))
		if n < end || n > len(b) {
			return flow.Group{}, fmt.Errorf("bucket of length %d with %d bytes of actions", n, end-bucketLen)
		}
		actions, err := decodeActions(b[bucketLen:end])
		if err != nil {
			return flow.Group{}, err
		}
		bk := flow.Bucket{Actions: actions}
		if err := decodeBucketProperties(&bk, b[end:n]); err != nil {
			return flow.Group{}, err
		}
		g.Buckets = append(g.Buckets, bk)
		b = b[n:]
	}
	return g, nil
}

func decodeBucketProperties(bk *flow.Bucket, b []byte) error {
	for len(b) > 0 {
		kind, value, rest, err := cutProperty(b)
		if err != nil {
			return err
		}
		switch {
		case len(value) != 4:
			return fmt.Errorf("property %d of a bucket has %d bytes", kind, len(value))
		case kind == bucketWeight:
			bk.Weight = binary.BigEndian.Uint16(value)
		case kind == bucketWatchPort:
			bk.WatchPort = binary.BigEndian.Uint32(value)
		case kind == bucketWatchGroup:
			bk.WatchGroup = binary.BigEndian.Uint32(value)
		default:
			return fmt.Errorf("bucket with property %d", kind)
		}
		b = rest
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"fmt"
	"hash/maphash"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// entry is a flow that an owner wants. It is kept as it is sent, which takes a
// fraction of the memory of a flow.Flow. Entries do not change, except for at,
// which the lock of the Target guards.
type entry struct {
	key          flow.Key
	owner        *ownerState
	instructions string
	sum          uint64
	// at is where the entry is in owner.flows.
	at int
}

// flow is the entry as data, for messages to people.
func (e *entry) flow() flow.Flow {
	f := flow.Flow{Table: e.key.Table, Priority: e.key.Priority, Cookie: e.owner.cookie, Match: e.key.Match()}
	f.Actions, _ = decodeInstructions([]byte(e.instructions))
	return f
}

// groupEntry is a group that an owner wants. Its buckets are kept as they are
// sent, for the same reason. groupEntries do not change.
type groupEntry struct {
	id      uint32
	kind    flow.GroupType
	buckets string
	owner   string
	sum     uint64
}

func newGroupEntry(owner string, g flow.Group) (*groupEntry, error) {
	b, err := encodeBuckets(g)
	if err != nil {
		return nil, err
	}
	return &groupEntry{id: g.ID, kind: g.Type, buckets: string(b), owner: owner, sum: sumBuckets(g.Type, b)}, nil
}

// group is the entry as data, for messages to people.
func (e *groupEntry) group() flow.Group {
	g, _ := rawGroup{kind: uint8(e.kind), id: e.id, buckets: []byte(e.buckets), properties: groupProperties(e.kind)}.decode()
	return g
}

// present is what the switch holds under a flow's identity. sum is 0 when it
// holds something that Waymark cannot have sent.
type present struct{ cookie, sum uint64 }

// mirror is the picture of the switch. The goroutine of Run alone uses it.
type mirror struct {
	flows  map[flow.Key]present
	groups map[uint32]uint64
	// foreign are flows whose match Waymark does not know.
	foreign []rawFlow
	// read is what the switch reported of each group when it was read: to take
	// thousands of groups apart again because one has changed is a lot of garbage.
	read map[uint32]readGroup
}

// readGroup is the hash of a group as it was reported, and the sum that it came to.
type readGroup struct{ hash, sum uint64 }

// seed makes the hashes of this process unpredictable.
var seed = maphash.MakeSeed()

// sumActions is never 0.
func sumActions(actions []flow.Action) (uint64, error) {
	b, err := encodeInstructions(actions)
	if err != nil {
		return 0, err
	}
	return sumInstructions(b), nil
}

func sumInstructions(b []byte) uint64 { return maphash.Bytes(seed, b) | 1 }

// sumBuckets is never 0. It may write behind the end of b.
func sumBuckets(kind flow.GroupType, b []byte) uint64 {
	return maphash.Bytes(seed, append(b, byte(kind))) | 1
}

// newMirror understands what the switch reports. What it cannot understand
// differs from everything that is wanted. before is the last picture, nil if
// there is none.
func newMirror(flows []rawFlow, groups []rawGroup, before *mirror) *mirror {
	m := &mirror{
		flows:  make(map[flow.Key]present, len(flows)),
		groups: make(map[uint32]uint64, len(groups)),
		read:   make(map[uint32]readGroup, len(groups)),
	}
	// Many flows do the same.
	sums := map[string]uint64{}
	for _, r := range flows {
		match, err := decodeMatch(r.match)
		if err != nil {
			m.foreign = append(m.foreign, r)
			continue
		}
		key := flow.Flow{Table: r.table, Priority: r.priority, Match: match}.Key()
		p := present{cookie: r.cookie}
		if r.timeouts == 0 {
			sum, known := sums[string(r.actions)]
			if !known {
				sum = r.sum()
				sums[string(r.actions)] = sum
			}
			p.sum = sum
		}
		m.flows[key] = p
	}
	for _, r := range groups {
		g := readGroup{hash: r.hash(seed)}
		if old, known := before.lastRead(r.id); known && old.hash == g.hash {
			g.sum = old.sum
		} else {
			g.sum = r.sum()
		}
		m.groups[r.id], m.read[r.id] = g.sum, g
	}
	return m
}

// lastRead is what was read of a group; m may be nil.
func (m *mirror) lastRead(id uint32) (g readGroup, known bool) {
	if m != nil {
		g, known = m.read[id]
	}
	return g, known
}

// sum is 0 for a group that Waymark cannot have sent.
func (r rawGroup) sum() uint64 {
	g, err := r.decode()
	if err != nil {
		return 0
	}
	b, err := encodeBuckets(g)
	if err != nil {
		return 0
	}
	return sumBuckets(g.Type, b)
}

// sum is 0 for actions that Waymark does not use.
func (r rawFlow) sum() uint64 {
	actions, err := decodeInstructions(r.actions)
	if err != nil {
		return 0
	}
	sum, _ := sumActions(actions)
	return sum
}

// opKind is in the order in which a bundle must hold the operations: flows
// refer to groups.
type opKind uint8

const (
	groupAdd opKind = iota
	groupModify
	flowsDelete
	foreignDelete
	flowsAdd
	flowsModify
	groupDelete
	opKinds
)

// op is one difference between what is wanted and what the switch holds.
type op struct {
	kind    opKind
	owner   string
	key     flow.Key
	entry   *entry
	foreign rawFlow
	group   uint32
	wanted  *groupEntry
}

func (o op) String() string {
	switch o.kind {
	case groupAdd, groupModify, groupDelete:
		if o.wanted != nil {
			return o.wanted.group().String()
		}
		return describeGroup(o.group)
	case foreignDelete:
		return fmt.Sprintf("flow table=%d, priority=%d, unknown match %x", o.foreign.table, o.foreign.priority, o.foreign.match)
	}
	if o.entry != nil {
		return "flow " + o.entry.flow().String()
	}
	return describeFlow(o.key)
}

func (o op) message() builder {
	switch o.kind {
	case groupAdd:
		return groupMessage(of.OFPGC_ADD, o.wanted)
	case groupModify:
		return groupMessage(of.OFPGC_MODIFY, o.wanted)
	case groupDelete:
		return groupMessage(of.OFPGC_DELETE, &groupEntry{id: o.group})
	case flowsDelete:
		return flowDelete(o.key.Table, o.key.Priority, appendMatch(nil, o.key.Match()))
	case foreignDelete:
		return flowDelete(o.foreign.table, o.foreign.priority, o.foreign.match)
	}
	return flowAdd(o.entry)
}

// diffFlow compares one flow. want is nil when nobody wants it.
func (m *mirror) diffFlow(k flow.Key, want *entry) (op, bool) {
	have, exists := m.flows[k]
	switch {
	case want == nil && !exists:
		return op{}, false
	case want == nil:
		return op{kind: flowsDelete, key: k}, true
	case !exists:
		return op{kind: flowsAdd, key: k, entry: want, owner: want.owner.name}, true
	case have.cookie != want.owner.cookie || have.sum != want.sum:
		return op{kind: flowsModify, key: k, entry: want, owner: want.owner.name}, true
	}
	return op{}, false
}

func (m *mirror) diffGroup(id uint32, want *groupEntry) (op, bool) {
	have, exists := m.groups[id]
	switch {
	case want == nil && !exists:
		return op{}, false
	case want == nil:
		return op{kind: groupDelete, group: id}, true
	case !exists:
		return op{kind: groupAdd, group: id, wanted: want, owner: want.owner}, true
	case have != want.sum:
		return op{kind: groupModify, group: id, wanted: want, owner: want.owner}, true
	}
	return op{}, false
}

// apply brings the picture up to date after ops were done. Deleting a group
// makes a switch delete the flows that refer to it; those are deleted before
// in the same bundle.
func (m *mirror) apply(ops []op) {
	for _, o := range ops {
		switch o.kind {
		case groupAdd, groupModify:
			m.groups[o.group] = o.wanted.sum
		case groupDelete:
			delete(m.groups, o.group)
		case flowsDelete:
			delete(m.flows, o.key)
		case foreignDelete:
			m.foreign = nil
		default:
			m.flows[o.key] = present{cookie: o.entry.owner.cookie, sum: o.entry.sum}
		}
	}
}

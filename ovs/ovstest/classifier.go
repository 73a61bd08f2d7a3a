// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
)

// table finds the flow that a packet meets. Flows that compare the same bits
// are in one subtable, where a hash finds those with the packet's values, so a
// lookup costs as much as there are different sets of bits.
type table struct {
	byMask map[string]*subtable
	// sorted are the subtables, the highest priority first; nil when it must
	// be made anew.
	sorted []*subtable
}

type subtable struct {
	mask string
	// fields are what is compared, in the order of the key.
	fields []maskedField
	// buckets hold flows with the same match, the highest priority first.
	buckets map[string][]*rule
	// count is how many flows each priority has; top is the highest of them.
	count map[uint16]int
	top   uint16
}

type maskedField struct {
	field flow.Field
	mask  []byte
}

type rule struct {
	flow flow.Flow
	// clauses are the conjunctive matches that the flow is part of. Such a
	// flow does nothing else.
	clauses []flow.Conjunction
}

func newTable() *table { return &table{byMask: map[string]*subtable{}} }

// shape is the set of bits that a canonical match compares, and their values.
func shape(m flow.Match) (mask, key string, fields []maskedField) {
	var mb, kb []byte
	for _, fm := range m {
		full := fm.Mask
		if full == nil {
			full = slices.Repeat([]byte{0xff}, len(fm.Value))
		}
		mb = append(append(mb, byte(fm.Field)), full...)
		kb = append(kb, fm.Value...)
		fields = append(fields, maskedField{field: fm.Field, mask: full})
	}
	return string(mb), string(kb), fields
}

func (t *table) add(f flow.Flow) {
	mask, key, fields := shape(f.Match.Canonical())
	sub, ok := t.byMask[mask]
	if !ok {
		sub = &subtable{mask: mask, fields: fields, buckets: map[string][]*rule{}, count: map[uint16]int{}}
		t.byMask[mask] = sub
		t.sorted = nil
	}
	r := &rule{flow: f}
	for _, a := range f.Actions {
		if c, ok := a.(flow.Conjunction); ok {
			r.clauses = append(r.clauses, c)
		}
	}
	bucket := sub.buckets[key]
	i, _ := slices.BinarySearchFunc(bucket, f.Priority, func(r *rule, p uint16) int { return cmp.Compare(p, r.flow.Priority) })
	sub.buckets[key] = slices.Insert(bucket, i, r)
	sub.count[f.Priority]++
	if len(sub.count) == 1 || f.Priority > sub.top {
		sub.top = f.Priority
		t.sorted = nil
	}
}

func (t *table) remove(k flow.Key) {
	mask, key, _ := shape(k.Match())
	sub, ok := t.byMask[mask]
	if !ok {
		return
	}
	bucket := slices.DeleteFunc(sub.buckets[key], func(r *rule) bool { return r.flow.Priority == k.Priority })
	sub.buckets[key] = bucket
	if len(bucket) == 0 {
		delete(sub.buckets, key)
	}
	if sub.count[k.Priority]--; sub.count[k.Priority] > 0 {
		return
	}
	delete(sub.count, k.Priority)
	if len(sub.count) == 0 {
		delete(t.byMask, mask)
		t.sorted = nil
		return
	}
	if k.Priority != sub.top {
		return
	}
	sub.top = 0
	for p := range sub.count {
		sub.top = max(sub.top, p)
	}
	t.sorted = nil
}

func (t *table) subtables() []*subtable {
	if t.sorted == nil {
		for _, sub := range t.byMask {
			t.sorted = append(t.sorted, sub)
		}
		slices.SortFunc(t.sorted, func(a, b *subtable) int {
			return cmp.Or(cmp.Compare(b.top, a.top), cmp.Compare(a.mask, b.mask))
		})
	}
	return t.sorted
}

// find returns the flows of a subtable that match.
func (sub *subtable) find(s *state) []*rule {
	var room [128]byte
	key := room[:0]
	for _, f := range sub.fields {
		if !s.present(f.field) {
			return nil
		}
		for i, b := range s.get(f.field) {
			key = append(key, b&f.mask[i])
		}
	}
	return sub.buckets[string(key)]
}

// best is the flow that a lookup found so far.
type best struct{ rule, rival *rule }

func (b *best) priority() int {
	if b.rule == nil {
		return -1
	}
	return int(b.rule.flow.Priority)
}

func (b *best) offer(r *rule) {
	switch p := int(r.flow.Priority); {
	case p > b.priority():
		b.rule, b.rival = r, nil
	case p == b.priority():
		b.rival = r
	}
}

func (b *best) result() (*rule, error) {
	if b.rival != nil {
		return nil, fmt.Errorf("both match: %s and %s", b.rule.flow, b.rival.flow)
	}
	return b.rule, nil
}

// lookup is what ovs-fields(7) says under conj_id and what the classifier of
// Open vSwitch does: of the clauses that match, those of the highest priority
// are looked at together. A conjunctive match of which every clause is there
// decides by one more lookup with its number as conj_id, in which clauses do
// not count. When nothing comes of it, it is the turn of the clauses of the
// next lower priority, as long as it is above that of a plain flow. choice says
// that several conjunctive matches would do.
func (t *table) lookup(s *state) (r *rule, choice bool, err error) {
	hard, soft := t.search(s)
	for {
		priority := -1
		soft = slices.DeleteFunc(soft, func(b []*rule) bool {
			return len(b) == 0 || int(b[0].flow.Priority) < hard.priority()
		})
		for _, b := range soft {
			priority = max(priority, int(b[0].flow.Priority))
		}
		if priority < 0 {
			r, err = hard.result()
			return r, choice, err
		}
		ids := complete(soft, priority)
		if len(ids) > 0 && priority == hard.priority() {
			return nil, choice, fmt.Errorf("both match: %s and conjunction %d of the same priority", hard.rule.flow, ids[0])
		}
		choice = choice || len(ids) > 1
		for _, id := range ids {
			if r, err := t.withConjunction(s, id); r != nil || err != nil {
				return r, choice, err
			}
		}
		for i, b := range soft {
			if int(b[0].flow.Priority) != priority {
				continue
			}
			soft[i] = b[1:]
			if len(b) > 1 && len(b[1].clauses) == 0 {
				hard.offer(b[1])
				soft[i] = nil
			}
		}
	}
}

// search looks into every subtable: the best plain flow, and the flows with
// clauses that match, each with those of lower priority and the same match.
func (t *table) search(s *state) (hard best, soft [][]*rule) {
	for _, sub := range t.subtables() {
		if int(sub.top) < hard.priority() {
			break
		}
		bucket := sub.find(s)
		switch {
		case len(bucket) == 0:
		case len(bucket[0].clauses) > 0:
			soft = append(soft, bucket)
		default:
			hard.offer(bucket[0])
		}
	}
	return hard, soft
}

// withConjunction looks up s with a number of a conjunctive match.
func (t *table) withConjunction(s *state, id uint32) (*rule, error) {
	before := append([]byte(nil), s.get(flow.FieldConjID)...)
	s.put(flow.FieldConjID, flow.Uint(flow.FieldConjID, uint64(id)).Value)
	hard, _ := t.search(s)
	s.put(flow.FieldConjID, before)
	return hard.result()
}

// complete returns the conjunctive matches of which every clause is among the
// flows of a priority, in order.
func complete(soft [][]*rule, priority int) []uint32 {
	type clauses struct {
		n    uint8
		seen uint64
	}
	found := map[uint32]clauses{}
	for _, b := range soft {
		if int(b[0].flow.Priority) != priority {
			continue
		}
		for _, c := range b[0].clauses {
			have, ok := found[c.ID]
			if !ok {
				have.n = c.N
			}
			have.seen |= 1 << (c.Clause - 1)
			found[c.ID] = have
		}
	}
	var ids []uint32
	for id, c := range found {
		// A shift by 64 gives 0, and with it all bits.
		if all := uint64(1)<<c.n - 1; c.seen&all == all {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

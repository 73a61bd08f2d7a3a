// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"cmp"
	"slices"
)

// nodeID stands for a node's name. 0 is no node.
type nodeID uint32

// nodeCount is how many things on a node need something.
type nodeCount struct {
	node  nodeID
	count uint32
}

// span counts for each node how many things there need an object, and knows
// which nodes began and ended to need it: since the last Flush, and, once it
// is settled, between the last two.
type span struct {
	// counts are by node. If spread there is one for each nodeID, and node does
	// not count; otherwise those above 0 in order.
	counts []nodeCount
	size   int32 // nodes with a count
	spread bool
	// live says that a node needed the object at the last Flush. Otherwise no
	// changes are kept: no node needed it.
	live bool
	// settled says that changed and fresh are of the time between the last two
	// Flushes; fresh that no node needed the object at the first of them.
	settled, fresh bool
	changed        *[]nodeID
}

// Few nodes are a sorted list; from this number on it becomes a table, where
// that is not much larger.
const fewNodes = 32

func compareNode(c nodeCount, n nodeID) int { return cmp.Compare(c.node, n) }

// inc counts one more on a node, and reports whether it is the first.
func (s *span) inc(n nodeID) bool {
	first := false
	if s.spread {
		if int(n) >= len(s.counts) {
			s.counts = append(s.counts, make([]nodeCount, int(n)+1-len(s.counts))...)
		}
		s.counts[n].count++
		first = s.counts[n].count == 1
	} else if i, found := slices.BinarySearchFunc(s.counts, n, compareNode); found {
		s.counts[i].count++
	} else {
		s.counts = slices.Insert(s.counts, i, nodeCount{n, 1})
		first = true
		if last := s.counts[len(s.counts)-1].node; len(s.counts) > fewNodes && len(s.counts)*4 > int(last) {
			s.spreadOut(last)
		}
	}
	if first {
		s.size++
		s.toggle(n)
	}
	return first
}

// dec counts one less on a node that has some, and reports whether it was the last.
func (s *span) dec(n nodeID) bool {
	i := int(n)
	if !s.spread {
		i, _ = slices.BinarySearchFunc(s.counts, n, compareNode)
	}
	s.counts[i].count--
	if s.counts[i].count > 0 {
		return false
	}
	if !s.spread {
		s.counts = slices.Delete(s.counts, i, i+1)
	}
	s.size--
	s.toggle(n)
	return true
}

func (s *span) toggle(n nodeID) {
	s.steady()
	if !s.live {
		return
	}
	if s.changed == nil {
		s.changed = new([]nodeID)
	}
	*s.changed = append(*s.changed, n)
}

func (s *span) spreadOut(last nodeID) {
	table := make([]nodeCount, last+1)
	for _, c := range s.counts {
		table[c.node].count = c.count
	}
	s.counts, s.spread = table, true
}

// begin makes room in a span of nothing for the nodes of another.
func (s *span) begin(other *span) {
	if s.counts == nil && !other.spread {
		s.counts = make([]nodeCount, 0, other.size)
	}
}

func (s *span) has(n nodeID) bool {
	if s.spread {
		return int(n) < len(s.counts) && s.counts[n].count > 0
	}
	_, found := slices.BinarySearchFunc(s.counts, n, compareNode)
	return found
}

// each calls f with every node that needs the object.
func (s *span) each(f func(nodeID)) {
	for i, c := range s.counts {
		switch {
		case !s.spread:
			f(c.node)
		case c.count > 0:
			f(nodeID(i))
		}
	}
}

// settle ends the time since the last Flush; until the next toggle the span
// tells of it.
func (s *span) settle() {
	s.settled, s.fresh = true, !s.live
	s.live = s.size > 0
	if s.changed == nil {
		return
	}
	list := *s.changed
	slices.Sort(list)
	// A node that came and went as often is where it was.
	kept := 0
	for i := 0; i < len(list); {
		j := i
		for j < len(list) && list[j] == list[i] {
			j++
		}
		if (j-i)%2 == 1 {
			list[kept] = list[i]
			kept++
		}
		i = j
	}
	*s.changed = list[:kept]
}

// steady forgets what a settled span tells of.
func (s *span) steady() {
	if s.settled {
		s.settled, s.changed = false, nil
	}
}

// toggled reports whether the node began or ended to need the object. It and
// what follows are for spans that are settled, or that nothing happened to.
func (s *span) toggled(n nodeID) bool {
	if s.changed == nil {
		return false
	}
	_, found := slices.BinarySearch(*s.changed, n)
	return found
}

// isFresh reports whether no node needed the object before.
func (s *span) isFresh() bool { return s.settled && s.fresh || !s.settled && !s.live }

func (s *span) now(n nodeID) bool { return s.has(n) }

func (s *span) before(n nodeID) bool { return !s.isFresh() && s.toggled(n) != s.has(n) }

// grows reports whether a node began to need the object.
func (s *span) grows() bool {
	if s.isFresh() {
		return s.size > 0
	}
	return s.changed != nil && slices.ContainsFunc(*s.changed, s.has)
}

// eachEver calls f with every node that needs the object now or did before.
func (s *span) eachEver(f func(n nodeID, before, now bool)) {
	s.each(func(n nodeID) { f(n, !s.isFresh() && !s.toggled(n), true) })
	if s.changed == nil || s.isFresh() {
		return
	}
	for _, n := range *s.changed {
		if !s.has(n) {
			f(n, true, false)
		}
	}
}

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

// span counts for each node how many things there need an object, and
// remembers which nodes began and ended to need it since the last Flush.
type span struct {
	few  []nodeCount // by node; empty when many is used
	many []uint32    // counts by node
	size int         // nodes with a count
	// live says that a node needed the object at the last Flush. Otherwise log
	// is not kept: no node needed it.
	live bool
	log  []nodeID
}

// Few nodes are a sorted list; from this number on it becomes a table, where
// that is not much larger.
const fewNodes = 32

func compareNode(c nodeCount, n nodeID) int { return cmp.Compare(c.node, n) }

// inc counts one more on a node, and reports whether it is the first.
func (s *span) inc(n nodeID) bool {
	first := false
	if s.many != nil {
		if int(n) >= len(s.many) {
			s.many = append(s.many, make([]uint32, int(n)+1-len(s.many))...)
		}
		s.many[n]++
		first = s.many[n] == 1
	} else if i, found := slices.BinarySearchFunc(s.few, n, compareNode); found {
		s.few[i].count++
	} else {
		s.few = slices.Insert(s.few, i, nodeCount{n, 1})
		first = true
		if last := s.few[len(s.few)-1].node; len(s.few) > fewNodes && len(s.few)*4 > int(last) {
			s.spread(last)
		}
	}
	if first {
		s.toggle(n, 1)
	}
	return first
}

// dec counts one less on a node that has some, and reports whether it was the last.
func (s *span) dec(n nodeID) bool {
	last := false
	if s.many != nil {
		s.many[n]--
		last = s.many[n] == 0
	} else {
		i, _ := slices.BinarySearchFunc(s.few, n, compareNode)
		s.few[i].count--
		if last = s.few[i].count == 0; last {
			s.few = slices.Delete(s.few, i, i+1)
		}
	}
	if last {
		s.toggle(n, -1)
	}
	return last
}

func (s *span) toggle(n nodeID, by int) {
	s.size += by
	if s.live {
		s.log = append(s.log, n)
	}
}

func (s *span) spread(last nodeID) {
	s.many = make([]uint32, last+1)
	for _, c := range s.few {
		s.many[c.node] = c.count
	}
	s.few = nil
}

func (s *span) has(n nodeID) bool {
	if s.many != nil {
		return int(n) < len(s.many) && s.many[n] > 0
	}
	_, found := slices.BinarySearchFunc(s.few, n, compareNode)
	return found
}

// each calls f with every node that needs the object.
func (s *span) each(f func(nodeID)) {
	for n, count := range s.many {
		if count > 0 {
			f(nodeID(n))
		}
	}
	for _, c := range s.few {
		f(c.node)
	}
}

// reach says what happened to a span between two Flushes.
type reach struct {
	span    *span
	fresh   bool     // no node needed the object before
	changed []nodeID // that began or ended to need it; sorted; empty if fresh
}

// settle returns what happened since the last Flush and begins anew.
func (s *span) settle() reach {
	r := reach{span: s, fresh: !s.live, changed: s.log}
	slices.Sort(r.changed)
	// A node that came and went as often is where it was.
	kept := 0
	for i := 0; i < len(r.changed); {
		j := i
		for j < len(r.changed) && r.changed[j] == r.changed[i] {
			j++
		}
		if (j-i)%2 == 1 {
			r.changed[kept] = r.changed[i]
			kept++
		}
		i = j
	}
	r.changed = r.changed[:kept]
	s.live, s.log = s.size > 0, nil
	return r
}

// steady is the reach of a span of which nothing happened.
func (s *span) steady() reach { return reach{span: s, fresh: !s.live} }

func (r reach) now(n nodeID) bool { return r.span.has(n) }

func (r reach) before(n nodeID) bool {
	if r.fresh {
		return false
	}
	_, changed := slices.BinarySearch(r.changed, n)
	return changed != r.span.has(n)
}

// grows reports whether a node began to need the object.
func (r reach) grows() bool {
	if r.fresh {
		return r.span.size > 0
	}
	return slices.ContainsFunc(r.changed, r.span.has)
}

// each calls f with every node that needs the object now or did before.
func (r reach) each(f func(n nodeID, before, now bool)) {
	r.span.each(func(n nodeID) {
		_, changed := slices.BinarySearch(r.changed, n)
		f(n, !r.fresh && !changed, true)
	})
	for _, n := range r.changed {
		if !r.span.has(n) {
			f(n, true, false)
		}
	}
}

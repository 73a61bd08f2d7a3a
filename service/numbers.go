// SPDX-License-Identifier: Apache-2.0

package service

import "slices"

// numbers gives names numbers below a limit that depend on the names alone, and
// not on the order in which they came: each name has a row of numbers that it
// would take, from a hash, and gets the first that no lesser name has.
type numbers[N any] struct {
	// hash returns the try-th number that a name would take; no two tries give
	// the same as long as there are more numbers than names.
	hash func(name N, try int) uint32
	// compare is the order of names.
	compare func(a, b N) int
	// changed is told that a name has another number; nil for nobody.
	changed func(name N)

	// wanted has, by number, those that would take it, in order. The first has
	// it; the others found it taken, and have a later number of their row.
	wanted map[uint32][]wanting[N]
}

// wanting is a name and which number of its row this is.
type wanting[N any] struct {
	name N
	try  int
}

func (n *numbers[N]) search(number uint32, name N) (int, bool) {
	return slices.BinarySearchFunc(n.wanted[number], name, func(w wanting[N], name N) int { return n.compare(w.name, name) })
}

// of returns the number of a name that was added, and how many numbers of its
// row others have.
func (n *numbers[N]) of(name N) (number uint32, try int) {
	for ; ; try++ {
		number = n.hash(name, try)
		if n.compare(n.wanted[number][0].name, name) == 0 {
			return number, try
		}
	}
}

// add gives a name a number. One that has one keeps it.
func (n *numbers[N]) add(name N) {
	if n.wanted == nil {
		n.wanted = map[uint32][]wanting[N]{}
	}
	n.settle(wanting[N]{name: name}, false)
}

// settle enters a name from a number of its row on.
func (n *numbers[N]) settle(w wanting[N], moved bool) {
	for {
		number := n.hash(w.name, w.try)
		all := n.wanted[number]
		at, found := n.search(number, w.name)
		if found && at == 0 {
			return
		}
		if !found {
			n.wanted[number] = slices.Insert(all, at, w)
		}
		if at > 0 {
			w.try++
			continue
		}
		if moved && n.changed != nil {
			n.changed(w.name)
		}
		if len(all) == 0 {
			return
		}
		// Whoever had it goes on in its row.
		w, moved = n.wanted[number][1], true
		w.try++
	}
}

// remove takes a name's number back. Whoever wanted it moves there.
func (n *numbers[N]) remove(name N) { n.withdraw(name, 0) }

// withdraw takes a name out of the numbers of its row, from one of them on.
func (n *numbers[N]) withdraw(name N, try int) {
	for ; ; try++ {
		number := n.hash(name, try)
		at, found := n.search(number, name)
		if !found {
			return
		}
		n.leave(number, at)
		if at == 0 {
			return
		}
	}
}

// leave takes a name out of those that want a number. If it had the number, the
// next one gets it, and leaves what it has instead.
func (n *numbers[N]) leave(number uint32, at int) {
	all := slices.Delete(n.wanted[number], at, at+1)
	if len(all) == 0 {
		delete(n.wanted, number)
		return
	}
	n.wanted[number] = all
	if at > 0 {
		return
	}
	next := all[0]
	n.withdraw(next.name, next.try+1)
	if n.changed != nil {
		n.changed(next.name)
	}
}

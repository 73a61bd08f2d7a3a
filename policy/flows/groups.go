// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// groupIndex knows the class of each address: the set of groups that it is in.
type groupIndex struct {
	numbers   numbers
	addresses map[netip.Addr]*class
	classes   map[string]*class
	byGroup   map[policy.ID]map[*class]struct{}
}

// class is a set of groups that an address is in.
type class struct {
	content string
	number  uint32
	groups  []policy.ID
	// addresses counts those that have the class.
	addresses int
	linked    bool
}

func newGroupIndex(hash func(string) uint32) groupIndex {
	return groupIndex{
		numbers:   newNumbers(hash),
		addresses: map[netip.Addr]*class{}, classes: map[string]*class{},
		byGroup: map[policy.ID]map[*class]struct{}{},
	}
}

// contentOf joins names, which are sorted.
func contentOf(ids []policy.ID) string {
	var b strings.Builder
	b.Grow(16 * len(ids))
	for _, id := range ids {
		b.Write(id[:])
	}
	return b.String()
}

// move is an address whose groups change.
type move struct {
	// had is the number in the switch, 0 for none.
	had uint32
	// groups is what it is in now, sorted. It may be shared until it changes.
	groups []policy.ID
}

// applyGroups brings the groups of the state and the classes of all addresses
// up to date. The rest of the state follows in applyPolicies.
func (e *Engine) applyGroups(u *policy.Update) {
	moves := map[netip.Addr]*move{}
	for _, g := range u.Groups {
		before := e.state.Groups[g.ID]
		if g.Whole {
			now := make(policy.Addresses, len(g.Added))
			for _, a := range g.Added {
				now[a] = struct{}{}
			}
			for a := range before {
				if _, stays := now[a]; !stays {
					e.groups.moveOf(moves, a).leave(g.ID)
				}
			}
		}
		for _, a := range g.Removed {
			e.groups.moveOf(moves, a).leave(g.ID)
		}
		for _, a := range g.Added {
			e.groups.moveOf(moves, a).join(g.ID)
		}
	}
	for _, id := range u.GoneGroups {
		for a := range e.state.Groups[id] {
			e.groups.moveOf(moves, a).leave(id)
		}
	}
	e.state.Apply(&policy.Update{Groups: u.Groups, GoneGroups: u.GoneGroups})
	e.settleClasses(moves)
	for _, a := range slices.SortedFunc(maps.Keys(moves), netip.Addr.Compare) {
		now := e.groups.addresses[a]
		switch had := moves[a].had; {
		case now == nil && had != 0:
			e.remove(OwnerAddresses, pipeline.PeerAddress(a, 0))
		case now != nil && now.number != had:
			e.set(OwnerAddresses, pipeline.PeerAddress(a, now.number))
		}
	}
}

func (x *groupIndex) moveOf(moves map[netip.Addr]*move, a netip.Addr) *move {
	m, ok := moves[a]
	if !ok {
		m = &move{}
		if c := x.addresses[a]; c != nil {
			m.had, m.groups = c.number, c.groups
		}
		moves[a] = m
	}
	return m
}

func (m *move) join(id policy.ID) {
	if i, in := slices.BinarySearchFunc(m.groups, id, compareIDs); !in {
		m.groups = slices.Insert(slices.Clone(m.groups), i, id)
	}
}

func (m *move) leave(id policy.ID) {
	if i, in := slices.BinarySearchFunc(m.groups, id, compareIDs); in {
		m.groups = slices.Delete(slices.Clone(m.groups), i, i+1)
	}
}

// settleClasses gives the addresses their classes. When numbers change that are
// in use, the addresses that have them are added to moves.
func (e *Engine) settleClasses(moves map[netip.Addr]*move) {
	x := &e.groups
	touched := map[*class]struct{}{}
	for a, m := range moves {
		old, c := x.addresses[a], x.classOf(m.groups)
		if c == old {
			continue
		}
		if c != nil {
			x.addresses[a] = c
			c.addresses++
		} else {
			delete(x.addresses, a)
		}
		if old != nil {
			old.addresses--
			touched[old] = struct{}{}
		}
		if c != nil {
			touched[c] = struct{}{}
		}
	}
	var fresh []*class
	for c := range touched {
		switch {
		case c.addresses == 0:
			e.unlinkClass(c)
			x.numbers.drop(c.content)
			delete(x.classes, c.content)
		case !c.linked:
			fresh = append(fresh, c)
		}
	}
	if x.numbers.settle() {
		for _, c := range x.classes {
			if n := x.numbers.of(c.content); c.linked && n != c.number {
				for a, of := range x.addresses {
					if of == c {
						x.moveOf(moves, a)
					}
				}
				e.unlinkClass(c)
				fresh = append(fresh, c)
			}
		}
	}
	for _, c := range fresh {
		c.number = x.numbers.of(c.content)
		e.linkClass(c)
	}
}

// classOf finds the class of a set of groups; nil for none.
func (x *groupIndex) classOf(groups []policy.ID) *class {
	if len(groups) == 0 {
		return nil
	}
	content := contentOf(groups)
	c, ok := x.classes[content]
	if !ok {
		c = &class{content: content, groups: groups}
		x.classes[content] = c
		x.numbers.add(content)
	}
	return c
}

// linkClass adds a class to the conjunctions of its groups.
func (e *Engine) linkClass(c *class) {
	c.linked = true
	for _, g := range c.groups {
		insert(e.groups.byGroup, g, c)
		for r := range e.rules.byGroup[g] {
			e.clauses.add(r, clauseOfClass(c))
		}
	}
}

func (e *Engine) unlinkClass(c *class) {
	if !c.linked {
		return
	}
	c.linked = false
	for _, g := range c.groups {
		discard(e.groups.byGroup, g, c)
		for r := range e.rules.byGroup[g] {
			e.clauses.drop(r, clauseOfClass(c))
		}
	}
}

// insert and discard change an index of sets.
func insert[K, V comparable](index map[K]map[V]struct{}, k K, v V) {
	if index[k] == nil {
		index[k] = map[V]struct{}{}
	}
	index[k][v] = struct{}{}
}

func discard[K, V comparable](index map[K]map[V]struct{}, k K, v V) {
	delete(index[k], v)
	if len(index[k]) == 0 {
		delete(index, k)
	}
}

// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// A flow that is a clause of n conjunctions has n actions of 16 bytes, and a
// flow mod at most 64 KiB. When a clause has more than maxActions, the
// conjunctions of its table are spread by their hash over so many priorities
// that each has about maxActions at most; chance adds a few hundred, the message
// holds 4,000.
const (
	maxActions  = 1500
	shardLevels = 12
)

// kind is what a clause compares.
type kind uint8

const (
	kindAny kind = iota // nothing
	kindPort
	kindClass
	kindBlocks
	kindService // the protocol and the destination port
)

// dimension is what a clause compares, whatever its table.
type dimension struct {
	kind kind
	// number is the OpenFlow port or the number of the class.
	number uint32
	ports  portMatch
}

func clauseOfClass(c *class) dimension       { return dimension{kind: kindClass, number: c.number} }
func clauseOfBlocks(c *blockClass) dimension { return dimension{kind: kindBlocks, number: c.number} }
func clauseOfPort(port uint32) dimension     { return dimension{kind: kindPort, number: port} }
func clauseOfService(m portMatch) dimension  { return dimension{kind: kindService, ports: m} }

func compareDimensions(a, b dimension) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.number, b.number), a.ports.compare(b.ports))
}

// clauseKey names one clause flow (two for a service, one a family).
type clauseKey struct {
	table    uint8
	priority uint16
	dimension
}

func compareClauses(a, b clauseKey) int {
	return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(b.priority, a.priority), compareDimensions(a.dimension, b.dimension))
}

// clause is the set of conjunctions that a clause belongs to.
type clause struct {
	// rules counts for each how many of its groups or lists of blocks lead
	// here.
	rules map[*rule]int
	// sent is a hash of what the switch has, 0 for nothing.
	sent uint64
}

type clauseIndex struct {
	clauses map[clauseKey]*clause
	dirty   map[clauseKey]struct{}
	// totals counts the conjunctions of a clause over all priorities of the
	// tables of NetworkPolicies, levels how many clauses need each level.
	totals map[clauseKey]int
	levels map[uint8]*[shardLevels + 1]int
	// level is the number of priorities in use, as a power of 2.
	level map[uint8]int
}

func newClauseIndex() clauseIndex {
	return clauseIndex{
		clauses: map[clauseKey]*clause{}, dirty: map[clauseKey]struct{}{}, totals: map[clauseKey]int{},
		levels: map[uint8]*[shardLevels + 1]int{
			pipeline.TableEgressPolicy: {}, pipeline.TableIngressPolicy: {},
		},
		level: map[uint8]int{},
	}
}

func (x *clauseIndex) add(r *rule, d dimension) {
	k := clauseKey{r.table, r.priority, d}
	c, ok := x.clauses[k]
	if !ok {
		c = &clause{rules: map[*rule]int{}}
		x.clauses[k] = c
	}
	if c.rules[r]++; c.rules[r] == 1 {
		x.dirty[k] = struct{}{}
		x.count(r.table, d, 1)
	}
}

func (x *clauseIndex) drop(r *rule, d dimension) {
	k := clauseKey{r.table, r.priority, d}
	c := x.clauses[k]
	if c.rules[r]--; c.rules[r] == 0 {
		delete(c.rules, r)
		x.dirty[k] = struct{}{}
		x.count(r.table, d, -1)
	}
}

// count keeps totals and levels.
func (x *clauseIndex) count(table uint8, d dimension, n int) {
	levels, spread := x.levels[table]
	if !spread {
		return
	}
	k := clauseKey{table: table, dimension: d}
	old := x.totals[k]
	x.totals[k] = old + n
	if old+n == 0 {
		delete(x.totals, k)
	}
	if from, to := levelOf(old), levelOf(old+n); from != to {
		levels[from]--
		levels[to]++
	}
}

// levelOf is how often actions must be halved to fit.
func levelOf(actions int) int {
	level := 0
	for actions > maxActions && level < shardLevels {
		actions, level = (actions+1)/2, level+1
	}
	return level
}

// settleShards moves the conjunctions of a table when the number of their
// priorities has to change.
func (e *Engine) settleShards() {
	for table, levels := range e.clauses.levels {
		want := 0
		for level := 1; level <= shardLevels; level++ {
			if levels[level] > 0 {
				want = level
			}
		}
		if want == e.clauses.level[table] {
			continue
		}
		for _, r := range e.rules.rules {
			if r.table == table && r.linked {
				e.unlinkRule(r)
			}
		}
		e.clauses.level[table] = want
		for _, r := range e.rules.rules {
			if r.table == table {
				e.linkRule(r)
			}
		}
	}
}

// flushClauses records the flows of all clauses that changed.
func (e *Engine) flushClauses() {
	x := &e.clauses
	for _, k := range slices.SortedFunc(maps.Keys(x.dirty), compareClauses) {
		c := x.clauses[k]
		actions, sum := k.actions(c)
		switch {
		case sum == c.sent:
		case len(actions) == 0:
			for _, f := range k.flows(nil) {
				e.remove(k.owner(), f)
			}
		default:
			for _, f := range k.flows(actions) {
				e.set(k.owner(), f)
			}
		}
		c.sent = sum
		if len(c.rules) == 0 {
			delete(x.clauses, k)
		}
	}
	clear(x.dirty)
}

func (k clauseKey) owner() string {
	if k.kind == kindPort {
		return OwnerPort(k.number)
	}
	return OwnerTable(k.table)
}

// actions are sorted; sum is a hash of them, 0 for none.
func (k clauseKey) actions(c *clause) (actions []flow.Action, sum uint64) {
	if len(c.rules) == 0 {
		return nil, 0
	}
	all := make([]flow.Conjunction, 0, len(c.rules))
	for r := range c.rules {
		all = append(all, flow.Conjunction{ID: r.number, Clause: r.clause(k.kind), N: r.clauses()})
	}
	slices.SortFunc(all, func(a, b flow.Conjunction) int { return cmp.Compare(a.ID, b.ID) })
	h := fnv.New64a()
	actions = make([]flow.Action, len(all))
	for i, a := range all {
		actions[i] = a
		_, _ = h.Write([]byte{byte(a.ID >> 24), byte(a.ID >> 16), byte(a.ID >> 8), byte(a.ID), a.Clause, a.N}) // never fails
	}
	return actions, max(h.Sum64(), 1)
}

func (k clauseKey) flows(actions []flow.Action) []flow.Flow {
	f := flow.Flow{Table: k.table, Priority: k.priority, Actions: actions}
	switch k.kind {
	case kindPort:
		f.Match = flow.Match{pipeline.MatchJudged(k.number)}
	case kindClass:
		f.Match = flow.Match{pipeline.MatchAddressClass(k.number)}
	case kindBlocks:
		f.Match = flow.Match{pipeline.MatchBlockClass(k.number)}
	case kindService:
		v4, v6 := f, f
		v4.Match, v6.Match = k.ports.match(flow.EthTypeIPv4), k.ports.match(flow.EthTypeIPv6)
		return []flow.Flow{v4, v6}
	}
	return []flow.Flow{f}
}

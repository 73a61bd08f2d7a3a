// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"maps"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/policy"
)

// ruleIndex knows the rules that policies hold, and which of them are in the
// clauses.
type ruleIndex struct {
	numbers numbers
	rules   map[string]*rule
	// byNumber has the rules that are linked.
	byNumber map[uint32]*rule
	// bySubject, byGroup and byBlocks have the rules that are linked.
	bySubject map[policy.ID]map[*rule]struct{}
	byGroup   map[policy.ID]map[*rule]struct{}
	byBlocks  map[blockSet]map[*rule]struct{}
	// ofPolicy has what each policy holds.
	ofPolicy map[policy.Key]map[RuleRef]*rule
	// ranked are the policies of each tier and priority with an order.
	ranked map[rankKey]map[policy.Key]struct{}
	// isolating counts the policies that isolate the Pods of a subject.
	isolating [policy.Directions]map[policy.ID]int
	// touched are rules that came, went or changed.
	touched map[*rule]struct{}
}

type rankKey struct {
	tier     policy.Tier
	priority int32
}

func newRuleIndex(hash func(string) uint32) ruleIndex {
	return ruleIndex{
		numbers: newNumbers(hash), rules: map[string]*rule{}, byNumber: map[uint32]*rule{},
		bySubject: map[policy.ID]map[*rule]struct{}{}, byGroup: map[policy.ID]map[*rule]struct{}{},
		byBlocks: map[blockSet]map[*rule]struct{}{}, ofPolicy: map[policy.Key]map[RuleRef]*rule{},
		ranked:    map[rankKey]map[policy.Key]struct{}{},
		isolating: [policy.Directions]map[policy.ID]int{{}, {}},
		touched:   map[*rule]struct{}{},
	}
}

// RuleRef names a rule of a policy as its user wrote it.
type RuleRef struct {
	Policy    policy.Key
	Direction policy.Direction
	// Index is its place in the user's list, from 0.
	Index int
	// Name is the name that the user gave it; may be empty.
	Name string
	// part tells apart the rules that one of the user's became.
	part int
}

// applyPolicies brings the policies of the state and their rules up to date.
func (e *Engine) applyPolicies(u *policy.Update) {
	x := &e.rules
	ranked := map[rankKey]struct{}{}
	var changed []policy.Key
	replace := func(k policy.Key, now *policy.Policy) {
		if old := e.state.Policies[k]; old != nil {
			e.isolate(old, -1)
			if old.Tier != policy.TierNamespace {
				key := rankKey{old.Tier, old.Priority}
				discard(x.ranked, key, k)
				ranked[key] = struct{}{}
			}
		}
		changed = append(changed, k)
		if now == nil {
			delete(e.state.Policies, k)
			return
		}
		e.state.Policies[k] = now
		e.isolate(now, 1)
		if now.Tier != policy.TierNamespace {
			key := rankKey{now.Tier, now.Priority}
			insert(x.ranked, key, k)
			ranked[key] = struct{}{}
		}
	}
	for _, p := range u.Policies {
		replace(p.Key, p)
	}
	for _, k := range u.GonePolicies {
		replace(k, nil)
	}
	for key := range ranked {
		for k := range x.ranked[key] {
			changed = append(changed, k)
		}
	}
	ranksOf := map[rankKey]map[RuleRef]int{}
	for _, k := range changed {
		e.holdRules(k, ranksOf)
	}
	e.settleRules()
}

// rankRules counts the rules of all policies of one tier and priority in order,
// each direction on its own. The parts of one rule of the user share a rank.
func (e *Engine) rankRules(key rankKey) map[RuleRef]int {
	keys := slices.SortedFunc(maps.Keys(e.rules.ranked[key]), func(a, b policy.Key) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind))
	})
	out := map[RuleRef]int{}
	var next [policy.Directions]int
	for _, k := range keys {
		for _, r := range e.state.Policies[k].Rules {
			ref := RuleRef{Policy: k, Direction: r.Direction, Index: r.Index}
			if _, known := out[ref]; !known {
				out[ref] = next[r.Direction]
				next[r.Direction]++
			}
		}
	}
	return out
}

// holdRules makes a policy hold the rules that it has now and release the others.
func (e *Engine) holdRules(k policy.Key, ranksOf map[rankKey]map[RuleRef]int) {
	x := &e.rules
	old, now := x.ofPolicy[k], map[RuleRef]*rule{}
	if p := e.state.Policies[k]; p != nil {
		key := rankKey{p.Tier, p.Priority}
		if p.Tier != policy.TierNamespace && ranksOf[key] == nil {
			ranksOf[key] = e.rankRules(key)
		}
		for i := range p.Rules {
			r := &p.Rules[i]
			rank := ranksOf[key][RuleRef{Policy: k, Direction: r.Direction, Index: r.Index}]
			if made := ruleOf(p, r, rank); made != nil {
				ref := RuleRef{Policy: k, Direction: r.Direction, Index: r.Index, Name: r.Name, part: i}
				now[ref] = e.hold(made, ref)
			}
		}
	}
	for ref, r := range old {
		r.refs[ref]--
		if r.refs[ref] == 0 {
			delete(r.refs, ref)
		}
		x.touched[r] = struct{}{}
	}
	x.ofPolicy[k] = now
	if len(now) == 0 {
		delete(x.ofPolicy, k)
	}
}

// hold adds a reference to the rule with the content of made.
func (e *Engine) hold(made *rule, ref RuleRef) *rule {
	x := &e.rules
	r, ok := x.rules[made.content]
	if !ok {
		r = made
		x.rules[r.content] = r
		x.numbers.add(r.content)
		if r.hasBlocks {
			e.blocks.use(r.set, r.blocks)
			r.blocks = nil
		}
	}
	r.refs[ref]++
	x.touched[r] = struct{}{}
	return r
}

// settleRules links the rules that are new and unlinks those that nobody holds.
func (e *Engine) settleRules() {
	x := &e.rules
	var fresh []*rule
	for r := range x.touched {
		switch {
		case len(r.refs) == 0:
			if r.linked {
				e.unlinkRule(r)
			}
			delete(x.rules, r.content)
			x.numbers.drop(r.content)
			if r.hasBlocks {
				e.blocks.release(r.set)
			}
		case !r.linked:
			fresh = append(fresh, r)
		}
	}
	if x.numbers.settle() {
		for _, r := range x.rules {
			if r.linked && x.numbers.of(r.content) != r.number {
				e.unlinkRule(r)
				fresh = append(fresh, r)
			}
		}
	}
	e.settleBlocks()
	for _, r := range fresh {
		r.number = x.numbers.of(r.content)
		e.linkRule(r)
	}
}

// linkRule adds a rule to all its clauses.
func (e *Engine) linkRule(r *rule) {
	x := &e.rules
	if r.spread {
		r.priority = basePriority + uint16(x.numbers.first(r.content)&(1<<e.clauses.level[r.table]-1))
	}
	r.linked = true
	x.byNumber[r.number] = r
	x.touched[r] = struct{}{}
	insert(x.bySubject, r.subject, r)
	for _, g := range r.groups {
		insert(x.byGroup, g, r)
	}
	if r.hasBlocks {
		insert(x.byBlocks, r.set, r)
	}
	e.eachClause(r, e.clauses.add)
}

func (e *Engine) unlinkRule(r *rule) {
	x := &e.rules
	r.linked = false
	delete(x.byNumber, r.number)
	x.touched[r] = struct{}{}
	discard(x.bySubject, r.subject, r)
	for _, g := range r.groups {
		discard(x.byGroup, g, r)
	}
	if r.hasBlocks {
		discard(x.byBlocks, r.set, r)
	}
	e.eachClause(r, e.clauses.drop)
}

// eachClause calls do for every clause of a rule, as often as there are reasons
// for it.
func (e *Engine) eachClause(r *rule, do func(*rule, dimension)) {
	e.ports.touchSubject(r.subject)
	for port := range e.ports.bySubject[r.subject] {
		do(r, clauseOfPort(port))
	}
	for _, g := range r.groups {
		for c := range e.groups.byGroup[g] {
			do(r, clauseOfClass(c))
		}
	}
	for c := range e.blocks.bySet[r.set] {
		if r.hasBlocks {
			do(r, clauseOfBlocks(c))
		}
	}
	for _, p := range r.ports {
		do(r, clauseOfService(p))
	}
	if !r.hasPeer && !r.hasPorts {
		do(r, dimension{kind: kindAny})
	}
}

// flushRules records the flows that say what rules do.
func (e *Engine) flushRules() {
	x := &e.rules
	for _, r := range slices.SortedFunc(maps.Keys(x.touched), func(a, b *rule) int { return cmp.Compare(a.content, b.content) }) {
		var now []flow.Flow
		if r.linked {
			now = r.flows()
		}
		if len(r.sent) == len(now) && (len(now) == 0 || r.sent[0].Equal(now[0])) {
			continue
		}
		for _, f := range r.sent {
			e.remove(OwnerTable(r.table), f)
		}
		for _, f := range now {
			e.set(OwnerTable(r.table), f)
		}
		r.sent = now
	}
	clear(x.touched)
}

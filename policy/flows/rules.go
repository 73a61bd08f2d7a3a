// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// Priorities of rules. In the tables of the tiers Admin and Baseline every
// priority of policies has ranks slots, one for each rule in order; the rules
// after that share the last. Priorities of policies end at 1000.
const (
	ranks        = 65
	topPriority  = pipeline.HoldPriority - 1
	basePriority = 100
	lastPriority = 1000
)

// rule is a conjunction: what all rules with one content have in common.
type rule struct {
	content  string
	number   uint32
	table    uint8
	priority uint16
	// spread says that the order of the table's rules does not matter.
	spread    bool
	direction policy.Direction
	tier      policy.Tier
	action    policy.Action

	subject   policy.ID
	groups    []policy.ID
	hasPeer   bool
	hasBlocks bool
	set       blockSet
	blocks    []policy.Block
	ports     []portMatch
	hasPorts  bool

	refs   map[RuleRef]int
	linked bool
	// sent are the flows in the switch that note a match.
	sent []flow.Flow
}

// clauses is the number of clauses. There are at least two: a rule of which only
// the Pods count has a clause that compares nothing.
func (r *rule) clauses() uint8 {
	n := uint8(1)
	if r.hasPeer {
		n++
	}
	if r.hasPorts {
		n++
	}
	return max(n, 2)
}

func (r *rule) clause(k kind) uint8 {
	switch k {
	case kindPort:
		return 1
	case kindClass, kindBlocks, kindAny:
		return 2
	default:
		return r.clauses()
	}
}

// ruleTable is the first of the four tables of a direction.
func ruleTable(d policy.Direction) uint8 {
	if d == policy.Egress {
		return pipeline.TableEgressAdmin
	}
	return pipeline.TableIngressAdmin
}

// isolateTable is the table that isolates Pods in a direction.
func isolateTable(d policy.Direction) uint8 {
	if d == policy.Egress {
		return pipeline.TableEgressIsolate
	}
	return pipeline.TableIngressIsolate
}

func tableOf(t policy.Tier, d policy.Direction) uint8 {
	switch t {
	case policy.TierAdmin:
		return ruleTable(d)
	case policy.TierNamespace:
		return ruleTable(d) + 1
	default:
		return ruleTable(d) + 3
	}
}

// ruleOf parses a rule of a policy; nil if it matches nothing.
func ruleOf(p *policy.Policy, r *policy.Rule, rank int) *rule {
	out := &rule{
		table: tableOf(p.Tier, r.Direction), direction: r.Direction, tier: p.Tier, action: r.Action,
		subject: r.Subject, hasPeer: !r.AnyPeer, hasPorts: len(r.Ports) > 0,
		spread: p.Tier == policy.TierNamespace, refs: map[RuleRef]int{},
	}
	if out.hasPeer {
		out.groups = sortedIDs(r.Peers)
		if out.hasBlocks = len(r.Blocks) > 0; out.hasBlocks {
			out.set, out.blocks = canonicalBlocks(r.Blocks)
		}
		if len(out.groups) == 0 && !out.hasBlocks {
			return nil
		}
	}
	if out.hasPorts {
		if out.ports = portMatches(r.Ports); len(out.ports) == 0 {
			return nil
		}
	}
	if !out.spread {
		slot := int(min(max(p.Priority, 0), lastPriority))*ranks + min(rank, ranks-1)
		out.priority = topPriority - uint16(slot)
	}
	out.content = out.encode()
	return out
}

// encode is the content of the rule. Two rules have the same one only if they
// match the same and do the same.
func (r *rule) encode() string {
	b := []byte{r.table, byte(r.action)}
	b = binary.BigEndian.AppendUint16(b, r.priority)
	b = append(b, r.subject[:]...)
	flags := byte(0)
	for i, on := range []bool{r.hasPeer, r.hasBlocks, r.hasPorts} {
		if on {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.groups)))
	b = append(b, contentOf(r.groups)...)
	b = append(b, r.set[:]...)
	for _, p := range r.ports {
		b = append(b, byte(p.proto))
		b = binary.BigEndian.AppendUint16(b, p.port)
		b = binary.BigEndian.AppendUint16(b, p.mask)
	}
	return string(b)
}

// flows are those that say what a match does. They are two, so that one of them
// counts the packets that begin a connection.
func (r *rule) flows() []flow.Flow {
	note := pipeline.NotedIngress(r.number)
	if r.direction == policy.Egress {
		note = pipeline.NotedEgress(r.number)
	}
	var actions []flow.Action
	switch {
	case r.action == policy.Accept:
		actions = []flow.Action{note}
	case r.action == policy.Deny:
		actions = []flow.Action{note, pipeline.Deny()}
	case r.tier == policy.TierAdmin:
		actions = []flow.Action{flow.GotoTable{Table: r.table + 1}}
	}
	out := make([]flow.Flow, 0, 2)
	for _, state := range []flow.FieldMatch{flow.CTState(flow.CTNew, 0), flow.CTState(0, flow.CTNew)} {
		out = append(out, flow.Flow{
			Table: r.table, Priority: r.priority,
			Match:   flow.Match{flow.Uint(flow.FieldConjID, uint64(r.number)), state},
			Actions: actions,
		})
	}
	return out
}

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

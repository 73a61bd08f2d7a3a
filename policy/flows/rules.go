// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"encoding/binary"

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

// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// Rule is what a number in the registers IngressRule and EgressRule and in
// ct_label stands for.
type Rule struct {
	Number    uint32
	Tier      policy.Tier
	Direction policy.Direction
	Action    policy.Action
	// Refs are the rules of users, sorted and without doubles.
	Refs []RuleRef
}

// Rule returns the rule with a number.
func (e *Engine) Rule(number uint32) (Rule, bool) {
	r, ok := e.rules.byNumber[number]
	if !ok {
		return Rule{}, false
	}
	out := Rule{Number: number, Tier: r.tier, Direction: r.direction, Action: r.action}
	for ref := range r.refs {
		ref.part = 0
		out.Refs = append(out.Refs, ref)
	}
	slices.SortFunc(out.Refs, compareRefs)
	out.Refs = slices.Compact(out.Refs)
	return out, true
}

// Rules returns all rules, sorted by number.
func (e *Engine) Rules() []Rule {
	out := make([]Rule, 0, len(e.rules.byNumber))
	for number := range e.rules.byNumber {
		r, _ := e.Rule(number)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Rule) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// RuleCount is how many rules there are.
func (e *Engine) RuleCount() int { return len(e.rules.byNumber) }

// PodStatus is how an interface is judged.
type PodStatus struct {
	LocalPod
	// Held says that the state has no record of the Pod, so that everything but
	// the node's own traffic is denied.
	Held bool
	// Isolated says in which directions what no rule accepts is denied.
	Isolated [policy.Directions]bool
}

// Pods returns all interfaces, sorted by Pod and port.
func (e *Engine) Pods() []PodStatus {
	out := make([]PodStatus, 0, len(e.ports.ports))
	for _, p := range e.ports.ports {
		s := PodStatus{LocalPod: p.pod, Held: e.held(p)}
		for d := range policy.Directions {
			s.Isolated[d] = e.isolated(p, d)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b PodStatus) int {
		return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name), cmp.Compare(a.Port, b.Port))
	})
	return out
}

func compareRefs(a, b RuleRef) int {
	return cmp.Or(
		cmp.Compare(a.Policy.Kind, b.Policy.Kind), cmp.Compare(a.Policy.Namespace, b.Policy.Namespace),
		cmp.Compare(a.Policy.Name, b.Policy.Name), cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Index, b.Index),
		cmp.Compare(a.Name, b.Name))
}

// String is such as "NetworkPolicy ns/name, ingress rule 0".
func (r RuleRef) String() string {
	text := fmt.Sprintf("%s, %s rule %d", r.Policy, strings.ToLower(r.Direction.String()), r.Index)
	if r.Name != "" {
		text += fmt.Sprintf(" (%s)", r.Name)
	}
	return text
}

// FlowCount is what the switch counted for a flow.
type FlowCount struct {
	Key            flow.Key
	Packets, Bytes uint64
}

// RuleCount is what matched a rule.
type RuleCount struct {
	Packets, Bytes uint64
	// Sessions are the packets that began a connection, or would have.
	Sessions uint64
}

// DeniedCount is what was denied at a Pod because nothing accepts it.
type DeniedCount struct{ Packets, Bytes uint64 }

// PodDirection is a Pod and the direction of connections, as it sees them.
type PodDirection struct {
	Pod       policy.PodKey
	Direction policy.Direction
}

// Counts are the counters of a node.
type Counts struct {
	// Rules is by the number of the rule.
	Rules map[uint32]RuleCount
	// Denied is for Pods that are isolated or that wait for their policies.
	Denied map[PodDirection]DeniedCount
}

// Count turns counters of flows into those of rules and Pods. Other flows may be
// among them. A counter begins anew when its flow does: when a rule changes, and
// after a restart of the switch.
func (e *Engine) Count(flows []FlowCount) Counts {
	out := Counts{Rules: map[uint32]RuleCount{}, Denied: map[PodDirection]DeniedCount{}}
	for _, c := range flows {
		table := c.Key.Table
		if table < pipeline.TableEgressAdmin || table > pipeline.TableIngressBaseline {
			continue
		}
		m := c.Key.Match()
		if number, ok := numberOf(m, flow.FieldConjID); ok {
			if e.rules.byNumber[number] == nil {
				continue
			}
			r := out.Rules[number]
			r.Packets += c.Packets
			r.Bytes += c.Bytes
			if state, ok := m.Get(flow.FieldCTState); ok && uint32(state.Value[3])&flow.CTNew != 0 {
				r.Sessions += c.Packets
			}
			out.Rules[number] = r
			continue
		}
		e.countDenied(out.Denied, c, m)
	}
	return out
}

// countDenied counts flows that isolate a Pod or hold it.
func (e *Engine) countDenied(out map[PodDirection]DeniedCount, c FlowCount, m flow.Match) {
	for d := range policy.Directions {
		held := c.Key.Table == ruleTable(d) && c.Key.Priority == pipeline.HoldPriority
		if !held && c.Key.Table != isolateTable(d) {
			continue
		}
		n, ok := numberOf(m, pipeline.MatchJudged(0).Field)
		p := e.ports.ports[n]
		if !ok || p == nil {
			continue
		}
		k := PodDirection{p.pod.Pod, d}
		sum := out[k]
		out[k] = DeniedCount{sum.Packets + c.Packets, sum.Bytes + c.Bytes}
	}
}

// numberOf is the value of a field of 32 bits that a match compares.
func numberOf(m flow.Match, f flow.Field) (uint32, bool) {
	fm, ok := m.Get(f)
	if !ok || fm.Mask != nil || len(fm.Value) != 4 {
		return 0, false
	}
	return uint32(fm.Value[0])<<24 | uint32(fm.Value[1])<<16 | uint32(fm.Value[2])<<8 | uint32(fm.Value[3]), true
}

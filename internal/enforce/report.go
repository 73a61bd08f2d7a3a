// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"fmt"

	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
)

// Report is what the node enforces and what the switch counted for it.
type Report struct {
	// Known says whether the State is known. As long as it is not the rest is
	// empty, and what an earlier run left in the switch is in force.
	Known bool
	// Rules are sorted by number.
	Rules []RuleReport
	// Pods are those that are isolated or held, one for each interface.
	Pods []PodReport
}

// RuleReport is a rule and what matched it.
type RuleReport struct {
	flows.Rule
	flows.RuleCount
}

// PodReport is an interface and what was denied at its Pod because nothing
// accepts it.
type PodReport struct {
	flows.PodStatus
	Denied [policy.Directions]flows.DeniedCount
	// Adopted says that the Pod started without a controller.
	Adopted bool
}

// Report reads the counters from the switch. It may take seconds with very many
// rules.
func (e *Enforcer) Report(ctx context.Context) (Report, error) {
	filter := openflow.CounterFilter{}
	for _, first := range []uint8{pipeline.TableEgressAdmin, pipeline.TableIngressAdmin} {
		filter.Tables = append(filter.Tables, first, first+1, first+2, first+3)
	}
	counters, err := e.params.Switch.Counters(ctx, filter)
	if err != nil {
		return Report{}, fmt.Errorf("policies: %w", err)
	}
	counted := make([]flows.FlowCount, 0, len(counters))
	for _, c := range counters {
		counted = append(counted, flows.FlowCount{Key: c.Key, Packets: c.Packets, Bytes: c.Bytes})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	counts := e.engine.Count(counted)
	report := Report{Known: e.known}
	for _, r := range e.engine.Rules() {
		report.Rules = append(report.Rules, RuleReport{Rule: r, RuleCount: counts.Rules[r.Number]})
	}
	for _, p := range e.engine.Pods() {
		if !p.Held && p.Isolated == [policy.Directions]bool{} {
			continue
		}
		out := PodReport{PodStatus: p}
		for d := range policy.Directions {
			out.Denied[d] = counts.Denied[flows.PodDirection{Pod: p.Pod, Direction: d}]
		}
		adopted, is := e.adopted[p.Pod]
		out.Adopted = is && !p.Held && same(p.UID, adopted.UID)
		report.Pods = append(report.Pods, out)
	}
	return report, nil
}

// Totals say how much is enforced.
type Totals struct{ Rules, Held int }

// Totals returns the number of rules, and of interfaces whose Pods wait for
// their policies.
func (e *Enforcer) Totals() Totals {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := Totals{Rules: e.engine.RuleCount()}
	for _, p := range e.engine.Pods() {
		if p.Held {
			out.Held++
		}
	}
	return out
}

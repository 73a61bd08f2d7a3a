// SPDX-License-Identifier: Apache-2.0

package random

import (
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// Shrink returns steps that still fail, of which nothing can be left out.
func Shrink(steps []Step, fails func([]Step) bool) []Step {
	for shorter := true; shorter; {
		shorter = false
		for size := max(1, len(steps)/2); size > 0; size /= 2 {
			for at := 0; at+size <= len(steps); {
				if candidate := slices.Delete(slices.Clone(steps), at, at+size); fails(candidate) {
					steps, shorter = candidate, true
				} else {
					at += size
				}
			}
		}
		for i := range steps {
			for at := 0; at < len(steps[i]); {
				candidate := slices.Clone(steps)
				candidate[i] = slices.Delete(slices.Clone(steps[i]), at, at+1)
				if fails(candidate) {
					steps, shorter = candidate, true
				} else {
					at++
				}
			}
			for at := range steps[i] {
				for _, simpler := range simplify(steps[i][at]) {
					candidate := slices.Clone(steps)
					candidate[i] = slices.Clone(steps[i])
					candidate[i][at] = simpler
					if fails(candidate) {
						steps, shorter = candidate, true
						break
					}
				}
			}
		}
	}
	return steps
}

// simplify returns what a change could be with one thing less.
func simplify(c Change) []Change {
	var all []Change
	if c.Pod != nil {
		for i := range c.Pod.Addresses {
			p := *c.Pod
			p.Addresses = slices.Delete(slices.Clone(p.Addresses), i, i+1)
			all = append(all, Change{Pod: &p})
		}
		for i := range c.Pod.Ports {
			p := *c.Pod
			p.Ports = slices.Delete(slices.Clone(p.Ports), i, i+1)
			all = append(all, Change{Pod: &p})
		}
	}
	if c.Policy == nil {
		return all
	}
	with := func(change func(*policy.PolicyIntent)) {
		p := *c.Policy
		p.Rules = slices.Clone(p.Rules)
		change(&p)
		all = append(all, Change{Policy: &p})
	}
	for i, r := range c.Policy.Rules {
		with(func(p *policy.PolicyIntent) { p.Rules = slices.Delete(p.Rules, i, i+1) })
		for j := range r.Pods {
			with(func(p *policy.PolicyIntent) { p.Rules[i].Pods = slices.Delete(slices.Clone(r.Pods), j, j+1) })
		}
		for j := range r.Nodes {
			with(func(p *policy.PolicyIntent) { p.Rules[i].Nodes = slices.Delete(slices.Clone(r.Nodes), j, j+1) })
		}
		for j := range r.Blocks {
			with(func(p *policy.PolicyIntent) { p.Rules[i].Blocks = slices.Delete(slices.Clone(r.Blocks), j, j+1) })
		}
		for j := range r.Ports {
			with(func(p *policy.PolicyIntent) { p.Rules[i].Ports = slices.Delete(slices.Clone(r.Ports), j, j+1) })
		}
	}
	return all
}

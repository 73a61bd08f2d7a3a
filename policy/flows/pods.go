// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"maps"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// portIndex knows the interfaces of the node's Pods.
type portIndex struct {
	ports map[uint32]*port
	byPod map[policy.PodKey]map[uint32]struct{}
	// bySubject and byIdentity have the interfaces of Pods that are known.
	bySubject  map[policy.ID]map[uint32]struct{}
	byIdentity map[policy.ID]map[uint32]struct{}
	touched    map[uint32]struct{}
}

type port struct {
	pod LocalPod
	// identity and subjects are those of the Pod as long as it is known.
	identity policy.ID
	known    bool
	subjects []policy.ID
	sent     map[flow.Key]flow.Flow
	gone     bool
}

func newPortIndex() portIndex {
	return portIndex{
		ports: map[uint32]*port{}, byPod: map[policy.PodKey]map[uint32]struct{}{},
		bySubject: map[policy.ID]map[uint32]struct{}{}, byIdentity: map[policy.ID]map[uint32]struct{}{},
		touched: map[uint32]struct{}{},
	}
}

func (x *portIndex) touchSubject(id policy.ID) {
	for p := range x.bySubject[id] {
		x.touched[p] = struct{}{}
	}
}

// isolate counts a policy that isolates Pods, or one less.
func (e *Engine) isolate(p *policy.Policy, n int) {
	for d, on := range p.Isolates {
		if !on {
			continue
		}
		counts := e.rules.isolating[d]
		if counts[p.Subject] += n; counts[p.Subject] == 0 {
			delete(counts, p.Subject)
		}
		e.ports.touchSubject(p.Subject)
	}
}

// applyPods brings the Pods and identities of the state, and the interfaces, up
// to date.
func (e *Engine) applyPods(u *policy.Update, c Change) {
	x := &e.ports
	again := map[uint32]struct{}{}
	for _, p := range u.Pods {
		maps.Copy(again, x.byPod[p.Key])
	}
	for _, k := range u.GonePods {
		maps.Copy(again, x.byPod[k])
	}
	for _, i := range u.Identities {
		maps.Copy(again, x.byIdentity[i.ID])
	}
	for _, id := range u.GoneIdentities {
		maps.Copy(again, x.byIdentity[id])
	}
	e.state.Apply(&policy.Update{
		Pods: u.Pods, GonePods: u.GonePods, Identities: u.Identities, GoneIdentities: u.GoneIdentities,
	})
	for _, n := range c.Detached {
		if p := x.ports[n]; p != nil {
			discard(x.byPod, p.pod.Pod, n)
			p.gone = true
			again[n] = struct{}{}
		}
	}
	for _, l := range c.Attached {
		p := x.ports[l.Port]
		if p == nil {
			p = &port{}
			x.ports[l.Port] = p
		} else {
			discard(x.byPod, p.pod.Pod, l.Port)
		}
		p.pod, p.gone = l, false
		insert(x.byPod, l.Pod, l.Port)
		again[l.Port] = struct{}{}
	}
	for n := range again {
		e.identify(n)
	}
}

// identify finds out which Pod is behind an interface and what it is subject to.
func (e *Engine) identify(n uint32) {
	x := &e.ports
	p := x.ports[n]
	x.touched[n] = struct{}{}
	if p.identity != (policy.ID{}) {
		discard(x.byIdentity, p.identity, n)
	}
	p.identity, p.known = policy.ID{}, false
	var subjects []policy.ID
	if record, ok := e.state.Pods[p.pod.Pod]; ok && !p.gone && (p.pod.UID == "" || p.pod.UID == record.UID) {
		p.identity = record.Identity
		insert(x.byIdentity, p.identity, n)
		if identity, ok := e.state.Identities[record.Identity]; ok {
			p.known, subjects = true, sortedIDs(identity.Subjects)
		}
	}
	for _, s := range p.subjects {
		if _, stays := slices.BinarySearchFunc(subjects, s, compareIDs); !stays {
			e.subject(n, s, e.clauses.drop)
			discard(x.bySubject, s, n)
		}
	}
	for _, s := range subjects {
		if _, had := slices.BinarySearchFunc(p.subjects, s, compareIDs); !had {
			e.subject(n, s, e.clauses.add)
			insert(x.bySubject, s, n)
		}
	}
	p.subjects = subjects
}

func (e *Engine) subject(n uint32, id policy.ID, do func(*rule, dimension)) {
	for r := range e.rules.bySubject[id] {
		do(r, clauseOfPort(n))
	}
}

// flushPorts records the flows of interfaces that changed.
func (e *Engine) flushPorts() {
	x := &e.ports
	for _, n := range slices.Sorted(maps.Keys(x.touched)) {
		p := x.ports[n]
		now := map[flow.Key]flow.Flow{}
		if !p.gone {
			for _, f := range e.portFlows(p) {
				now[f.Key()] = f
				if had, ok := p.sent[f.Key()]; !ok || !had.Equal(f) {
					e.set(OwnerPort(n), f)
				}
			}
		}
		for _, f := range sortedFlows(p.sent) {
			if _, stays := now[f.Key()]; !stays {
				e.remove(OwnerPort(n), f)
			}
		}
		p.sent = now
		if p.gone {
			delete(x.ports, n)
		}
	}
	clear(x.touched)
}

func sortedFlows(m map[flow.Key]flow.Flow) []flow.Flow {
	out := slices.Collect(maps.Values(m))
	flow.Sort(out)
	return out
}

// portFlows are the flows of an interface but for its clauses.
func (e *Engine) portFlows(p *port) []flow.Flow {
	n := p.pod.Port
	hold := e.held(p)
	var out []flow.Flow
	judge := [policy.Directions]func(uint32) []flow.Flow{policy.Ingress: pipeline.JudgeIngress, policy.Egress: pipeline.JudgeEgress}
	for d := range policy.Directions {
		isolated := e.isolated(p, d)
		if hold || isolated || e.ruled(p, d) {
			out = append(out, judge[d](n)...)
		}
		if hold {
			out = append(out, pipeline.Hold(ruleTable(d), n))
		}
		if isolated {
			out = append(out, pipeline.Isolate(isolateTable(d), n))
		}
	}
	if len(out) > 0 {
		out = append(out, pipeline.JudgeInvalid(n)...)
	}
	return out
}

func (*Engine) held(p *port) bool { return !p.known && p.pod.HoldUnknown }

func (e *Engine) isolated(p *port, d policy.Direction) bool {
	return slices.ContainsFunc(p.subjects, func(s policy.ID) bool { return e.rules.isolating[d][s] > 0 })
}

// ruled says whether a rule of a direction is about the Pod.
func (e *Engine) ruled(p *port, d policy.Direction) bool {
	for _, s := range p.subjects {
		for r := range e.rules.bySubject[s] {
			if r.direction == d {
				return true
			}
		}
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// UpsertPolicy takes in a policy as it is now. The Index keeps the intent.
func (x *Index) UpsertPolicy(in *policy.PolicyIntent) {
	p := x.policies[in.Key]
	if p == nil {
		p = &policyRecord{key: in.Key}
		x.policies[in.Key] = p
	}
	p.intent, p.gone = in, false
	x.touchPolicy(p)
}

// DeletePolicy takes a policy out. One that is not there is no error.
func (x *Index) DeletePolicy(key policy.Key) {
	if p := x.policies[key]; p != nil && !p.gone {
		p.intent, p.gone = nil, true
		x.touchPolicy(p)
	}
}

func (x *Index) touchPolicy(p *policyRecord) {
	if !p.dirty {
		p.dirty = true
		x.dirty.policies = append(x.dirty.policies, p)
	}
}

// settlePolicy computes what follows from a policy that changed.
func (x *Index) settlePolicy(p *policyRecord) {
	before := p.bound
	p.bound = binding{}
	if !p.gone {
		out := x.bind(p)
		if p.out == nil || !equalPolicies(p.out, out) {
			p.out = out
		}
	} else {
		p.out = nil
	}
	p.move(before.subject)
	x.release(p, &before)
	if p.bound.named == nil {
		p.intent = nil
	}
}

// move files the policy with its subject.
func (p *policyRecord) move(from *selection) {
	to := p.bound.subject
	if from == to {
		return
	}
	if from != nil {
		list := from.subject.policies
		last := list[len(list)-1]
		list[p.at], last.at = last, p.at
		list[len(list)-1] = nil
		from.subject.policies = list[:len(list)-1]
	}
	if to != nil {
		p.at = len(to.subject.policies)
		to.subject.policies = append(to.subject.policies, p)
	}
}

// bind takes hold of what a policy speaks of and returns the policy as nodes
// get it.
func (x *Index) bind(p *policyRecord) *policy.Policy {
	in, b := p.intent, &p.bound
	b.subject = x.selection(&in.Subject)
	out := &policy.Policy{
		Key: in.Key, UID: in.UID, Tier: in.Tier, Priority: in.Priority,
		Subject: b.subject.id, Isolates: in.Isolates,
	}
	s := x.asSubject(b.subject)
	s.refs++
	if len(in.Rules) > 0 {
		out.Rules = make([]policy.Rule, 0, len(in.Rules))
	}
	for i := range in.Rules {
		out.Rules = x.bindRule(p, &in.Rules[i], out.Rules)
	}
	b.groups = compactGroups(b.groups)
	for _, g := range b.groups {
		g.refs++
		x.link(s, g)
	}
	return out
}

// compactGroups sorts a few by their place, and leaves one of each.
func compactGroups(groups []*group) []*group {
	slices.SortFunc(groups, func(a, b *group) int { return bytes.Compare(a.id[:], b.id[:]) })
	return slices.Compact(groups)
}

// bindRule appends what a rule is on the nodes: one rule for its numbers, and
// one for each number that a name of its ports has.
func (x *Index) bindRule(p *policyRecord, in *policy.RuleIntent, out []policy.Rule) []policy.Rule {
	rule := policy.Rule{
		Direction: in.Direction, Action: in.Action, Index: in.Index, Name: in.Name,
		Subject: p.bound.subject.id, AnyPeer: in.AnyPeer,
	}
	for _, port := range in.Ports {
		if port.Name == "" {
			rule.Ports = append(rule.Ports, port.PortRange)
		}
	}
	rule.Ports = sortPorts(rule.Ports)
	numbered := in.AnyPort || len(rule.Ports) > 0
	var named []*portNumber
	if in.Direction == policy.Ingress {
		for _, port := range in.Ports {
			if port.Name != "" {
				named = append(named, x.bindUse(p, p.bound.subject, port)...)
			}
		}
	}
	if numbered || len(named) > 0 {
		var room [4]*selection
		peers := room[:0]
		for i := range in.Pods {
			peers = append(peers, x.selection(&in.Pods[i]))
		}
		rule.Peers = x.bindPeers(p, peers, in.Nodes)
		rule.Blocks = sortBlocks(in.Blocks)
	}
	someone := rule.AnyPeer || len(rule.Peers) > 0 || len(rule.Blocks) > 0
	if someone && numbered {
		out = append(out, rule)
	}
	if someone {
		out = x.bindIngressNames(p, rule, named, out)
	}
	if in.Direction == policy.Egress {
		out = x.bindEgressNames(p, in, rule, out)
	}
	return out
}

// bindIngressNames appends a rule for each number that names have on the Pods
// of the policy.
func (x *Index) bindIngressNames(p *policyRecord, rule policy.Rule, named []*portNumber, out []policy.Rule) []policy.Rule {
	for _, n := range named {
		x.asSubject(n.selection).refs++
		p.bound.named.subjects = append(p.bound.named.subjects, n.selection)
		rule.Subject = n.selection.id
		rule.Ports = []policy.PortRange{{Protocol: n.protocol, First: n.number, Last: n.number}}
		out = append(out, rule)
	}
	return out
}

// bindEgressNames appends a rule for each number that the names have on the
// Pods that are the peers. Nodes and blocks have no names of ports.
func (x *Index) bindEgressNames(p *policyRecord, in *policy.RuleIntent, rule policy.Rule, out []policy.Rule) []policy.Rule {
	sets := in.Pods
	if in.AnyPeer {
		sets = []policy.PodSet{{}} // all Pods
	}
	byNumber := map[policy.PortRange][]*selection{}
	var numbers []policy.PortRange
	for _, port := range in.Ports {
		if port.Name == "" {
			continue
		}
		for i := range sets {
			for _, n := range x.bindUse(p, x.selection(&sets[i]), port) {
				number := policy.PortRange{Protocol: n.protocol, First: n.number, Last: n.number}
				if byNumber[number] == nil {
					numbers = append(numbers, number)
				}
				byNumber[number] = append(byNumber[number], n.selection)
			}
		}
	}
	slices.SortFunc(numbers, comparePorts)
	rule.AnyPeer, rule.Blocks = false, nil
	for _, number := range numbers {
		rule.Peers = x.bindPeers(p, byNumber[number], nil)
		rule.Ports = []policy.PortRange{number}
		out = append(out, rule)
	}
	return out
}

// bindUse takes hold of a use of a port's name and returns the numbers that
// some Pod has.
func (x *Index) bindUse(p *policyRecord, s *selection, port policy.PortIntent) []*portNumber {
	u := x.use(s, port.Name, port.Protocol)
	u.refs++
	u.policies[p] = struct{}{}
	if p.bound.named == nil {
		p.bound.named = &named{}
	}
	p.bound.named.uses = append(p.bound.named.uses, u)
	var numbers []*portNumber
	for _, n := range u.numbers {
		if len(n.selection.members) > 0 {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// bindPeers returns the groups of selections and of nodes.
func (x *Index) bindPeers(p *policyRecord, peers []*selection, nodes []policy.Selector) []policy.ID {
	if len(peers)+len(nodes) == 0 {
		return nil
	}
	groups := make([]*group, 0, len(peers)+len(nodes))
	for _, s := range peers {
		groups = append(groups, x.asGroup(s))
	}
	for _, n := range nodes {
		groups = append(groups, x.nodeGroup(n))
	}
	groups = compactGroups(groups)
	ids := make([]policy.ID, len(groups))
	for i, g := range groups {
		ids[i] = g.id
	}
	if p.bound.groups == nil {
		p.bound.groups = groups
	} else {
		p.bound.groups = append(p.bound.groups, groups...)
	}
	return ids
}

// release lets go of what a policy held.
func (x *Index) release(p *policyRecord, b *binding) {
	if b.subject == nil {
		return
	}
	s := b.subject.subject
	for _, g := range b.groups {
		x.unlink(s, g)
		g.refs--
		if g.selection != nil {
			x.let(g.selection)
		}
	}
	s.refs--
	x.let(b.subject)
	if b.named == nil {
		return
	}
	for _, rs := range b.named.subjects {
		rs.subject.refs--
		x.let(rs)
	}
	for _, u := range b.named.uses {
		if u.refs--; p.bound.named == nil || !slices.Contains(p.bound.named.uses, u) {
			delete(u.policies, p)
		}
		x.let(u.selection)
	}
}

func sortPorts(ports []policy.PortRange) []policy.PortRange {
	slices.SortFunc(ports, comparePorts)
	return slices.Compact(ports)
}

func comparePorts(a, b policy.PortRange) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
}

// sortBlocks returns the blocks in order, each once, with exceptions likewise.
// It leaves the list as it is.
func sortBlocks(blocks []policy.Block) []policy.Block {
	sorted := true
	for i, b := range blocks {
		sorted = sorted && (i == 0 || compareBlocks(blocks[i-1], b) < 0)
		for j, e := range b.Except {
			sorted = sorted && (j == 0 || b.Except[j-1].Compare(e) < 0)
		}
	}
	if sorted {
		return blocks
	}
	blocks = slices.Clone(blocks)
	for i := range blocks {
		except := slices.Clone(blocks[i].Except)
		slices.SortFunc(except, netip.Prefix.Compare)
		blocks[i].Except = slices.Compact(except)
	}
	slices.SortFunc(blocks, compareBlocks)
	return slices.CompactFunc(blocks, equalBlocks)
}

func compareBlocks(a, b policy.Block) int {
	return cmp.Or(a.CIDR.Compare(b.CIDR), slices.CompareFunc(a.Except, b.Except, netip.Prefix.Compare))
}

func equalBlocks(a, b policy.Block) bool { return compareBlocks(a, b) == 0 }

func equalPolicies(a, b *policy.Policy) bool {
	return a.Key == b.Key && a.UID == b.UID && a.Tier == b.Tier && a.Priority == b.Priority && a.Subject == b.Subject &&
		a.Isolates == b.Isolates && slices.EqualFunc(a.Rules, b.Rules, func(a, b policy.Rule) bool {
		return a.Direction == b.Direction && a.Action == b.Action && a.Index == b.Index && a.Name == b.Name &&
			a.Subject == b.Subject && a.AnyPeer == b.AnyPeer && slices.Equal(a.Peers, b.Peers) &&
			slices.EqualFunc(a.Blocks, b.Blocks, equalBlocks) && slices.Equal(a.Ports, b.Ports)
	})
}

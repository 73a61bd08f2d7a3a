// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// UpsertNode takes in a node as it is now. The Index keeps a copy of the intent
// with its slices and labels.
func (x *Index) UpsertNode(in *policy.NodeIntent) {
	n := x.nodes[x.node(in.Name)]
	if n == nil {
		return // without a name
	}
	before := n.intent
	if before != nil && maps.Equal(before.Labels, in.Labels) && slices.Equal(before.Addresses, in.Addresses) {
		return
	}
	kept := *in
	n.intent = &kept
	for _, g := range x.nodeGroups {
		x.replaceNode(g, before, n.intent)
	}
}

// DeleteNode takes a node out; its Pods go on their own.
func (x *Index) DeleteNode(name string) {
	n := x.nodes[x.nodeIDs[name]]
	if n == nil || n.intent == nil {
		return
	}
	for _, g := range x.nodeGroups {
		x.replaceNode(g, n.intent, nil)
	}
	n.intent = nil
	x.letNode(n.id)
}

// node returns the ID of a node, 0 for no name.
func (x *Index) node(name string) nodeID {
	if name == "" {
		return 0
	}
	if id, known := x.nodeIDs[name]; known {
		return id
	}
	n := &node{name: name, id: nodeID(len(x.nodes))}
	if last := len(x.freeNodes) - 1; last >= 0 {
		n.id = x.freeNodes[last]
		x.freeNodes = x.freeNodes[:last]
		x.nodes[n.id] = n
	} else {
		x.nodes = append(x.nodes, n)
	}
	x.nodeIDs[name] = n.id
	return n.id
}

func (x *Index) nodeName(id nodeID) string {
	if id == 0 {
		return ""
	}
	return x.nodes[id].name
}

// letNode remembers that nobody may need the node any more.
func (x *Index) letNode(id nodeID) {
	if n := x.nodes[id]; !n.let {
		n.let = true
		x.dirty.idleNodes = append(x.dirty.idleNodes, id)
	}
}

// sweepNodes forgets nodes that had neither object nor Pods at the last Flush
// and have none now. The Changes of that Flush, which name them, are no longer
// valid; those to come may name the ones that lost theirs since.
func (x *Index) sweepNodes() {
	for _, id := range x.idleNodes {
		if n := x.nodes[id]; !n.let && n.intent == nil && n.pods == nil {
			delete(x.nodeIDs, n.name)
			x.nodes[id] = nil
			x.freeNodes = append(x.freeNodes, id)
		}
	}
	x.idleNodes, x.dirty.idleNodes = x.dirty.idleNodes, nil
	for _, id := range x.idleNodes {
		x.nodes[id].let = false
	}
}

// nodeGroup returns the group of the nodes that a selector selects.
func (x *Index) nodeGroup(s policy.Selector) *group {
	if g := x.nodeGroups[s.String()]; g != nil {
		return g
	}
	g := &group{id: policy.HashID("nodes", []byte(s.String())), hosts: &hosts{selector: s, counts: map[netip.Addr]int{}}}
	x.nodeGroups[s.String()] = g
	for _, n := range x.nodes {
		if n != nil && n.intent != nil {
			x.replaceNode(g, nil, n.intent)
		}
	}
	return g
}

// replaceNode puts a node into a group instead of what it was before.
func (x *Index) replaceNode(g *group, before, now *policy.NodeIntent) {
	if now != nil && g.hosts.selector.Matches(now.Labels) {
		for _, a := range now.Addresses {
			if g.hosts.counts[a]++; g.hosts.counts[a] == 1 {
				x.addAddress(g, a)
			}
		}
	}
	if before != nil && g.hosts.selector.Matches(before.Labels) {
		for _, a := range before.Addresses {
			if g.hosts.counts[a]--; g.hosts.counts[a] == 0 {
				delete(g.hosts.counts, a)
				x.removeAddress(g, a)
			}
		}
	}
}

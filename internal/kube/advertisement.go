// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

// Advertisements returns what a node announces to its peers, and in words what
// of the BGPAdvertisements cannot be used. Where several BGPAdvertisements speak
// of the same peer, it is told the communities of all, and of the values of
// another attribute the one that makes the routes most preferred. What Export
// of a peer says is not in it. Without any BGPAdvertisement every peer is told
// the Pod CIDRs.
func (s *Snapshot) Advertisements(node *Node, peers []routing.Peer) ([]routing.Advertisement, []string) {
	if len(s.advertisements) == 0 {
		return announce(node.Node, nil, routing.Attributes{}), nil
	}
	var wrong []string
	perPeer := map[string]routing.Attributes{}
	aggregates := newAggregation(s, node.Node)
	for i := range s.advertisements {
		object := &s.advertisements[i]
		selected, err := Selects(object.Spec.NodeSelector, node.Labels)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("BGPAdvertisement %s: %v", object.Name, err))
			continue
		}
		if !selected || object.Spec.PodCIDRs != nil && !*object.Spec.PodCIDRs {
			continue
		}
		a, errs := attributes(&object.Spec)
		for _, err := range errs {
			wrong = append(wrong, fmt.Sprintf("BGPAdvertisement %s: %v", object.Name, err))
		}
		var told []string
		for _, peer := range peers {
			name, _ := splitPeerName(peer.Name)
			if len(object.Spec.Peers) == 0 || slices.Contains(object.Spec.Peers, name) {
				perPeer[peer.Name] = merge(perPeer[peer.Name], a)
				told = append(told, peer.Name)
			}
		}
		for _, words := range aggregates.add(&object.Spec, told, a) {
			wrong = append(wrong, fmt.Sprintf("BGPAdvertisement %s: %s", object.Name, words))
		}
	}
	var out []routing.Advertisement
	for _, group := range groups(perPeer) {
		out = append(out, announce(node.Node, group, perPeer[group[0]])...)
	}
	return append(out, aggregates.advertisements()...), wrong
}

// groups gathers the peers that are told the same, in order of their names.
func groups[T any](perPeer map[string]T) [][]string {
	var out [][]string
	for _, name := range slices.Sorted(maps.Keys(perPeer)) {
		i := slices.IndexFunc(out, func(g []string) bool { return reflect.DeepEqual(perPeer[g[0]], perPeer[name]) })
		if i < 0 {
			out = append(out, []string{name})
			continue
		}
		out[i] = append(out[i], name)
	}
	return out
}

func announce(local routing.Node, peers []string, a routing.Attributes) []routing.Advertisement {
	out := make([]routing.Advertisement, 0, len(local.PodCIDRs))
	for _, prefix := range local.PodCIDRs {
		out = append(out, routing.Advertisement{
			Prefix: prefix, NextHops: slices.Clone(local.Addresses), Peers: peers, Attributes: a,
		})
	}
	return out
}

// merge joins what two BGPAdvertisements say; 0 and nil are unsaid.
func merge(a, b routing.Attributes) routing.Attributes {
	out := routing.Attributes{
		Communities: routing.UnionCommunities(a.Communities, b.Communities),
		LocalPref:   max(a.LocalPref, b.LocalPref),
		MED:         a.MED,
		Prepend:     min(a.Prepend, b.Prepend),
	}
	if a.MED == nil || b.MED != nil && *b.MED < *a.MED {
		out.MED = b.MED
	}
	if out.Prepend == 0 {
		out.Prepend = max(a.Prepend, b.Prepend)
	}
	return out
}

// attributes are what a BGPAdvertisement says, without what is wrong.
func attributes(spec *v1alpha1.BGPAdvertisementSpec) (routing.Attributes, problems) {
	var p problems
	a := routing.Attributes{
		Communities: p.communities("communities", spec.Communities),
		LocalPref:   p.localPreference("localPreference", spec.LocalPreference),
		MED:         p.med("med", spec.MED),
	}
	if n := p.prepend("asPathPrepend", spec.ASPathPrepend, 1); n != nil {
		a.Prepend = *n
	}
	return a, p
}

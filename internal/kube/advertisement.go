// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/service"
)

// Advertisements returns what a node announces of its Pod CIDRs, with the
// aggregates that they are in, and of the addresses of Services that it can serve;
// and in words what of the BGPAdvertisements cannot be used. Where several BGPAdvertisements speak of
// the same peer and the same thing, it is told the communities of all, and of the
// values of another attribute the one that makes the routes most preferred. What
// Export of a peer says is not in it. Without any BGPAdvertisement every peer is
// told the Pod CIDRs.
func (s *Snapshot) Advertisements(node *Node, peers []routing.Peer, served []service.Announcement) Advertisements {
	if len(s.advertisements) == 0 {
		return Advertisements{PodCIDRs: announce(node.Node, node.PodCIDRs, nil, routing.Attributes{})}
	}
	var out Advertisements
	list, wrong := s.parseAdvertisements(node)
	out.Wrong = wrong
	out.SelectServices = slices.ContainsFunc(list, func(a advertisement) bool { return len(a.services) > 0 })
	ofPods := slices.DeleteFunc(slices.Clone(list), func(a advertisement) bool { return !a.podCIDRs })
	pods := perPeer(peers, ofPods)
	for _, group := range groups(pods) {
		out.PodCIDRs = append(out.PodCIDRs, announce(node.Node, node.PodCIDRs, group, pods[group[0]])...)
	}
	aggregates := newAggregation(s, node.Node)
	for _, a := range ofPods {
		out.Wrong = append(out.Wrong, aggregates.add(a, peers)...)
	}
	out.PodCIDRs = append(out.PodCIDRs, aggregates.advertisements()...)
	if out.SelectServices {
		out.Services = announceServices(node.Node, peers, list, served)
	}
	return out
}

// Advertisements are what a node announces.
type Advertisements struct {
	// PodCIDRs are with aggregates.
	PodCIDRs, Services []routing.Advertisement
	// SelectServices says that addresses of Services are asked for.
	SelectServices bool
	Wrong          []string
}

// advertisement is a BGPAdvertisement, parsed.
type advertisement struct {
	name       string
	podCIDRs   bool
	aggregates []v1alpha1.Aggregate
	services   []v1alpha1.ServiceAddress
	selector   labels.Selector
	peers      []string
	routing.Attributes
}

// isFor says whether a peer is told. Of nodes, BGPAdvertisements have the names of
// BGPPeers.
func (a advertisement) isFor(peer routing.Peer) bool {
	name, _ := splitPeerName(peer.Name)
	return len(a.peers) == 0 || slices.Contains(a.peers, name)
}

// parseAdvertisements returns those that are for a node. What is wrong of one is
// left out; a wrong selector selects nothing.
func (s *Snapshot) parseAdvertisements(node *Node) (list []advertisement, wrong []string) {
	for i := range s.advertisements {
		object := &s.advertisements[i]
		say := func(err error) { wrong = append(wrong, fmt.Sprintf("BGPAdvertisement %s: %v", object.Name, err)) }
		selected, err := Selects(object.Spec.NodeSelector, node.Labels)
		if err != nil {
			say(err)
			continue
		}
		a := advertisement{
			name: object.Name, podCIDRs: object.Spec.PodCIDRs == nil || *object.Spec.PodCIDRs, aggregates: object.Spec.Aggregates,
			services: object.Spec.Services, selector: labels.Everything(), peers: object.Spec.Peers,
		}
		if !selected || !a.podCIDRs && len(a.services) == 0 {
			continue
		}
		if selector := object.Spec.ServiceSelector; selector != nil {
			if a.selector, err = parseSelector(selector.MatchLabels, selector.MatchExpressions); err != nil {
				say(fmt.Errorf("serviceSelector: %w", err))
				a.services = nil
			}
		}
		attributes, errs := attributes(&object.Spec)
		for _, err := range errs {
			say(err)
		}
		a.Attributes = attributes
		list = append(list, a)
	}
	return list, wrong
}

// perPeer is what each peer is told of something that advertisements speak of.
func perPeer(peers []routing.Peer, list []advertisement) map[string]routing.Attributes {
	out := map[string]routing.Attributes{}
	for _, a := range list {
		for _, peer := range peers {
			if a.isFor(peer) {
				out[peer.Name] = merge(out[peer.Name], a.Attributes)
			}
		}
	}
	return out
}

// announceServices announces addresses of Services, in order. There may be
// thousands, of which most are in the same advertisements.
func announceServices(local routing.Node, peers []routing.Peer, list []advertisement, served []service.Announcement) []routing.Advertisement {
	in := map[netip.Addr][]byte{} // 1 for each of list that has the address
	for _, s := range served {
		for i, a := range list {
			if !slices.Contains(a.services, v1alpha1.ServiceAddress(s.Kind)) || !a.selector.Matches(labels.Set(s.Labels)) {
				continue
			}
			if in[s.Addr] == nil {
				in[s.Addr] = make([]byte, len(list))
			}
			in[s.Addr][i] = 1
		}
	}
	type told struct {
		peers [][]string
		as    map[string]routing.Attributes
	}
	alike := map[string]told{}
	var out []routing.Advertisement
	for _, addr := range slices.SortedFunc(maps.Keys(in), netip.Addr.Compare) {
		key := string(in[addr])
		t, known := alike[key]
		if !known {
			var these []advertisement
			for i, a := range list {
				if key[i] == 1 {
					these = append(these, a)
				}
			}
			t.as = perPeer(peers, these)
			t.peers = groups(t.as)
			alike[key] = t
		}
		for _, group := range t.peers {
			out = append(out, announce(local, []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}, group, t.as[group[0]])...)
		}
	}
	return out
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

func announce(local routing.Node, prefixes []netip.Prefix, peers []string, a routing.Attributes) []routing.Advertisement {
	out := make([]routing.Advertisement, 0, len(prefixes))
	for _, prefix := range prefixes {
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

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

// wellKnown are the communities that have names (RFC 1997, RFC 7999).
var wellKnown = []v1alpha1.Community{"no-export", "no-advertise", "no-export-subconfed", "blackhole"}

// attributes are what one peer is told besides the prefix.
type attributes struct {
	communities []string
	localPref   uint32
}

func (a attributes) equal(b attributes) bool {
	return a.localPref == b.localPref && slices.Equal(a.communities, b.communities)
}

// Advertisements returns what a node announces to its peers, and in words what
// of the BGPAdvertisements cannot be used. Where several BGPAdvertisements speak
// of the same peer, it is told the communities of all and the highest local
// preference. Without any BGPAdvertisement every peer is told the Pod CIDRs.
func (s *Snapshot) Advertisements(node *Node, peers []routing.Peer) ([]routing.Advertisement, []string) {
	if len(s.advertisements) == 0 {
		return announce(node.Node, nil, attributes{}), nil
	}
	var wrong []string
	perPeer := map[string]attributes{}
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
		a, errs := parseAttributes(object)
		wrong = append(wrong, errs...)
		for _, peer := range peers {
			if len(object.Spec.Peers) == 0 || slices.Contains(object.Spec.Peers, peer.Name) {
				perPeer[peer.Name] = merge(perPeer[peer.Name], a)
			}
		}
	}
	var out []routing.Advertisement
	for _, group := range groups(perPeer) {
		out = append(out, announce(node.Node, group, perPeer[group[0]])...)
	}
	return out, wrong
}

// groups gathers the peers that are told the same, in order of their names.
func groups(perPeer map[string]attributes) [][]string {
	var out [][]string
	for _, name := range slices.Sorted(maps.Keys(perPeer)) {
		i := slices.IndexFunc(out, func(g []string) bool { return perPeer[g[0]].equal(perPeer[name]) })
		if i < 0 {
			out = append(out, []string{name})
			continue
		}
		out[i] = append(out[i], name)
	}
	return out
}

func announce(local routing.Node, peers []string, a attributes) []routing.Advertisement {
	out := make([]routing.Advertisement, 0, len(local.PodCIDRs))
	for _, prefix := range local.PodCIDRs {
		out = append(out, routing.Advertisement{
			Prefix: prefix, NextHops: slices.Clone(local.Addresses), Peers: peers,
			Communities: a.communities, LocalPref: a.localPref,
		})
	}
	return out
}

func merge(a, b attributes) attributes {
	return attributes{
		communities: union(a.communities, b.communities),
		localPref:   max(a.localPref, b.localPref),
	}
}

// union returns the sorted members of both; a and b are not changed.
func union(a, b []string) []string {
	both := slices.Concat(a, b)
	slices.Sort(both)
	return slices.Compact(both)
}

func parseAttributes(object *v1alpha1.BGPAdvertisement) (attributes, []string) {
	var a attributes
	var wrong []string
	if p := object.Spec.LocalPreference; p != nil {
		a.localPref = uint32(*p)
	}
	for _, c := range object.Spec.Communities {
		if !validCommunity(c) {
			wrong = append(wrong, fmt.Sprintf("BGPAdvertisement %s: community %q: must be ASN:VALUE, A:B:C or a well-known name", object.Name, c))
			continue
		}
		a.communities = append(a.communities, string(c))
	}
	return a, wrong
}

func validCommunity(c v1alpha1.Community) bool {
	if slices.Contains(wellKnown, c) {
		return true
	}
	parts := strings.Split(string(c), ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	if bits == 0 {
		return false
	}
	return !slices.ContainsFunc(parts, func(part string) bool {
		_, err := strconv.ParseUint(part, 10, bits)
		return err != nil
	})
}

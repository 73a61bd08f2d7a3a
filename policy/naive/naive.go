// SPDX-License-Identifier: Apache-2.0

package naive

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// Cluster is every object that there is.
type Cluster struct {
	Pods       map[policy.PodKey]policy.PodIntent
	Namespaces map[string]policy.NamespaceIntent
	Nodes      map[string]policy.NodeIntent
	Policies   map[policy.Key]policy.PolicyIntent
}

// NewCluster returns a Cluster of nothing.
func NewCluster() *Cluster {
	return &Cluster{
		Pods: map[policy.PodKey]policy.PodIntent{}, Namespaces: map[string]policy.NamespaceIntent{},
		Nodes: map[string]policy.NodeIntent{}, Policies: map[policy.Key]policy.PolicyIntent{},
	}
}

// Packet is the first packet of a connection, at one of its ends.
type Packet struct {
	Source, Destination netip.Addr
	Protocol            policy.Protocol
	Port                uint16 // of the destination
	// Pod is the end at which the packet is judged, the source of Egress and
	// the destination of Ingress.
	Pod       policy.PodKey
	Direction policy.Direction
}

// Verdict reports whether the policies of the Pod allow the packet, and why.
func (c *Cluster) Verdict(p Packet) (allowed bool, why string) {
	pod, exists := c.Pods[p.Pod]
	if !exists || !pod.Judged() {
		return true, "no policy applies to " + p.Pod.String()
	}
	if action, why := c.tier(policy.TierAdmin, pod, p); action != policy.Pass {
		return action == policy.Accept, why
	}
	// A Pod is isolated in a direction if a NetworkPolicy selects it and has the
	// direction in its policyTypes; then what any of those accepts is allowed,
	// and nothing else.
	isolated := ""
	for _, np := range c.Policies {
		if np.Tier != policy.TierNamespace || !c.Selects(np.Subject, pod) {
			continue
		}
		if np.Isolates[p.Direction] {
			isolated = np.Key.String()
		}
		for _, rule := range np.Rules {
			if c.matches(rule, p) {
				return true, fmt.Sprintf("%s accepts it, %s rule %d", np.Key, rule.Direction, rule.Index)
			}
		}
	}
	if isolated != "" {
		return false, "isolated by " + isolated
	}
	if action, why := c.tier(policy.TierBaseline, pod, p); action != policy.Pass {
		return action == policy.Accept, why
	}
	return true, "no policy speaks of it"
}

// tier returns what a tier of ClusterNetworkPolicies decides; Pass leaves it to
// the next tier. Policies are looked at by priority, rules in their order, and
// the first rule that matches counts.
func (c *Cluster) tier(tier policy.Tier, pod policy.PodIntent, p Packet) (policy.Action, string) {
	var policies []policy.PolicyIntent
	for _, cnp := range c.Policies {
		if cnp.Tier == tier && c.Selects(cnp.Subject, pod) {
			policies = append(policies, cnp)
		}
	}
	slices.SortFunc(policies, func(a, b policy.PolicyIntent) int {
		// The order of those with one priority is left open by the API.
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	for _, cnp := range policies {
		for _, rule := range cnp.Rules {
			if c.matches(rule, p) {
				return rule.Action, fmt.Sprintf("%s: %s rule %d: %s", cnp.Key, rule.Direction, rule.Index, rule.Action)
			}
		}
	}
	return policy.Pass, ""
}

// matches reports whether a rule is about the packet: direction, any of its
// peers, and any of its ports.
func (c *Cluster) matches(rule policy.RuleIntent, p Packet) bool {
	return rule.Direction == p.Direction && c.peerMatches(rule, p) && c.portMatches(rule, p)
}

func (c *Cluster) peerMatches(rule policy.RuleIntent, p Packet) bool {
	peer := p.Source
	if p.Direction == policy.Egress {
		peer = p.Destination
	}
	if rule.AnyPeer {
		return true
	}
	for _, block := range rule.Blocks {
		if block.CIDR.Contains(peer) && !slices.ContainsFunc(block.Except, func(e netip.Prefix) bool { return e.Contains(peer) }) {
			return true
		}
	}
	for _, node := range c.Nodes {
		if !slices.Contains(node.Addresses, peer) {
			continue
		}
		for _, selector := range rule.Nodes {
			if matches(selector, node.Labels) {
				return true
			}
		}
	}
	for _, pod := range c.at(peer) {
		for _, set := range rule.Pods {
			if c.Selects(set, pod) {
				return true
			}
		}
	}
	return false
}

func (c *Cluster) portMatches(rule policy.RuleIntent, p Packet) bool {
	if rule.AnyPort {
		return true
	}
	for _, port := range rule.Ports {
		if port.Name == "" {
			if port.Protocol == p.Protocol && port.First <= p.Port && p.Port <= port.Last {
				return true
			}
			continue
		}
		if port.Protocol != 0 && port.Protocol != p.Protocol {
			continue
		}
		for _, destination := range c.destinations(rule, p) {
			if slices.Contains(destination.Ports, policy.NamedPort{Name: port.Name, Protocol: p.Protocol, Number: p.Port}) {
				return true
			}
		}
	}
	return false
}

// destinations are the Pods whose names of ports count: for Ingress the one
// that the packet comes to, for Egress those at the address that the rule
// selects.
func (c *Cluster) destinations(rule policy.RuleIntent, p Packet) []policy.PodIntent {
	if p.Direction == policy.Ingress {
		return []policy.PodIntent{c.Pods[p.Pod]}
	}
	var pods []policy.PodIntent
	for _, pod := range c.at(p.Destination) {
		if rule.AnyPeer || slices.ContainsFunc(rule.Pods, func(set policy.PodSet) bool { return c.Selects(set, pod) }) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// at returns the Pods with an address. Those in the network of their node have
// none of their own, and those that are finished none any more.
func (c *Cluster) at(address netip.Addr) []policy.PodIntent {
	var pods []policy.PodIntent
	for _, pod := range c.Pods {
		if pod.Judged() && slices.Contains(pod.Addresses, address) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// Selects reports whether a Pod, one that is judged, is in a set.
func (c *Cluster) Selects(set policy.PodSet, pod policy.PodIntent) bool {
	if set.Namespace != "" {
		return pod.Key.Namespace == set.Namespace && matches(set.Pods, pod.Labels)
	}
	labels := map[string]string{}
	for key, value := range c.Namespaces[pod.Key.Namespace].Labels {
		labels[key] = value
	}
	labels["kubernetes.io/metadata.name"] = pod.Key.Namespace
	return matches(set.Namespaces, labels) && matches(set.Pods, pod.Labels)
}

// matches reports whether a selector selects labels.
func matches(selector policy.Selector, labels map[string]string) bool {
	for _, r := range selector.Requirements() {
		value, exists := labels[r.Key]
		listed := exists && slices.Contains(r.Values, value)
		holds := map[policy.Operator]bool{
			policy.In: listed, policy.NotIn: !listed, policy.Exists: exists, policy.DoesNotExist: !exists,
		}
		if !holds[r.Operator] {
			return false
		}
	}
	return true
}

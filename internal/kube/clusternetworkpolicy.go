// SPDX-License-Identifier: Apache-2.0

package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/waymark-net/waymark/policy"
)

// maxClusterRules is how many rules of a direction, peers and protocols of a
// rule, and networks of a peer the API allows.
const maxClusterRules = 25

// ClusterNetworkPolicy returns what a ClusterNetworkPolicy says, and what of it
// was not understood. A rule that was not understood fails closed, as the API
// asks for: one that accepts matches nothing, one that denies or passes denies
// all. Where the subject or the tier was not understood that is so for each
// rule, of all Pods that the subject may select.
func ClusterNetworkPolicy(object *policyv1alpha2.ClusterNetworkPolicy) (*policy.PolicyIntent, []PolicyProblem) {
	key := policy.Key{Kind: policy.ClusterNetworkPolicy, Name: object.Name}
	r := policyParser{key: key}
	in := &policy.PolicyIntent{Key: key, UID: string(object.UID)}
	spec := path{parser: &r}.field("spec")
	sound := true
	switch object.Spec.Tier {
	case policyv1alpha2.AdminTier:
		in.Tier = policy.TierAdmin
	case policyv1alpha2.BaselineTier:
		in.Tier = policy.TierBaseline
	default:
		r.report(spec.field("tier"), object.Spec.Tier, "Admin or Baseline")
		sound = false
	}
	in.Priority = min(max(object.Spec.Priority, 0), 1000)
	if in.Priority != object.Spec.Priority {
		r.report(spec.field("priority"), object.Spec.Priority, "0 to 1000")
		sound = false
	}
	subject := spec.field("subject")
	set, ok := r.pods(subject, object.Spec.Subject.Namespaces, object.Spec.Subject.Pods)
	in.Subject = set
	sound = sound && ok

	in.Rules = make([]policy.RuleIntent, 0, len(object.Spec.Ingress)+len(object.Spec.Egress))
	for i := range object.Spec.Ingress {
		rule := &object.Spec.Ingress[i]
		at := spec.item("ingress", i)
		c := clusterRule{RuleIntent: policy.RuleIntent{Direction: policy.Ingress, Index: i, Name: rule.Name}, sound: sound}
		r.clusterRule(at, &c, rule.Action, rule.Protocols)
		r.limit(at.field("from"), &c, len(rule.From), 1)
		for j := range rule.From {
			item := at.item("from", j)
			set, ok := r.pods(item, rule.From[j].Namespaces, rule.From[j].Pods)
			c.sound = c.sound && ok
			c.Pods = append(c.Pods, set)
		}
		in.Rules = c.appendTo(in.Rules)
	}
	for i := range object.Spec.Egress {
		rule := &object.Spec.Egress[i]
		at := spec.item("egress", i)
		c := clusterRule{RuleIntent: policy.RuleIntent{Direction: policy.Egress, Index: i, Name: rule.Name}, sound: sound}
		r.clusterRule(at, &c, rule.Action, rule.Protocols)
		r.limit(at.field("to"), &c, len(rule.To), 1)
		for j := range rule.To {
			item := at.item("to", j)
			r.egressPeer(item, &c, &rule.To[j])
		}
		r.namesOfNowhere(at, &c)
		in.Rules = c.appendTo(in.Rules)
	}
	return in, r.problems
}

// clusterRule is a rule on its way.
type clusterRule struct {
	policy.RuleIntent
	sound bool // all of it was understood
}

// appendTo appends the rule, or what is left of it when it is not sound.
func (c *clusterRule) appendTo(rules []policy.RuleIntent) []policy.RuleIntent {
	switch {
	case c.sound:
		return append(rules, c.RuleIntent)
	case c.Action == policy.Accept:
		return rules
	}
	return append(rules, policy.RuleIntent{
		Direction: c.Direction, Action: policy.Deny, Index: c.Index, Name: c.Name, AnyPeer: true, AnyPort: true,
	})
}

// clusterRule parses what rules of both directions have.
func (r *policyParser) clusterRule(at path, c *clusterRule, action policyv1alpha2.ClusterNetworkPolicyRuleAction, protocols []policyv1alpha2.ClusterNetworkPolicyProtocol) {
	switch action {
	case policyv1alpha2.ClusterNetworkPolicyRuleActionAccept:
		c.Action = policy.Accept
	case policyv1alpha2.ClusterNetworkPolicyRuleActionDeny:
		c.Action = policy.Deny
	case policyv1alpha2.ClusterNetworkPolicyRuleActionPass:
		c.Action = policy.Pass
	default:
		c.Action, c.sound = policy.Deny, false
		r.report(at.field("action"), action, "Accept, Deny or Pass")
	}
	if c.Index >= maxClusterRules {
		r.report(at, c.Index, "25 rules in a direction at most")
		c.sound = false
	}
	c.AnyPort = len(protocols) == 0
	r.limit(at.field("protocols"), c, len(protocols), 0)
	for i := range protocols {
		r.protocol(at.item("protocols", i), c, &protocols[i])
	}
}

// limit checks the length of a list. One that is too long is understood.
func (r *policyParser) limit(at path, c *clusterRule, length, least int) {
	if length < least {
		r.report(at, length, "at least one item")
		c.sound = false
	}
	if length > maxClusterRules {
		r.report(at, length, "25 items at most; all count")
	}
}

// pods parses what selects Pods. Where it was not understood, ok is false and
// the set has more Pods than what was meant.
func (r *policyParser) pods(at path, namespaces *metav1.LabelSelector, pods *policyv1alpha2.NamespacedPod) (set policy.PodSet, ok bool) {
	switch {
	case namespaces != nil && pods != nil:
		r.report(at, "namespaces and pods", "exactly one field")
		return set, false
	case namespaces != nil:
		set.Namespaces, ok = r.selector(at.field("namespaces"), namespaces)
		return set, ok
	case pods != nil:
		at = at.field("pods")
		var fine bool
		set.Namespaces, ok = r.selector(at.field("namespaceSelector"), &pods.NamespaceSelector)
		set.Pods, fine = r.selector(at.field("podSelector"), &pods.PodSelector)
		return set, ok && fine
	}
	r.report(at, "", "exactly one of the fields that this version knows: namespaces or pods")
	return set, false
}

func (r *policyParser) egressPeer(at path, c *clusterRule, peer *policyv1alpha2.ClusterNetworkPolicyEgressPeer) {
	fields := 0
	for _, set := range []bool{peer.Namespaces != nil, peer.Pods != nil, peer.Nodes != nil, len(peer.Networks) > 0, len(peer.DomainNames) > 0} {
		if set {
			fields++
		}
	}
	switch {
	case fields != 1:
		r.report(at, fields, "exactly one of the fields that this version knows: namespaces, pods, nodes or networks")
		c.sound = false
	case len(peer.DomainNames) > 0:
		r.report(at.field("domainNames"), peer.DomainNames[0], "not supported; the peers that are: namespaces, pods, nodes and networks")
		c.sound = false
	case peer.Nodes != nil:
		s, ok := r.selector(at.field("nodes"), peer.Nodes)
		c.Nodes = append(c.Nodes, s)
		c.sound = c.sound && ok
	case len(peer.Networks) > 0:
		r.limit(at.field("networks"), c, len(peer.Networks), 1)
		for i, text := range peer.Networks {
			cidr, ok := r.prefix(at.item("networks", i), string(text))
			c.Blocks = append(c.Blocks, policy.Block{CIDR: cidr})
			c.sound = c.sound && ok
		}
	default:
		set, ok := r.pods(at, peer.Namespaces, peer.Pods)
		c.Pods = append(c.Pods, set)
		c.sound = c.sound && ok
	}
}

// namesOfNowhere refuses names of ports beside peers that have none.
func (r *policyParser) namesOfNowhere(at path, c *clusterRule) {
	if len(c.Nodes)+len(c.Blocks) == 0 {
		return
	}
	for _, p := range c.Ports {
		if p.Name != "" {
			r.report(at.field("protocols"), p.Name, "no destinationNamedPort beside networks or nodes, which have none")
			c.sound = false
		}
	}
}

func (r *policyParser) protocol(at path, c *clusterRule, object *policyv1alpha2.ClusterNetworkPolicyProtocol) {
	type choice struct {
		protocol policy.Protocol
		name     string
		port     *policyv1alpha2.Port
	}
	var choices []choice
	if object.TCP != nil {
		choices = append(choices, choice{policy.TCP, "tcp", object.TCP.DestinationPort})
	}
	if object.UDP != nil {
		choices = append(choices, choice{policy.UDP, "udp", object.UDP.DestinationPort})
	}
	if object.SCTP != nil {
		choices = append(choices, choice{policy.SCTP, "sctp", object.SCTP.DestinationPort})
	}
	named := object.DestinationNamedPort != ""
	if named && len(choices) > 0 || len(choices) > 1 || !named && len(choices) == 0 {
		r.report(at, len(choices), "exactly one of the fields that this version knows: tcp, udp, sctp or destinationNamedPort")
		c.sound = false
		return
	}
	if named {
		if !r.portName(at.field("destinationNamedPort"), object.DestinationNamedPort) {
			c.sound = false
			return
		}
		c.Ports = append(c.Ports, policy.PortIntent{Name: object.DestinationNamedPort})
		return
	}
	at = at.field(choices[0].name)
	ports, ok := r.clusterPort(at, choices[0].protocol, choices[0].port)
	c.Ports = append(c.Ports, policy.PortIntent{PortRange: ports})
	c.sound = c.sound && ok
}

func (r *policyParser) clusterPort(at path, protocol policy.Protocol, port *policyv1alpha2.Port) (ports policy.PortRange, ok bool) {
	ports.Protocol = protocol
	if port == nil {
		// The protocol must say something of its own: this may be a field of a
		// newer version.
		r.report(at, "", "destinationPort")
		return ports, false
	}
	at = at.field("destinationPort")
	switch {
	case port.Range != nil && port.Number != 0, port.Range == nil && port.Number == 0:
		r.report(at, port.Number, "exactly one of number, from 1 to 65535, and range")
		return ports, false
	case port.Range == nil:
		ports.First, ok = r.number(at.field("number"), port.Number)
		ports.Last = ports.First
		return ports, ok
	}
	at = at.field("range")
	var fine bool
	ports.First, ok = r.number(at.field("start"), port.Range.Start)
	ports.Last, fine = r.number(at.field("end"), port.Range.End)
	if ok && fine && ports.Last < ports.First {
		r.report(at.field("end"), port.Range.End, "more than start")
		fine = false
	}
	return ports, ok && fine
}

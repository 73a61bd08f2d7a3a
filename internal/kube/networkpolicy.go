// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/waymark-net/waymark/policy"
)

// NetworkPolicy returns what a NetworkPolicy says, and what of it was not
// understood: such a peer, block or port matches nothing; Pods that cannot be
// selected for sure are isolated, and no rule of the policy is theirs.
func NetworkPolicy(object *networkingv1.NetworkPolicy) (*policy.PolicyIntent, []PolicyProblem) {
	key := policy.Key{Kind: policy.NetworkPolicy, Namespace: object.Namespace, Name: object.Name}
	r := policyParser{key: key}
	in := &policy.PolicyIntent{Key: key, UID: string(object.UID), Tier: policy.TierNamespace}
	in.Subject.Namespace = object.Namespace
	spec := path{parser: &r}.field("spec")
	pods, selected := r.selector(spec.field("podSelector"), &object.Spec.PodSelector)
	in.Subject.Pods = pods

	has := r.directions(spec, object, in)
	if !selected {
		return in, r.problems
	}
	count := 0
	if has[policy.Ingress] {
		count += len(object.Spec.Ingress)
	}
	if has[policy.Egress] {
		count += len(object.Spec.Egress)
	}
	if count > 0 {
		in.Rules = make([]policy.RuleIntent, 0, count)
	}
	if has[policy.Ingress] {
		for i := range object.Spec.Ingress {
			rule := &object.Spec.Ingress[i]
			at := spec.item("ingress", i)
			in.Rules = append(in.Rules, policy.RuleIntent{Direction: policy.Ingress, Index: i})
			r.rule(at, &in.Rules[len(in.Rules)-1], "from", rule.From, rule.Ports)
		}
	}
	if has[policy.Egress] {
		for i := range object.Spec.Egress {
			rule := &object.Spec.Egress[i]
			at := spec.item("egress", i)
			in.Rules = append(in.Rules, policy.RuleIntent{Direction: policy.Egress, Index: i})
			r.rule(at, &in.Rules[len(in.Rules)-1], "to", rule.To, rule.Ports)
		}
	}
	return in, r.problems
}

// directions sets in which directions the policy isolates, and returns in
// which its rules count. A type that is not known may be either direction.
func (r *policyParser) directions(spec path, object *networkingv1.NetworkPolicy, in *policy.PolicyIntent) [policy.Directions]bool {
	if len(object.Spec.PolicyTypes) == 0 {
		in.Isolates[policy.Ingress] = true
		in.Isolates[policy.Egress] = len(object.Spec.Egress) > 0
		return in.Isolates
	}
	unknown := false
	for i, t := range object.Spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			in.Isolates[policy.Ingress] = true
		case networkingv1.PolicyTypeEgress:
			in.Isolates[policy.Egress] = true
		default:
			r.report(spec.item("policyTypes", i), t, "Ingress or Egress; the Pods are isolated in both directions")
			unknown = true
		}
	}
	has := in.Isolates
	if unknown {
		in.Isolates = [policy.Directions]bool{true, true}
	}
	return has
}

func (r *policyParser) rule(at path, in *policy.RuleIntent, name string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	in.AnyPeer, in.AnyPort = len(peers) == 0, len(ports) == 0
	for i := range peers {
		r.peer(at.item(name, i), in, &peers[i])
	}
	if len(ports) > 0 {
		in.Ports = make([]policy.PortIntent, 0, len(ports))
	}
	for i := range ports {
		if p, ok := r.port(at.item("ports", i), &ports[i]); ok {
			in.Ports = append(in.Ports, p)
		}
	}
}

func (r *policyParser) peer(at path, in *policy.RuleIntent, peer *networkingv1.NetworkPolicyPeer) {
	switch {
	case peer.IPBlock != nil && (peer.PodSelector != nil || peer.NamespaceSelector != nil):
		r.report(at, "ipBlock with a selector", "ipBlock alone, or podSelector, namespaceSelector or both")
	case peer.IPBlock != nil:
		at = at.field("ipBlock")
		if b, ok := r.block(at, peer.IPBlock); ok {
			in.Blocks = append(in.Blocks, b)
		}
	case peer.PodSelector == nil && peer.NamespaceSelector == nil:
		r.report(at, "", "podSelector, namespaceSelector, both, or ipBlock")
	default:
		set, ok := policy.PodSet{}, true
		if peer.NamespaceSelector == nil {
			set.Namespace = r.key.Namespace
		} else {
			set.Namespaces, ok = r.selector(at.field("namespaceSelector"), peer.NamespaceSelector)
		}
		if peer.PodSelector != nil {
			pods, fine := r.selector(at.field("podSelector"), peer.PodSelector)
			set.Pods, ok = pods, ok && fine
		}
		if ok {
			in.Pods = append(in.Pods, set)
		}
	}
}

func (r *policyParser) block(at path, object *networkingv1.IPBlock) (b policy.Block, ok bool) {
	if b.CIDR, ok = r.prefix(at.field("cidr"), object.CIDR); !ok {
		return b, false
	}
	for i, text := range object.Except {
		item := at.item("except", i)
		e, fine := r.prefix(item, text)
		if fine && (!b.CIDR.Contains(e.Addr()) || e.Bits() <= b.CIDR.Bits()) {
			r.report(item, text, "a CIDR inside "+object.CIDR+" and smaller")
			fine = false
		}
		ok = ok && fine
		b.Except = append(b.Except, e)
	}
	return b, ok
}

func (r *policyParser) port(at path, object *networkingv1.NetworkPolicyPort) (p policy.PortIntent, ok bool) {
	p.Protocol = policy.TCP
	if object.Protocol != nil {
		if p.Protocol, ok = protocolOf(*object.Protocol); !ok {
			r.report(at.field("protocol"), *object.Protocol, "TCP, UDP or SCTP")
			return p, false
		}
	}
	switch {
	case object.Port == nil && object.EndPort != nil:
		r.report(at.field("endPort"), *object.EndPort, "nothing without port")
		return p, false
	case object.Port == nil:
		p.PortRange = allPorts(p.Protocol)
		return p, true
	case object.Port.Type == intstr.String && object.EndPort != nil:
		r.report(at.field("endPort"), *object.EndPort, "nothing with a port that is a name")
		return p, false
	case object.Port.Type == intstr.String:
		p.Name = object.Port.StrVal
		return p, r.portName(at.field("port"), p.Name)
	}
	if p.First, ok = r.number(at.field("port"), object.Port.IntVal); !ok {
		return p, false
	}
	if p.Last = p.First; object.EndPort == nil {
		return p, true
	}
	if p.Last, ok = r.number(at.field("endPort"), *object.EndPort); !ok {
		return p, false
	}
	if p.Last < p.First {
		r.report(at.field("endPort"), *object.EndPort, "port, which is "+object.Port.String()+", or more")
		return p, false
	}
	return p, true
}

func (r *policyParser) portName(at path, name string) bool {
	problems := validation.IsValidPortName(name)
	if len(problems) > 0 {
		r.report(at, name, "the name of a port: "+slices.Min(problems))
	}
	return len(problems) == 0
}

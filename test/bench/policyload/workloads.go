// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const nodes = 1000

// objects are a cluster.
type objects struct {
	namespaces []*corev1.Namespace
	pods       []*corev1.Pod
	policies   []*networkingv1.NetworkPolicy

	random  *rand.Rand
	address netip.Addr // the next one
}

// workloads fill clusters of a size; 1 is the size of the table in
// docs/benchmarks.md.
var workloads = map[string]func(o *objects, size float64){
	"small namespaces": func(o *objects, size float64) {
		for n := range scaled(25000, size) {
			ns := o.namespace(fmt.Sprintf("namespace-%d", n), map[string]string{"app": fmt.Sprintf("app-%d", n)})
			o.policy(ns, "default-deny", nil)
			for i, app := range []string{"app-1", "app-2"} {
				labels := map[string]string{app: fmt.Sprintf("scale-%d", i+1)}
				o.policy(ns, app, labels, podPeer(labels))
				o.pod(ns, app+"-a", labels)
				o.pod(ns, app+"-b", labels)
			}
		}
	},
	"large namespaces": func(o *objects, size float64) {
		for n := range scaled(100, size) {
			ns := o.namespace(fmt.Sprintf("namespace-%d", n), map[string]string{"app": fmt.Sprintf("app-%d", n)})
			o.policy(ns, "default-deny", nil)
			for i := range 100 {
				labels := func() map[string]string {
					return map[string]string{fmt.Sprintf("app-%d", i): fmt.Sprintf("scale-%d", i)}
				}
				o.policy(ns, fmt.Sprintf("policy-%d", i), labels(), podPeer(labels()))
				for p := range 10 {
					o.pod(ns, fmt.Sprintf("pod-%d-%d", i, p), labels())
				}
			}
		}
	},
	"one namespace, all to all": func(o *objects, size float64) {
		ns := o.namespace("namespace", nil)
		labels := func() map[string]string { return map[string]string{"app-1": "scale-1"} }
		for i := range scaled(10000, size) {
			o.policy(ns, fmt.Sprintf("policy-%d", i), labels(), podPeer(labels()))
			o.pod(ns, fmt.Sprintf("pod-%d", i), labels())
		}
	},
	"a policy a Pod": func(o *objects, size float64) {
		ns := o.namespace("namespace", nil)
		count := scaled(10000, size)
		labels := func(i int) map[string]string { return map[string]string{"pod": fmt.Sprintf("pod-%d", i%count)} }
		for i := range count {
			o.policy(ns, fmt.Sprintf("policy-%d", i), labels(i), podPeer(labels(i+1)))
			o.pod(ns, fmt.Sprintf("pod-%d", i), labels(i))
		}
	},
	"cluster-scoped": func(o *objects, size float64) {
		for n := range scaled(1000, size) {
			// Ten namespaces share a label, and ten Pods of each one label.
			group := func(n int) map[string]string { return map[string]string{"group": fmt.Sprintf("group-%d", n/10)} }
			ns := o.namespace(fmt.Sprintf("namespace-%d", n), group(n))
			for i := range 10 {
				labels := func() map[string]string { return map[string]string{"app": fmt.Sprintf("app-%d", i)} }
				o.policy(ns, fmt.Sprintf("policy-%d", i), labels(), networkingv1.NetworkPolicyPeer{
					NamespaceSelector: &metav1.LabelSelector{MatchLabels: group(n)},
					PodSelector:       &metav1.LabelSelector{MatchLabels: labels()},
				})
				for p := range 10 {
					o.pod(ns, fmt.Sprintf("pod-%d-%d", i, p), labels())
				}
			}
		}
	},
}

func scaled(count int, size float64) int { return max(1, int(float64(count)*size)) }

func podPeer(labels map[string]string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: labels}}
}

func (o *objects) meta(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	uid := fmt.Sprintf("%08x-%08x", o.random.Uint32(), o.random.Uint32())
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid), Labels: labels}
}

func (o *objects) namespace(name string, labels map[string]string) string {
	all := map[string]string{"kubernetes.io/metadata.name": name}
	for key, value := range labels {
		all[key] = value
	}
	o.namespaces = append(o.namespaces, &corev1.Namespace{ObjectMeta: o.meta("", name, all)})
	return name
}

// pod adds a Pod on any of the nodes.
func (o *objects) pod(namespace, name string, labels map[string]string) {
	o.pods = append(o.pods, o.newPod(namespace, name, labels))
}

func (o *objects) newPod(namespace, name string, labels map[string]string) *corev1.Pod {
	own := make(map[string]string, len(labels))
	for key, value := range labels {
		own[key] = value
	}
	address := o.address.String()
	o.address = o.address.Next()
	pod := &corev1.Pod{ObjectMeta: o.meta(namespace, name, own)}
	pod.Spec.NodeName = fmt.Sprintf("node-%d", o.random.IntN(nodes))
	pod.Spec.Containers = []corev1.Container{{Name: "container"}}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP = address
	pod.Status.PodIPs = []corev1.PodIP{{IP: address}}
	return pod
}

// policy adds one that selects Pods by labels, nil all, accepts from peers, and
// lists Egress without rules.
func (o *objects) policy(namespace, name string, labels map[string]string, from ...networkingv1.NetworkPolicyPeer) {
	p := &networkingv1.NetworkPolicy{ObjectMeta: o.meta(namespace, name, nil)}
	p.Spec.PodSelector.MatchLabels = labels
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	if len(from) > 0 {
		p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from}}
	}
	o.policies = append(o.policies, p)
}

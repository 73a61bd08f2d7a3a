// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/waymark-net/waymark/policy"
)

// ConditionUnderstood is the type of the condition that says of a
// ClusterNetworkPolicy whether all of it was understood.
const ConditionUnderstood = "waymark.io/Understood"

// Reasons of ConditionUnderstood; the first is that of an Event, too.
const (
	ReasonPolicyNotUnderstood = "PolicyNotUnderstood"
	ReasonUnderstood          = "Understood"
)

// PolicyObject is the object of a policy as it is now.
type PolicyObject struct {
	Key      policy.Key
	UID      string
	Problems []PolicyProblem
	// Cluster is a copy of the object if it is a ClusterNetworkPolicy.
	Cluster *policyv1alpha2.ClusterNetworkPolicy
}

// Policy returns the object of a policy; ok is false if there is none.
func (w *PolicyWatcher) Policy(key policy.Key) (object PolicyObject, ok bool) {
	kind := kindNetworkPolicies
	if key.Kind == policy.ClusterNetworkPolicy {
		kind = kindClusterPolicies
	}
	name := cache.ObjectName{Namespace: key.Namespace, Name: key.Name}
	stored, exists, err := w.kinds[kind].informer.GetStore().GetByKey(name.String())
	if err != nil || !exists {
		return PolicyObject{}, false
	}
	switch p := stored.(type) {
	case *networkingv1.NetworkPolicy:
		_, problems := NetworkPolicy(p)
		return PolicyObject{Key: key, UID: string(p.UID), Problems: problems}, true
	case *policyv1alpha2.ClusterNetworkPolicy:
		_, problems := ClusterNetworkPolicy(p)
		return PolicyObject{Key: key, UID: string(p.UID), Problems: problems, Cluster: p.DeepCopy()}, true
	}
	return PolicyObject{}, false
}

// NotUnderstood says in words what of the policy was not understood, one line for
// each problem; it is empty if there is none.
func (o *PolicyObject) NotUnderstood() string {
	var lines []string
	for _, p := range o.Problems {
		lines = append(lines, fmt.Sprintf("%s: %q (allowed: %s)", p.Field, p.Value, p.Allowed))
	}
	return strings.Join(lines, "\n")
}

// SetUnderstood brings the condition of a ClusterNetworkPolicy up to date and
// reports whether it changed.
func (o *PolicyObject) SetUnderstood(now time.Time) bool {
	condition := metav1.Condition{
		Type: ConditionUnderstood, Status: metav1.ConditionTrue, Reason: ReasonUnderstood, Message: "every field was understood",
		ObservedGeneration: o.Cluster.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	if text := o.NotUnderstood(); text != "" {
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonPolicyNotUnderstood
		condition.Message = fit(text, maxMessage)
	}
	return meta.SetStatusCondition(&o.Cluster.Status.Conditions, condition)
}

// OnPolicy writes an Event about a policy.
func (r *Recorder) OnPolicy(object PolicyObject, severity Severity, reason, message string) {
	about := &corev1.ObjectReference{
		Kind: object.Key.Kind.String(), APIVersion: networkingv1.SchemeGroupVersion.String(),
		Namespace: object.Key.Namespace, Name: object.Key.Name, UID: types.UID(object.UID),
	}
	if object.Key.Kind == policy.ClusterNetworkPolicy {
		about.APIVersion = policyv1alpha2.GroupVersion.String()
	}
	r.event(about, severity, reason, message)
}

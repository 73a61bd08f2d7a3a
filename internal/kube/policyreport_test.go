// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

func TestUnderstood(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	foreign := metav1.Condition{Type: "example.com/Other", Status: metav1.ConditionTrue, Reason: "Why"}
	o := PolicyObject{Cluster: &policyv1alpha2.ClusterNetworkPolicy{}}
	o.Cluster.Status.Conditions = []metav1.Condition{foreign}
	one, many := []PolicyProblem{{Field: "spec.a", Value: "x", Allowed: "y or z"}}, []PolicyProblem(nil)
	for range 1000 {
		many = append(many, one[0])
	}
	for i, step := range []struct {
		problems   []PolicyProblem
		generation int64
		changed    bool
		want       metav1.Condition
	}{
		{nil, 1, true, metav1.Condition{Status: metav1.ConditionTrue, Reason: ReasonUnderstood, Message: "every field was understood", LastTransitionTime: metav1.NewTime(at(0).Truncate(time.Second))}},
		{nil, 1, false, metav1.Condition{Status: metav1.ConditionTrue, Reason: ReasonUnderstood, Message: "every field was understood", LastTransitionTime: metav1.NewTime(at(0).Truncate(time.Second))}},
		{one, 2, true, metav1.Condition{Status: metav1.ConditionFalse, Reason: ReasonPolicyNotUnderstood, Message: `spec.a: "x" (allowed: y or z)`, LastTransitionTime: metav1.NewTime(at(2).Truncate(time.Second))}},
		{one, 3, true, metav1.Condition{Status: metav1.ConditionFalse, Reason: ReasonPolicyNotUnderstood, Message: `spec.a: "x" (allowed: y or z)`, LastTransitionTime: metav1.NewTime(at(2).Truncate(time.Second))}},
	} {
		o.Problems, o.Cluster.Generation = step.problems, step.generation
		step.want.Type, step.want.ObservedGeneration = ConditionUnderstood, step.generation
		if changed := o.SetUnderstood(at(i)); changed != step.changed {
			t.Errorf("step %d: changed %v, want %v", i, changed, step.changed)
		}
		if d := cmp.Diff([]metav1.Condition{foreign, step.want}, o.Cluster.Status.Conditions); d != "" {
			t.Errorf("step %d: conditions (-want +got):\n%s", i, d)
		}
	}
	o.Problems = many
	o.SetUnderstood(start)
	if message := o.Cluster.Status.Conditions[1].Message; len(message) > maxMessage || !strings.Contains(message, " more") {
		t.Errorf("a message of %d bytes: %s", len(message), message)
	}
}

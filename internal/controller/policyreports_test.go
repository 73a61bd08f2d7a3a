// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/compute"
)

// policyAPI is the policies of a cluster, and what is said of them.
type policyAPI struct {
	t       *testing.T
	objects map[policy.Key]kube.PolicyObject
	events  []string
	writes  []string
	err     error
	leading context.Context
	reports *policyReports
}

func newPolicyAPI(t *testing.T) *policyAPI {
	a := &policyAPI{t: t, objects: map[policy.Key]kube.PolicyObject{}, leading: t.Context()}
	a.reports = newPolicyReports(policyReportsParams{
		Recorder: a, Status: a,
		Policy: func(key policy.Key) (kube.PolicyObject, bool) {
			o, ok := a.objects[key]
			if o.Cluster != nil {
				o.Cluster = o.Cluster.DeepCopy()
			}
			return o, ok
		},
		Leading: func() context.Context { return a.leading },
		Now:     func() time.Time { return time.Unix(1e9, 0) },
	})
	return a
}

func (a *policyAPI) OnPolicy(o kube.PolicyObject, s kube.Severity, reason, message string) {
	a.events = append(a.events, fmt.Sprintf("%s %s on %s %s: %s", s, reason, o.Key, o.UID, strings.SplitN(message, "\n", 2)[1]))
}

func (a *policyAPI) UpdateStatus(_ context.Context, p *policyv1alpha2.ClusterNetworkPolicy, _ metav1.UpdateOptions) (*policyv1alpha2.ClusterNetworkPolicy, error) {
	if a.err != nil {
		return nil, a.err
	}
	for _, c := range p.Status.Conditions {
		a.writes = append(a.writes, fmt.Sprintf("%s: %s=%s %s %d: %s", p.Name, c.Type, c.Status, c.Reason, c.ObservedGeneration, c.Message))
	}
	key := clusterKey(p.Name)
	o := a.objects[key]
	o.Cluster = p
	a.objects[key] = o
	a.take(key) // the change comes back
	return p, nil
}

func clusterKey(name string) policy.Key {
	return policy.Key{Kind: policy.ClusterNetworkPolicy, Name: name}
}

func (a *policyAPI) take(key policy.Key) {
	e := &kube.PolicyEvents{Problems: map[policy.Key][]kube.PolicyProblem{key: a.objects[key].Problems}}
	if _, ok := a.objects[key]; !ok {
		e.GonePolicies = []policy.Key{key}
	}
	a.reports.take(e)
}

// put makes an object have problems with some fields.
func (a *policyAPI) put(key policy.Key, uid string, fields ...string) {
	o := kube.PolicyObject{Key: key, UID: uid}
	for _, f := range fields {
		o.Problems = append(o.Problems, kube.PolicyProblem{Policy: key, Field: f, Value: "v", Allowed: "w"})
	}
	if key.Kind == policy.ClusterNetworkPolicy {
		o.Cluster = &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Generation: 2}}
		if old := a.objects[key].Cluster; old != nil {
			o.Cluster.Generation, o.Cluster.Status = old.Generation+1, old.Status
		}
	}
	a.objects[key] = o
	a.take(key)
}

func (a *policyAPI) remove(key policy.Key) {
	delete(a.objects, key)
	a.take(key)
}

// want has everything be reported, twice, and compares what was said since.
func (a *policyAPI) want(events, writes []string) {
	a.t.Helper()
	for range 2 {
		if err := a.reports.reconcile(a.t.Context()); err != nil {
			a.t.Error(err)
		}
	}
	if d := cmp.Diff(events, a.events); d != "" {
		a.t.Errorf("Events (-want +got):\n%s", d)
	}
	if d := cmp.Diff(writes, a.writes); d != "" {
		a.t.Errorf("conditions (-want +got):\n%s", d)
	}
	a.events, a.writes = nil, nil
}

func TestPolicyReports(t *testing.T) {
	web, good, all := policy.Key{Namespace: "shop", Name: "web"}, policy.Key{Namespace: "shop", Name: "good"}, clusterKey("all")
	const prefix = "Warning PolicyNotUnderstood on "
	const onWeb, onAll = prefix + "NetworkPolicy shop/web ", prefix + "ClusterNetworkPolicy all "
	a := newPolicyAPI(t)
	a.put(good, "1")
	a.put(web, "2", "spec.a")
	a.put(all, "3")
	a.want([]string{onWeb + `2: spec.a: "v" (allowed: w)`},
		[]string{"all: waymark.io/Understood=True Understood 2: every field was understood"})
	a.put(web, "2", "spec.a")
	a.want(nil, nil)
	a.put(web, "2", "spec.a", "spec.b")
	a.put(all, "3", "spec.c")
	a.want([]string{onAll + `3: spec.c: "v" (allowed: w)`, onWeb + "2: spec.a: \"v\" (allowed: w)\nspec.b: \"v\" (allowed: w)"},
		[]string{`all: waymark.io/Understood=False PolicyNotUnderstood 3: spec.c: "v" (allowed: w)`})
	if n := a.reports.withProblems(); n != 2 {
		t.Errorf("%d policies with problems, want 2", n)
	}
	a.put(web, "2")
	a.put(all, "3")
	a.want(nil, []string{"all: waymark.io/Understood=True Understood 4: every field was understood"})
	a.put(web, "2", "spec.a")
	a.want([]string{onWeb + `2: spec.a: "v" (allowed: w)`}, nil)
	a.put(web, "4", "spec.a") // another object of the name
	a.want([]string{onWeb + `4: spec.a: "v" (allowed: w)`}, nil)
	a.remove(web)
	a.remove(all)
	a.want(nil, nil)
	if len(a.reports.reported) != 0 || len(a.reports.said) != 0 {
		t.Errorf("left of policies that are gone: %v, %v", a.reports.reported, a.reports.said)
	}
}

func TestPolicyReportsOfTheLeader(t *testing.T) {
	web := policy.Key{Namespace: "shop", Name: "web"}
	a := newPolicyAPI(t)
	a.leading = nil
	a.put(web, "2", "spec.a")
	a.want(nil, nil)
	for range 2 { // each new leader says it
		a.leading = t.Context()
		a.want([]string{`Warning PolicyNotUnderstood on NetworkPolicy shop/web 2: spec.a: "v" (allowed: w)`}, nil)
		a.leading = nil
		a.want(nil, nil)
	}
}

func TestPolicyStatusFails(t *testing.T) {
	resource := schema.GroupResource{Resource: "clusternetworkpolicies"}
	lost := errors.New("connection lost")
	for name, tc := range map[string]struct {
		err   error
		fails bool
	}{
		"gone":     {apierrors.NewNotFound(resource, "all"), false},
		"conflict": {apierrors.NewConflict(resource, "all", nil), false},
		"lost":     {lost, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newPolicyAPI(t)
			a.put(clusterKey("all"), "3", "spec.c")
			a.err = tc.err
			if err := a.reports.reconcile(t.Context()); (err != nil) != tc.fails || tc.fails && !errors.Is(err, lost) {
				t.Errorf("error %v", err)
			}
			a.err, a.events = nil, nil
			var writes []string
			if tc.fails { // it is tried again
				writes = []string{`all: waymark.io/Understood=False PolicyNotUnderstood 2: spec.c: "v" (allowed: w)`}
			}
			a.want(nil, writes)
		})
	}
}

func TestPolicyMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := newPolicyMetrics(registry, func() int { return 3 })
	m.computed(2*time.Millisecond, compute.Size{Pods: 9, Policies: 4})
	m.computed(2*time.Millisecond, compute.Size{Pods: 8, Policies: 4})
	want := `
# HELP waymark_policy_not_understood Policies of which not all was understood, which deny more than was meant, perhaps.
# TYPE waymark_policy_not_understood gauge
waymark_policy_not_understood 3
# HELP waymark_policy_objects What policies are computed from. Identities are kinds of Pods that no policy can tell apart, scopes different selectors of namespaces and nodes.
# TYPE waymark_policy_objects gauge
waymark_policy_objects{kind="identities"} 0
waymark_policy_objects{kind="namespaces"} 0
waymark_policy_objects{kind="nodes"} 0
waymark_policy_objects{kind="pods"} 8
waymark_policy_objects{kind="policies"} 4
waymark_policy_objects{kind="scopes"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "waymark_policy_not_understood", "waymark_policy_objects"); err != nil {
		t.Error(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "waymark_policy_compute_seconds" && f.GetMetric()[0].GetHistogram().GetSampleCount() == 2 {
			return
		}
	}
	t.Error("computations are not counted")
}

// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/policy"
)

// policyRecorder writes Events. *kube.Recorder implements it.
type policyRecorder interface {
	OnPolicy(object kube.PolicyObject, severity kube.Severity, reason, message string)
}

// policyStatus writes the status of ClusterNetworkPolicies.
type policyStatus interface {
	UpdateStatus(ctx context.Context, p *policyv1alpha2.ClusterNetworkPolicy, opts metav1.UpdateOptions) (*policyv1alpha2.ClusterNetworkPolicy, error)
}

// policyReportsParams describe policyReports.
type policyReportsParams struct {
	Recorder policyRecorder
	Status   policyStatus
	// Policy returns a policy as it is now.
	Policy func(key policy.Key) (kube.PolicyObject, bool)
	// Leading returns the context to write under, nil while another replica leads.
	Leading func() context.Context
	Now     func() time.Time
}

// policyReports say where users look what of their policies was not understood:
// in an Event, and in a condition of ClusterNetworkPolicies. Only the leader
// does; a new one says all of it again.
type policyReports struct {
	params policyReportsParams
	loop   *reconcile.Loop

	mu sync.Mutex
	// reported are the policies of which something is said: those with problems
	// (true) and all ClusterNetworkPolicies.
	reported map[policy.Key]bool
	// dirty are those that changed, also those that were reported before.
	dirty map[policy.Key]struct{}

	// said is what was said in the last Event of a policy, with the UID of its
	// object; nil while another replica leads. Owned by the loop.
	said map[policy.Key]string
}

func newPolicyReports(params policyReportsParams) *policyReports {
	r := &policyReports{params: params, reported: map[policy.Key]bool{}, dirty: map[policy.Key]struct{}{}}
	r.loop = reconcile.New(reconcile.Params{
		Name:        "policy reports",
		Reconcile:   r.reconcile,
		MinInterval: 500 * time.Millisecond,
		MaxInterval: 5 * time.Minute,
		RetryBase:   time.Second,
		RetryMax:    time.Minute,
	})
	return r
}

// take notes which policies changed.
func (r *policyReports) take(e *kube.PolicyEvents) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for key, problems := range e.Problems {
		_, had := r.reported[key]
		if has := len(problems) > 0; has || key.Kind == policy.ClusterNetworkPolicy {
			r.reported[key] = has
		} else if had {
			delete(r.reported, key)
		} else {
			continue
		}
		r.dirty[key] = struct{}{}
		changed = true
	}
	for _, key := range e.GonePolicies {
		delete(r.reported, key)
	}
	if changed {
		r.loop.Mark()
	}
}

// withProblems counts the policies of which not all was understood.
func (r *policyReports) withProblems() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, problems := range r.reported {
		if problems {
			n++
		}
	}
	return n
}

// reconcile says what there is to say of policies that changed.
func (r *policyReports) reconcile(ctx context.Context) error {
	leading := r.params.Leading()
	if leading == nil {
		r.said = nil
		return nil
	}
	leading = klog.NewContext(leading, klog.FromContext(ctx))
	var errs []error
	for _, key := range r.next() {
		if err := r.report(leading, key); err != nil {
			errs = append(errs, err)
			r.mu.Lock()
			r.dirty[key] = struct{}{}
			r.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// next returns the policies to look at: all, when this replica begins to lead.
func (r *policyReports) next() []policy.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := slices.Collect(maps.Keys(r.dirty))
	if r.said == nil {
		r.said = map[policy.Key]string{}
		keys = slices.Collect(maps.Keys(r.reported))
	}
	r.dirty = map[policy.Key]struct{}{}
	slices.SortFunc(keys, func(a, b policy.Key) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

func (r *policyReports) report(ctx context.Context, key policy.Key) error {
	object, ok := r.params.Policy(key)
	if !ok || len(object.Problems) == 0 && object.Cluster == nil {
		delete(r.said, key)
		return nil
	}
	text := object.NotUnderstood()
	if said := object.UID + " " + text; text == "" {
		delete(r.said, key)
	} else if r.said[key] != said {
		r.said[key] = said
		r.params.Recorder.OnPolicy(object, kube.Warning, kube.ReasonPolicyNotUnderstood,
			"more is denied than was meant, perhaps, because this was not understood:\n"+text)
	}
	if object.Cluster == nil || !object.SetUnderstood(r.params.Now()) {
		return nil
	}
	_, err := r.params.Status.UpdateStatus(ctx, object.Cluster, metav1.UpdateOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case apierrors.IsConflict(err):
		// The newer version is on its way here and comes by take.
		klog.FromContext(ctx).V(2).Info("Policy changed meanwhile", "policy", key)
	case err != nil:
		return fmt.Errorf("write status of %s: %w", key, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// clusterPolicyDefinition is the CustomResourceDefinition of cluster network
// policies.
const clusterPolicyDefinition = "clusternetworkpolicies.policy.networking.k8s.io"

// optional is a Reader of a kind of which the cluster may not have the API:
// there are no objects then, until it has.
type optional[L runtime.Object] struct {
	Reader[L]
	definitions DefinitionClient
	definition  string // name of the kind's CustomResourceDefinition
}

// List implements Reader.
func (o optional[L]) List(ctx context.Context, opts metav1.ListOptions) (L, error) {
	list, err := o.Reader.List(ctx, opts)
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return list, err
}

// Watch implements Reader. Without the API it returns a watch that says nothing
// and ends when the definition of the kind changes, so that who reads asks again.
func (o optional[L]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	w, err := o.Reader.Watch(ctx, opts)
	if !apierrors.IsNotFound(err) || opts.SendInitialEvents != nil && *opts.SendInitialEvents {
		return w, err
	}
	definition, err := o.definitions.Watch(ctx, metav1.ListOptions{
		FieldSelector:  fields.OneTermEqualSelector(metav1.ObjectNameField, o.definition).String(),
		TimeoutSeconds: opts.TimeoutSeconds,
	})
	if err != nil {
		return nil, err
	}
	return watch.Filter(definition, func(e watch.Event) (watch.Event, bool) {
		definition.Stop()
		return e, false
	}), nil
}

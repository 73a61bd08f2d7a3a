// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/api/v1alpha1"
)

// SessionWriterParams describe a SessionWriter.
type SessionWriterParams struct {
	Clients *Clients
	// Now is the clock of transition times.
	Now func() time.Time
}

// SessionWriter keeps the BGPSessions of one node as its agent reports them.
type SessionWriter struct {
	client SessionClient
	now    func() time.Time
	// have are the objects as last seen or written, nil: to be listed.
	have   map[string]*v1alpha1.BGPSession
	listed time.Time
}

// relist is how often the objects are looked at although nothing failed:
// someone may have deleted one.
const relist = 5 * time.Minute

// NewSessionWriter returns a SessionWriter.
func NewSessionWriter(params SessionWriterParams) *SessionWriter {
	return &SessionWriter{client: params.Clients.Sessions, now: params.Now}
}

// Write makes the node's BGPSessions say what the report says: it creates,
// updates and deletes, goes on past a failure, and returns all errors. It
// remembers what it wrote, so that a report without news costs nothing; after
// an error, and now and then, it looks at the API server again.
func (w *SessionWriter) Write(ctx context.Context, report Report) error {
	if w.have == nil || w.now().Sub(w.listed) >= relist {
		if err := w.list(ctx, report.Node.Name); err != nil {
			return err
		}
	}
	var errs []error
	wanted := map[string]bool{}
	for _, s := range report.sessions(w.have, w.now()) {
		wanted[s.Name] = true
		if err := w.put(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("write BGPSession %s: %w", s.Name, err))
		}
	}
	for name := range w.have {
		if wanted[name] {
			continue
		}
		if err := w.client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete BGPSession %s: %w", name, err))
			continue
		}
		delete(w.have, name)
	}
	if len(errs) > 0 {
		w.have = nil
	}
	return errors.Join(errs...)
}

func (w *SessionWriter) list(ctx context.Context, node string) error {
	list, err := w.client.List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("status.node", node).String()})
	if err != nil {
		return fmt.Errorf("list BGPSessions of node %s: %w", node, err)
	}
	w.listed = w.now()
	w.have = make(map[string]*v1alpha1.BGPSession, len(list.Items))
	for i := range list.Items {
		w.have[list.Items[i].Name] = &list.Items[i]
	}
	return nil
}

// put creates or updates one object unless it says the same already.
func (w *SessionWriter) put(ctx context.Context, want *v1alpha1.BGPSession) error {
	have := w.have[want.Name]
	if have != nil && equality.Semantic.DeepEqual(have.Status, want.Status) && equality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences) {
		return nil
	}
	var written *v1alpha1.BGPSession
	var err error
	if have != nil {
		written, err = w.client.Update(ctx, want, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			have, want.ResourceVersion = nil, ""
		}
	}
	if have == nil {
		written, err = w.client.Create(ctx, want, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	w.have[want.Name] = written
	klog.FromContext(ctx).V(2).Info("BGPSession written", "session", want.Name, "state", want.Status.State)
	return nil
}

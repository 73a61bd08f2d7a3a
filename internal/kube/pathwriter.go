// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/api/v1alpha1"
)

// detailInterval is how long a NodePaths is not written again for details. A path that
// is lost, or back, is told as soon as the caller comes with it; that nodes came, or
// other words on why, can wait, as each node of a large cluster would write for each
// node that joins. The caller has to come again to have it written.
const detailInterval = 10 * time.Second

// PathWriterParams describe a PathWriter.
type PathWriterParams struct {
	Clients *Clients
	// Now is the clock by which writes are held back.
	Now func() time.Time
}

// PathWriter keeps the NodePaths of one node as its agent reports them.
type PathWriter struct {
	client PathClient
	now    func() time.Time
	// have is the object as last seen or written, nil: there is none; known says
	// that it was looked for, at the time read.
	have        *v1alpha1.NodePaths
	known       bool
	read, wrote time.Time
}

// NewPathWriter returns a PathWriter.
func NewPathWriter(params PathWriterParams) *PathWriter {
	return &PathWriter{client: params.Clients.Paths, now: params.Now}
}

// Write makes the node's NodePaths say what the report says, unless nothing but
// times in reasons is new, or nothing but details soon after the last write. It reads
// the object first, since an earlier run of the agent told there since when paths
// are; again after an error, and now and then.
func (w *PathWriter) Write(ctx context.Context, report PathReport) error {
	now := w.now()
	if !w.known || now.Sub(w.read) >= relist {
		if err := w.look(ctx, report.Node.Name); err != nil {
			return err
		}
	}
	want := report.object(w.have)
	found := changed(w.have, want)
	if found == newsNone || found == newsDetail && now.Sub(w.wrote) < detailInterval {
		return nil
	}
	if err := w.put(ctx, want); err != nil {
		w.known = false
		return fmt.Errorf("write NodePaths %s: %w", want.Name, err)
	}
	w.wrote = now
	return nil
}

func (w *PathWriter) look(ctx context.Context, name string) error {
	have, err := w.client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		have, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("read NodePaths %s: %w", name, err)
	}
	w.have, w.known, w.read = have, true, w.now()
	return nil
}

func (w *PathWriter) put(ctx context.Context, want *v1alpha1.NodePaths) error {
	var written *v1alpha1.NodePaths
	var err error
	have := w.have
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
	w.have = written
	klog.FromContext(ctx).V(2).Info("NodePaths written", "node", want.Name, "tunnel", want.Status.Tunnel, "none", want.Status.None)
	return nil
}

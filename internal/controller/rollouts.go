// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/internal/rollout"
)

// rolloutHistory is how many rollouts are kept.
const rolloutHistory = 10

// newRolloutLoop returns the loop that leads nodes through rollouts. It has little
// patience: every phase waits for it.
func (c *Controller) newRolloutLoop() *reconcile.Loop {
	return reconcile.New(reconcile.Params{
		Name:        "rollouts",
		Reconcile:   c.reconcileRollouts,
		MinInterval: 50 * time.Millisecond,
		MaxInterval: 5 * time.Minute,
		RetryBase:   200 * time.Millisecond,
		RetryMax:    10 * time.Second,
	})
}

// reconcileRollouts makes the rollout that the configuration asks for, and has the
// one in force go on when its nodes have done what it asks for.
func (c *Controller) reconcileRollouts(ctx context.Context) error {
	s := c.watcher.Snapshot()
	leading := c.leading()
	if s == nil || leading == nil {
		return nil
	}
	leading = klog.NewContext(leading, klog.FromContext(ctx))
	current := s.Rollout()
	conf, _ := judge(s) // what is wrong is said elsewhere
	said := ""
	if conf != nil {
		var next *rollout.Rollout
		if next, said = rollout.Next(current, conf.Traffic()); next != nil {
			return c.begin(leading, s, next)
		}
	}
	if current == nil {
		return nil
	}
	object := &s.RolloutObjects[len(s.RolloutObjects)-1]
	return errors.Join(c.advance(leading, s, current, object, said), c.supersede(leading, s), c.forget(leading, s))
}

// begin makes a rollout. Until it is there nodes go by the phase of the one before,
// which is not ended here for that reason, see supersede.
func (c *Controller) begin(ctx context.Context, s *kube.Snapshot, next *rollout.Rollout) error {
	if n := len(s.RolloutObjects); n > 0 && !over(&s.RolloutObjects[n-1]) {
		before := s.RolloutObjects[n-1].DeepCopy()
		before.Status.Message = overtaken(next.Number)
		// What comes next depends on how far it was. That it went on meanwhile is on
		// its way here.
		if written, err := c.writeRollout(ctx, before); err != nil || !written {
			return err
		}
	}
	object := kube.NewRollout(next)
	_, err := c.params.Clients.Rollouts.Create(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // and on its way here
	}
	if err != nil {
		return fmt.Errorf("create NetworkRollout %s: %w", object.Name, err)
	}
	klog.FromContext(ctx).Info("Rollout begins", "rollout", object.Name, "from", next.From, "to", next.To, "reverses", next.Reverses)
	return nil
}

// advance writes how far the rollout in force is.
func (c *Controller) advance(ctx context.Context, s *kube.Snapshot, current *rollout.Rollout, object *v1alpha1.NetworkRollout, said string) error {
	names := make([]string, 0, len(s.Nodes))
	acks := map[string]rollout.Ack{}
	for _, n := range s.Nodes {
		names = append(names, n.Name)
		var ack rollout.Ack
		if n.Rollout.Name == current.Name {
			ack = rollout.Ack{Phase: n.Rollout.Phase, Problem: n.Rollout.Problem, Loses: n.Rollout.Loses}
		}
		if !n.Ready && !ack.Phase.Reached(current.Phase) {
			ack.Problem = "the node is not ready"
		}
		acks[n.Name] = ack
	}
	progress := rollout.Advance(current, names, acks)
	if progress.Phase == rollout.Complete {
		progress.Message = fmt.Sprintf("traffic travels by %s", current.To)
	}
	if said != "" {
		progress.Message = strings.TrimPrefix(progress.Message+"; "+said, "; ")
	}
	after := object.DeepCopy()
	if object.Status.Phase == v1alpha1.RolloutComplete {
		after.Status.Message = progress.Message // all else is as it was in the end
	} else {
		kube.SetProgress(after, progress, names, acks, c.now())
	}
	if equality.Semantic.DeepEqual(object.Status, after.Status) {
		return nil
	}
	if progress.Phase != current.Phase {
		klog.FromContext(ctx).Info("Rollout goes on", "rollout", current.Name, "phase", progress.Phase)
	}
	_, err := c.writeRollout(ctx, after)
	return err
}

// writeRollout writes a status, unless there is a newer one: that is on its way here.
func (c *Controller) writeRollout(ctx context.Context, o *v1alpha1.NetworkRollout) (written bool, err error) {
	_, err = c.params.Clients.Rollouts.UpdateStatus(ctx, o, metav1.UpdateOptions{})
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return false, nil
	}
	return false, fmt.Errorf("write status of NetworkRollout %s: %w", o.Name, err)
}

// over tells whether nodes have nothing to do any more for a rollout.
func over(o *v1alpha1.NetworkRollout) bool {
	return o.Status.Phase == v1alpha1.RolloutComplete || o.Status.Phase == v1alpha1.RolloutSuperseded
}

func overtaken(by int64) string { return fmt.Sprintf("overtaken by rollout-%d", by) }

// supersede ends rollouts that another one followed on the way.
func (c *Controller) supersede(ctx context.Context, s *kube.Snapshot) error {
	var errs []error
	for i := range len(s.RolloutObjects) - 1 {
		if over(&s.RolloutObjects[i]) {
			continue
		}
		before := s.RolloutObjects[i].DeepCopy()
		before.Status.Phase, before.Status.Message = v1alpha1.RolloutSuperseded, overtaken(s.RolloutObjects[i+1].Spec.Number)
		_, err := c.writeRollout(ctx, before)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// forget deletes the oldest rollouts.
func (c *Controller) forget(ctx context.Context, s *kube.Snapshot) error {
	var errs []error
	for i := range len(s.RolloutObjects) - rolloutHistory {
		o := &s.RolloutObjects[i]
		err := c.params.Clients.Rollouts.Delete(ctx, o.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &o.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete NetworkRollout %s: %w", o.Name, err))
		}
	}
	return errors.Join(errs...)
}

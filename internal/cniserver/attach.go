// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

// undoTimeout bounds the way back of a failed ADD, which also runs when the
// time of the request is over.
const undoTimeout = 10 * time.Second

// undoStack are the steps back from what was done so far.
type undoStack []func(context.Context) error

func (u *undoStack) push(step func(context.Context) error) { *u = append(*u, step) }

// run takes the steps, last first, and goes on past failures. What cannot be
// undone has no record any more, so that Reconcile will find it.
func (u undoStack) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var errs []error
	for i := len(u) - 1; i >= 0; i-- {
		if err := u[i](ctx); err != nil {
			errs = append(errs, fmt.Errorf("undoing: %w", err))
		}
	}
	return errors.Join(errs...)
}

// add answers ADD. The caller holds the lock of the attachment.
func (s *Server) add(ctx context.Context, req *request) (*current.Result, error) {
	set, err := s.settings()
	if err != nil {
		return nil, err
	}
	old, found, err := s.records.get(req.host)
	if err != nil {
		return nil, err
	}
	if found {
		done, err := s.addAgain(ctx, req, set, old)
		if err != nil {
			return nil, err
		}
		if done {
			return newResult(req.prev, old, set.MTU), nil
		}
	}
	a, err := s.attach(ctx, req, set)
	if err != nil {
		return nil, err
	}
	klog.FromContext(ctx).Info("Pod attached", "pod", klog.KRef(a.PodNamespace, a.PodName),
		"container", a.ContainerID, "interface", a.HostInterface, "addresses", a.Addresses)
	return newResult(req.prev, a, set.MTU), nil
}

// addAgain handles an ADD for which there is a record. It returns true when the
// attachment is whole; otherwise what was left of it is gone.
func (s *Server) addAgain(ctx context.Context, req *request, set Settings, old attachment) (bool, error) {
	if old.NetNS == req.netns {
		err := s.Links.Check(ctx, old.link(set))
		if err == nil {
			return true, s.Switch.AttachPod(ctx, old.PodInterface)
		}
		if !errors.Is(err, podlink.ErrBroken) {
			return false, err
		}
	} else if exists, err := s.Links.NamespaceExists(old.NetNS); err != nil || exists {
		return false, errors.Join(fmt.Errorf("%w: %s in namespace %s", errConflict, req.owner, old.NetNS), err)
	}
	klog.FromContext(ctx).Info("Replacing an attachment that is broken", "container", old.ContainerID, "interface", old.HostInterface)
	if err := s.detach(ctx, req.owner, req.host); err != nil {
		return false, err
	}
	// The new interface has the name of the old one, which a userspace switch
	// would hold on to.
	return false, s.Switch.Settle(ctx)
}

// attach makes an attachment, or nothing. The order of the steps is what
// Reconcile relies on: see the package documentation.
func (s *Server) attach(ctx context.Context, req *request, set Settings) (_ attachment, err error) {
	var undo undoStack
	defer func() {
		if err != nil {
			err = errors.Join(err, undo.run(ctx))
		}
	}()

	assigned, err := s.Addresses.Allocate(ctx, req.owner, set.PodCIDRs)
	if err != nil {
		return attachment{}, err
	}
	undo.push(func(ctx context.Context) error { return s.Addresses.Release(ctx, req.owner) })

	a := newAttachment(req, assigned)
	if err := s.Links.Create(ctx, a.link(set)); err != nil {
		return attachment{}, err
	}
	undo.push(func(ctx context.Context) error { return s.Links.Delete(ctx, req.host) })

	if err := s.records.put(a); err != nil {
		return attachment{}, err
	}
	// The switch may have done half of it when it fails: from here on the way
	// back is that of DEL, which keeps the addresses while it may know them.
	undo = undoStack{func(ctx context.Context) error { return s.detach(ctx, req.owner, req.host) }}

	if err := s.Switch.AttachPod(ctx, a.PodInterface); err != nil {
		return attachment{}, fmt.Errorf("attaching %s to the switch: %w", req.host, err)
	}
	return a, nil
}

func newAttachment(req *request, assigned []ipam.Assignment) attachment {
	a := attachment{
		PodInterface: PodInterface{
			ContainerID:   req.owner.ContainerID,
			IfName:        req.owner.IfName,
			PodNamespace:  req.pod.namespace,
			PodName:       req.pod.name,
			PodUID:        req.pod.uid,
			NetNS:         req.netns,
			HostInterface: req.host,
			MAC:           podlink.MAC(req.owner.ContainerID, req.owner.IfName),
		},
		Network: req.network,
	}
	for _, asg := range assigned {
		a.Addresses = append(a.Addresses, asg.Addr)
		a.Gateways = append(a.Gateways, asg.Gateway)
	}
	return a
}

// detach removes all there is of an attachment. The addresses stay taken as
// long as the switch or the kernel may still know them. The caller holds the
// lock of the attachment.
func (s *Server) detach(ctx context.Context, owner ipam.Owner, host string) error {
	if err := s.records.remove(host); err != nil {
		return err
	}
	err := errors.Join(s.Switch.DetachPod(ctx, host), s.Links.Delete(ctx, host))
	if err != nil || owner == (ipam.Owner{}) {
		return err
	}
	return s.Addresses.Release(ctx, owner)
}

// check answers CHECK. The caller holds the lock of the attachment.
func (s *Server) check(ctx context.Context, req *request) error {
	set, err := s.settings()
	if err != nil {
		return err
	}
	a, found, err := s.records.get(req.host)
	switch {
	case err != nil:
		return err
	case !found || a.NetNS != req.netns:
		return fmt.Errorf("%w: %s is not attached in %s", podlink.ErrBroken, req.owner, req.netns)
	case !hasAddresses(req.prev, a):
		return fmt.Errorf("%w: prevResult does not list the addresses %v", podlink.ErrBroken, a.Addresses)
	}
	if err := s.Links.Check(ctx, a.link(set)); err != nil {
		return err
	}
	if err := s.Switch.CheckPod(ctx, a.PodInterface); err != nil {
		return fmt.Errorf("%w: %w", podlink.ErrBroken, err)
	}
	return nil
}

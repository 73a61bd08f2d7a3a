// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/ipam"
)

// gc answers GC: it removes every attachment of the network that the runtime
// does not list. One that is being worked on at this moment is not garbage.
func (s *Server) gc(ctx context.Context, req *request) error {
	valid := map[ipam.Owner]bool{}
	for _, a := range req.valid {
		valid[ipam.Owner{ContainerID: a.ContainerID, IfName: a.IfName}] = true
	}
	all, _, err := s.records.list()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range all {
		if valid[a.owner()] || a.Network != "" && a.Network != req.network {
			continue
		}
		unlock, ok := s.locks.tryLock(a.HostInterface)
		if !ok {
			continue
		}
		klog.FromContext(ctx).Info("Removing an attachment that the runtime does not know",
			"pod", klog.KRef(a.PodNamespace, a.PodName), "container", a.ContainerID, "interface", a.HostInterface)
		errs = append(errs, s.detach(ctx, a.owner(), a.HostInterface))
		unlock()
	}
	// What has no record is garbage without asking the runtime.
	_, err = s.Reconcile(ctx)
	return errors.Join(append(errs, err)...)
}

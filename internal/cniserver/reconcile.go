// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

// state is everything that may be there of one attachment.
type state struct {
	host   string
	record *attachment
	port   *PodInterface
	owner  ipam.Owner // holder of addresses; zero: none
	link   bool       // the host's end exists
	// alive: the namespace exists, or the host's end does, which cannot
	// outlive the namespace of the other end.
	alive bool
}

// verdict is what has to happen with an attachment.
type verdict string

const (
	keep   verdict = "keep"   // bring it to what the record says
	adopt  verdict = "adopt"  // write the record again, then keep
	remove verdict = "remove" // collect what there is
	wait   verdict = "wait"   // not known well enough
)

// judge decides about one attachment. portsKnown is false while the switch does
// not tell what it has.
func judge(st state, portsKnown bool) verdict {
	switch {
	case st.record != nil && st.alive:
		return keep
	case st.record != nil:
		return remove
	case !portsKnown:
		return wait
	case st.port != nil && st.alive && st.port.ContainerID != "":
		return adopt
	default:
		return remove
	}
}

// Reconcile collects what is left of attachments that ended without DEL or
// began without the end of ADD, and repairs those that live. It goes on past
// failures and returns all of them; attachments that a request is working on
// are left to it. It returns how many things of living attachments were not as they
// should be and are now.
func (s *Server) Reconcile(ctx context.Context) (repaired int, err error) {
	states, portsKnown, err := s.observe(ctx)
	errs := []error{err}
	for _, st := range states {
		if ctx.Err() != nil {
			return repaired, errors.Join(append(errs, ctx.Err())...)
		}
		if v := judge(st, portsKnown); v != wait {
			n, err := s.apply(ctx, st, v, portsKnown)
			if err != nil {
				errs = append(errs, fmt.Errorf("attachment %s: %s: %w", st.host, v, err))
			}
			repaired += n
		}
	}
	return repaired, errors.Join(errs...)
}

// observe reads all parts of all attachments, sorted by host interface. Records
// come first: the other parts of a record are made before it.
func (s *Server) observe(ctx context.Context) (_ []state, portsKnown bool, _ error) {
	byHost := map[string]*state{}
	at := func(host string) *state {
		if byHost[host] == nil {
			byHost[host] = &state{host: host}
		}
		return byHost[host]
	}
	all, unreadable, err := s.records.list()
	if err != nil {
		return nil, false, err
	}
	for _, a := range all {
		at(a.HostInterface).record = &a
	}
	for _, host := range unreadable {
		at(host)
	}
	allocations, err := s.Addresses.List(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, al := range allocations {
		at(podlink.HostInterface(al.Owner.ContainerID, al.Owner.IfName)).owner = al.Owner
	}
	links, err := s.Links.List(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, host := range links {
		at(host).link = true
	}
	ports, portsErr := s.Switch.PodInterfaces(ctx)
	for _, port := range ports {
		at(port.HostInterface).port = &port
	}
	var out []state
	for _, st := range byHost {
		st.alive = st.link || s.namespaceAlive(ctx, *st)
		out = append(out, *st)
	}
	slices.SortFunc(out, func(a, b state) int { return strings.Compare(a.host, b.host) })
	return out, portsErr == nil, portsErr
}

// namespaceAlive looks at the namespace that record or port name. When in
// doubt it lives.
func (s *Server) namespaceAlive(ctx context.Context, st state) bool {
	var path string
	switch {
	case st.record != nil:
		path = st.record.NetNS
	case st.port != nil:
		path = st.port.NetNS
	default:
		return false
	}
	exists, err := s.Links.NamespaceExists(path)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot look at a Pod's namespace", "namespace", path)
		return true
	}
	return exists
}

// apply carries out a verdict unless the attachment changed or is in use.
func (s *Server) apply(ctx context.Context, st state, v verdict, portsKnown bool) (repaired int, _ error) {
	unlock, ok := s.locks.tryLock(st.host)
	if !ok {
		return 0, nil
	}
	defer unlock()
	// As long as one request may take: a switch that does not answer must not
	// keep the attachment from its own requests, nor the others from repair.
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	now, found, err := s.records.get(st.host)
	if err != nil {
		return 0, err
	}
	if found != (st.record != nil) || found && now.NetNS != st.record.NetNS {
		return 0, nil
	}
	switch v {
	case remove:
		owner := st.owner
		if st.record != nil {
			owner = st.record.owner()
		}
		klog.FromContext(ctx).Info("Collecting what is left of an attachment", "container", owner.ContainerID, "interface", st.host)
		s.metrics.repaired(remove)
		return 0, s.detach(ctx, owner, st.host)
	case adopt:
		a, err := s.adopted(*st.port)
		if err != nil {
			return 0, err
		}
		klog.FromContext(ctx).Info("Writing the lost record of an attachment again", "container", a.ContainerID, "interface", st.host)
		s.metrics.repaired(adopt)
		if err := s.records.put(a); err != nil {
			return 0, err
		}
		now = a
	}
	return s.restore(ctx, now, st, portsKnown)
}

// adopted makes a record from what the switch knows.
func (s *Server) adopted(port PodInterface) (attachment, error) {
	set, _ := s.Settings()
	a := attachment{PodInterface: port}
	for _, addr := range port.Addresses {
		i := slices.IndexFunc(set.PodCIDRs, func(p netip.Prefix) bool { return p.Contains(addr) })
		if i < 0 {
			return attachment{}, fmt.Errorf("address %s is in no Pod CIDR of %v", addr, set.PodCIDRs)
		}
		a.Gateways = append(a.Gateways, ipam.Gateway(set.PodCIDRs[i]))
	}
	return a, nil
}

// restore brings a living attachment to what its record says.
func (s *Server) restore(ctx context.Context, a attachment, st state, portsKnown bool) (repaired int, _ error) {
	logger := klog.FromContext(ctx).WithValues("pod", klog.KRef(a.PodNamespace, a.PodName), "interface", a.HostInterface)
	errs := []error{s.Addresses.Reserve(ctx, a.owner(), a.Addresses)}
	set, _ := s.Settings()
	known := set.MTU != 0
	switch {
	case known && st.link:
		changed, err := s.Links.Repair(ctx, a.link(set))
		errs = append(errs, err)
		if len(changed) > 0 {
			logger.Info("Link of a Pod changed", "changes", changed)
			repaired += len(changed)
		}
	case known && portsKnown:
		logger.Info("Making the lost link of a Pod again")
		s.metrics.repaired("link")
		if st.port != nil {
			// A userspace switch holds on to the interface that is gone, and
			// does not see the new one of the same name.
			if err := s.Switch.DetachPod(ctx, a.HostInterface); err != nil {
				return 0, errors.Join(append(errs, err)...)
			}
			if err := s.Switch.Settle(ctx); err != nil {
				return 0, errors.Join(append(errs, err)...)
			}
			st.port = nil
		}
		if err := s.Links.Create(ctx, a.link(set)); err != nil {
			errs = append(errs, err)
		} else {
			repaired++
		}
	}
	if portsKnown && st.port == nil {
		logger.Info("Attaching a Pod that the switch lost")
		s.metrics.repaired("port")
		if err := s.Switch.AttachPod(ctx, a.PodInterface); err != nil {
			errs = append(errs, err)
		} else {
			repaired++
		}
	}
	return repaired, errors.Join(errs...)
}

// Attached tells whether there should be a Pod behind a host interface.
func (s *Server) Attached(hostInterface string) bool {
	_, found, err := s.records.get(hostInterface)
	return found || err != nil
}

// Attachments returns all Pod interfaces that should be attached, sorted by
// HostInterface.
func (s *Server) Attachments() ([]PodInterface, error) {
	all, _, err := s.records.list()
	var out []PodInterface
	for _, a := range all {
		out = append(out, a.PodInterface)
	}
	return out, err
}

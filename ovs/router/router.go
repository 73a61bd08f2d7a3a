// SPDX-License-Identifier: Apache-2.0

package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/ovs/unixctl"
)

// Route leads to the far end of a tunnel.
type Route struct {
	Dst netip.Addr
	// Bridge is the one with the node's address.
	Bridge string
	// Gateway is the router on the way, invalid if Dst is on-link.
	Gateway netip.Addr
}

// NextHop is the address that is asked for by ARP or ND.
func (r Route) NextHop() netip.Addr {
	if r.Gateway.IsValid() {
		return r.Gateway
	}
	return r.Dst
}

// Params are the parameters of New.
type Params struct {
	// Socket is the control socket of ovs-vswitchd.
	Socket string
}

// Applier gives the switch routes. Its methods are called from one goroutine.
type Applier struct {
	call func(ctx context.Context, command string, args ...string) (string, error)
	// one of the routes that the switch has; not valid when it has none.
	one Route
}

// New returns an Applier.
func New(p Params) *Applier {
	return &Applier{call: func(ctx context.Context, command string, args ...string) (string, error) {
		return unixctl.Call(ctx, p.Socket, command, args...)
	}}
}

// Result is what Apply achieved.
type Result struct {
	Set, Removed []netip.Addr
	// Kept counts routes that nobody wants any more, see Apply.
	Unchanged, Kept int
}

// Apply gives the switch the desired routes. Those that are not wanted any more are
// removed when none is: with a route to be removed the switch forgets at which of
// the bridge's addresses it takes tunnelled packets, until it is given another. Until
// then they do no harm, as no tunnel leads there. Apply goes on past errors and
// returns them joined.
func (a *Applier) Apply(ctx context.Context, desired []Route) (Result, error) {
	text, err := a.call(ctx, "ovs/route/show")
	if err != nil {
		return Result{}, err
	}
	have, err := parseRoutes(text)
	if err != nil {
		return Result{}, err
	}
	set, remove := diff(desired, have)
	res := Result{Unchanged: len(desired) - len(set)}
	a.one = Route{}
	if len(desired) > 0 {
		res.Kept, remove = len(remove), nil
	}
	var errs []error
	for _, r := range set {
		if err := a.add(ctx, r); err != nil {
			errs = append(errs, err)
			continue
		}
		res.Set = append(res.Set, r.Dst)
	}
	for _, d := range desired {
		if !slices.Contains(set, d) || slices.Contains(res.Set, d.Dst) {
			a.one = d
		}
	}
	for _, dst := range remove {
		if _, err := a.call(ctx, "ovs/route/del", host(dst)); err != nil {
			errs = append(errs, err)
			continue
		}
		res.Removed = append(res.Removed, dst)
	}
	if len(res.Set)+len(res.Removed) > 0 {
		klog.FromContext(ctx).Info("Ways of tunnels changed", "set", res.Set, "removed", res.Removed)
	}
	return res, errors.Join(errs...)
}

func (a *Applier) add(ctx context.Context, r Route) error {
	args := []string{host(r.Dst), r.Bridge}
	if r.Gateway.IsValid() {
		args = append(args, r.Gateway.String())
	}
	_, err := a.call(ctx, "ovs/route/add", args...)
	return err
}

// host is an address as a prefix.
func host(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

func diff(desired, have []Route) (set []Route, remove []netip.Addr) {
	wanted := map[netip.Addr]bool{}
	for _, d := range desired {
		wanted[d.Dst] = true
		if !slices.Contains(have, d) {
			set = append(set, d)
		}
	}
	for _, h := range have {
		if !wanted[h.Dst] {
			remove = append(remove, h.Dst)
		}
	}
	slices.SortFunc(set, func(x, y Route) int { return x.Dst.Compare(y.Dst) })
	slices.SortFunc(remove, netip.Addr.Compare)
	return set, slices.Compact(remove)
}

// Neighbour is the link-layer address of a next hop.
type Neighbour struct {
	Bridge string
	Addr   netip.Addr
	MAC    net.HardwareAddr
}

// Neighbours returns the next hops that the switch knows, sorted.
func (a *Applier) Neighbours(ctx context.Context) ([]Neighbour, error) {
	text, err := a.call(ctx, "tnl/neigh/show")
	if err != nil {
		return nil, err
	}
	list, err := parseNeighbours(text)
	slices.SortFunc(list, func(x, y Neighbour) int { return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Bridge, y.Bridge)) })
	return list, err
}

// SetNeighbours tells the switch next hops that it does not know yet. It forgets
// them as those it found itself, unless it uses them.
func (a *Applier) SetNeighbours(ctx context.Context, list []Neighbour) error {
	var errs []error
	for _, n := range list {
		if _, err := a.call(ctx, "tnl/neigh/set", n.Bridge, n.Addr.String(), n.MAC.String()); err != nil {
			errs = append(errs, fmt.Errorf("next hop %v: %w", n.Addr, err))
		}
	}
	return errors.Join(errs...)
}

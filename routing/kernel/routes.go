// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing"
)

// Protocol is the rtm_protocol of our routes; "ip route show proto 87" lists them.
const Protocol = 87

// Routes owns the routes of protocol 87 in the main table. The zero value is ready.
type Routes struct{}

// RouteOptions change what Apply does.
type RouteOptions struct {
	// KeepUnknown leaves routes of ours that are not wanted where they are.
	// It is set after a start until BGP has converged: what an earlier run
	// learned keeps forwarding meanwhile.
	KeepUnknown bool
	// Before, unless nil, is called once before the first route is changed, and not
	// when nothing is to change. Its error is one of Apply, which goes on.
	Before func(context.Context) error
}

// RouteResult is what Apply achieved.
type RouteResult struct {
	Added, Replaced, Removed []routing.Route
	// Kept are unknown routes that KeepUnknown saved.
	Kept []routing.Route
	// Unchanged counts wanted routes that were there already.
	Unchanged int
}

// Changed tells whether any route was written or removed.
func (r RouteResult) Changed() bool { return len(r.Added)+len(r.Replaced)+len(r.Removed) > 0 }

// Apply makes the routes of protocol 87 what desired says, in both families.
// A route whose way changes is replaced in place, without a moment in which
// it is missing; routes are removed last, so that a change of metric does not
// open a gap either. It goes on past errors and returns them joined; a route
// that collides with a foreign one is reported as ErrForeign.
func (Routes) Apply(ctx context.Context, desired []routing.Route, opts RouteOptions) (RouteResult, error) {
	links := newLinkNames()
	raw, actual, err := listRoutes(links)
	if err != nil {
		return RouteResult{}, err
	}
	c := diffRoutes(desired, actual, opts.KeepUnknown)
	res := RouteResult{Kept: c.kept, Unchanged: c.unchanged}
	errs := c.errs
	if opts.Before != nil && len(c.add)+len(c.replace)+len(c.remove) > 0 {
		errs = append(errs, opts.Before(ctx))
	}
	log := klog.FromContext(ctx)
	put := func(r routing.Route, op string, write func(*netlink.Route) error) bool {
		nr, err := toNetlink(r, links)
		if err == nil {
			err = putRoute(nr, write)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s route %v metric %d: %w", op, r.Prefix, r.Metric, err))
			return false
		}
		log.Info("Route changed", "operation", op, "prefix", r.Prefix, "metric", r.Metric, "nextHops", r.NextHops)
		return true
	}
	for _, r := range c.replace {
		if put(r, "replace", netlink.RouteReplace) {
			res.Replaced = append(res.Replaced, r)
		}
	}
	for _, r := range c.add {
		if put(r, "add", netlink.RouteAdd) {
			res.Added = append(res.Added, r)
		}
	}
	for _, o := range c.remove {
		if err := netlink.RouteDel(forRemoval(raw[o.ref])); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %v metric %d: %w", o.Prefix, o.Metric, err))
			continue
		}
		log.Info("Route changed", "operation", "remove", "prefix", o.Prefix, "metric", o.Metric)
		res.Removed = append(res.Removed, o.Route)
	}
	return res, errors.Join(errs...)
}

// Read returns the routes of protocol 87 in the main table.
func (Routes) Read(ctx context.Context) ([]routing.Route, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, list, err := listRoutes(newLinkNames())
	var out []routing.Route
	for _, o := range list {
		if o.protocol == Protocol && !o.odd {
			out = append(out, o.Route)
		}
	}
	return out, err
}

// putRoute writes a route. The kernel refuses an on-link IPv6 gateway to which
// another route leads through another interface (ip6_route_check_nh_onlink),
// as the remote gateway's address in a Pod CIDR that so far was reached
// directly. A host route to the gateway, for the moment of writing, shows it
// the interface; should we die in that moment, the next Apply removes it.
func putRoute(r *netlink.Route, write func(*netlink.Route) error) error {
	err := write(r)
	if !errors.Is(err, unix.EINVAL) || r.Gw.To4() != nil || r.Flags&unix.RTNH_F_ONLINK == 0 {
		return err
	}
	host := &netlink.Route{
		Dst: netlink.NewIPNet(r.Gw), LinkIndex: r.LinkIndex, Protocol: Protocol, Table: unix.RT_TABLE_MAIN,
		Priority: defaultMetric6,
	}
	if addErr := netlink.RouteAdd(host); addErr != nil {
		return errors.Join(err, addErr)
	}
	return errors.Join(write(r), netlink.RouteDel(host))
}

// listRoutes reads the main table of both families, less the routes to Services,
// which have a metric of their own. The observed routes refer to the raw ones by
// index.
func listRoutes(links *linkNames) ([]netlink.Route, []observed, error) {
	raw, err := dumpRoutes(unix.RT_TABLE_MAIN)
	if err != nil {
		return nil, nil, err
	}
	var out []observed
	for i, nr := range raw {
		if o, ok := fromNetlink(nr, links); ok {
			o.ref = i
			out = append(out, o)
		}
	}
	return raw, out, nil
}

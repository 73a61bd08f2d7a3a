// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing"
)

// ServiceProtocol is the rtm_protocol of the routes to Services; "ip route show
// proto 88" lists them.
const ServiceProtocol = 88

// ServiceRoutes owns the routes of protocol 88 in the main table: host routes
// that lead to addresses of Services through the switch.
type ServiceRoutes struct {
	// Interface is the node's port on the switch.
	Interface string
	// Via are the next hops of IPv4 and of IPv6, in any order: addresses that no
	// one has, permanent neighbours on Interface. Each gets a route as well.
	Via []netip.Addr
	// MTU is the largest packet in bytes that may go to a Service, 0: what Interface
	// takes.
	MTU int
}

// ServiceRouteResult is what Apply achieved: numbers of addresses.
type ServiceRouteResult struct {
	Added, Replaced, Removed, Unchanged int
	// Local counts the addresses that are the node's own. They get no route: the
	// kernel keeps packets to them to itself.
	Local int
}

// maxRouteErrors bounds how many routes an error of Apply names.
const maxRouteErrors = 5

// Apply makes the routes of protocol 88 lead to the addresses and to nothing
// else. The next hop of a family has a route while any address of that family
// is wanted. It goes on past errors and returns the first few joined; a foreign
// route with the prefix and metric of a wanted one is an error, and stays.
func (s ServiceRoutes) Apply(ctx context.Context, addrs []netip.Addr) (ServiceRouteResult, error) {
	link, err := netlink.LinkByName(s.Interface)
	if err != nil {
		return ServiceRouteResult{}, fmt.Errorf("routes to Services: interface %s: %w", s.Interface, err)
	}
	own, err := localAddresses()
	if err != nil {
		return ServiceRouteResult{}, fmt.Errorf("routes to Services: %w", err)
	}
	have, err := dump(listHostRoutes)
	if err != nil {
		return ServiceRouteResult{}, fmt.Errorf("routes to Services: %w", err)
	}
	want, local, err := s.wanted(addrs, own, link.Attrs().Index)
	d := diffHostRoutes(want, have)
	res := ServiceRouteResult{Unchanged: d.unchanged, Local: local}
	var errs boundedErrors
	if err != nil {
		errs.add(err)
	}
	for _, r := range d.replace {
		if err := netlink.RouteReplace(r.toNetlink()); err != nil {
			errs.add(fmt.Errorf("replace route %v: %w", r.prefix, err))
			continue
		}
		res.Replaced++
	}
	for _, r := range d.remove {
		if err := netlink.RouteDel(r.toNetlink()); err != nil && !errors.Is(err, unix.ESRCH) {
			errs.add(fmt.Errorf("remove route %v: %w", r.prefix, err))
			continue
		}
		res.Removed++
	}
	for _, r := range d.add {
		if err := netlink.RouteAdd(r.toNetlink()); err != nil {
			errs.add(fmt.Errorf("add route %v: %w", r.prefix, err))
			continue
		}
		res.Added++
	}
	if res.Added+res.Replaced+res.Removed > 0 {
		klog.FromContext(ctx).Info("Routes to Services changed",
			"added", res.Added, "replaced", res.Replaced, "removed", res.Removed, "unchanged", res.Unchanged, "some", d.some())
	}
	return res, errs.join("routes to Services")
}

// wanted returns the routes, those to next hops first, and counts the addresses
// that are the node's own.
func (s ServiceRoutes) wanted(addrs []netip.Addr, own map[netip.Addr]bool, index int) ([]hostRoute, int, error) {
	via := map[bool]netip.Addr{}
	for _, v := range s.Via {
		via[v.Is4()] = v
	}
	var hops, out []hostRoute
	var errs boundedErrors
	local := 0
	seen := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		v := via[a.Is4()]
		switch {
		case seen[a]:
			continue
		case !a.IsValid(), a.Zone() != "", a.Is4In6(), a.IsUnspecified(), a.IsLoopback(), a.IsMulticast():
			errs.add(fmt.Errorf("%v is not an address of a Service", a))
		case !v.IsValid():
			errs.add(fmt.Errorf("%v: there is no next hop of its family", a))
		case own[a]:
			local++
		default:
			if !seen[v] {
				hops = append(hops, hostRoute{prefix: single(v), index: index, metric: routing.MetricService, mtu: s.MTU})
				seen[v] = true
			}
			if a != v {
				out = append(out, hostRoute{prefix: single(a), via: v, index: index, metric: routing.MetricService, mtu: s.MTU})
			}
		}
		if a.IsValid() {
			seen[a] = true
		}
	}
	return append(hops, out...), local, errs.join("")
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// localAddresses are the addresses of all interfaces.
func localAddresses() (map[netip.Addr]bool, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	own := make(map[netip.Addr]bool, len(list))
	for _, e := range list {
		if a, ok := fromIP(e.IP); ok {
			own[a] = true
		}
	}
	return own, nil
}

// hostRouteChanges is the difference between wanted routes and the kernel's.
type hostRouteChanges struct {
	// replace are wanted in place of ones that have another MTU.
	add, replace, remove []hostRoute
	unchanged            int
}

func diffHostRoutes(want, have []hostRoute) hostRouteChanges {
	var c hostRouteChanges
	missing := make(map[hostRoute]bool, len(want))
	otherMTU := make(map[hostRoute]hostRoute, len(want))
	for _, r := range want {
		missing[r] = true
		otherMTU[withoutMTU(r)] = r
	}
	for _, r := range have {
		key := r
		key.scope = 0 // follows from the rest
		if missing[key] {
			c.unchanged++
			delete(missing, key)
			continue
		}
		if w, ok := otherMTU[withoutMTU(key)]; ok && missing[w] {
			c.replace = append(c.replace, w)
			delete(missing, w)
			continue
		}
		c.remove = append(c.remove, r)
	}
	for _, r := range want {
		if missing[r] {
			c.add = append(c.add, r)
		}
	}
	return c
}

func withoutMTU(r hostRoute) hostRoute {
	r.mtu = 0
	return r
}

// some are a few of the prefixes that changed, for the log.
func (c hostRouteChanges) some() []netip.Prefix {
	const most = 3
	var out []netip.Prefix
	for _, r := range slices.Concat(c.add[:min(len(c.add), most)], c.replace[:min(len(c.replace), most)], c.remove[:min(len(c.remove), most)]) {
		out = append(out, r.prefix)
	}
	return out
}

// boundedErrors keeps the first few errors and counts the rest.
type boundedErrors struct {
	errs []error
	more int
}

func (b *boundedErrors) add(err error) {
	if len(b.errs) < maxRouteErrors {
		b.errs = append(b.errs, err)
	} else {
		b.more++
	}
}

func (b *boundedErrors) join(what string) error {
	if b.more > 0 {
		b.errs = append(b.errs, fmt.Errorf("and %d more", b.more))
		b.more = 0
	}
	err := errors.Join(b.errs...)
	if err != nil && what != "" {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

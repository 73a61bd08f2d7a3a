// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/routing"
)

// Underlay is the network as the node has it without us.
type Underlay struct {
	// Links are the interfaces with the networks that are reached on them
	// without a router, sorted by name.
	Links []routing.Link
	// Routes are the unicast routes of the main table that are not ours, the
	// default routes among them, sorted by prefix and metric.
	Routes []routing.Route
}

// ReadUnderlay reads routes and links of both families. The gateway interface
// and IPv6 link-local networks are left out, and next hops that are dead.
func ReadUnderlay(ctx context.Context, gateway string) (Underlay, error) {
	if err := ctx.Err(); err != nil {
		return Underlay{}, fmt.Errorf("underlay: %w", err)
	}
	raw, err := dumpRoutes(unix.RT_TABLE_MAIN)
	if err != nil {
		return Underlay{}, fmt.Errorf("underlay: %w", err)
	}
	return underlayOf(raw, gateway, newLinkNames()), nil
}

func underlayOf(raw []netlink.Route, gateway string, links *linkNames) Underlay {
	var u Underlay
	onLinks := make(map[string][]netip.Prefix)
	for _, nr := range raw {
		if nr.Type != unix.RTN_UNICAST || nr.Encap != nil || nr.Protocol == Protocol || nr.Flags&unix.RTNH_F_DEAD != 0 {
			continue
		}
		hops := len(nr.MultiPath)
		nr.MultiPath = slices.DeleteFunc(slices.Clone(nr.MultiPath), func(nh *netlink.NexthopInfo) bool {
			return nh.Flags&unix.RTNH_F_DEAD != 0
		})
		o, ok := fromNetlink(nr, links)
		if !ok || hops > 0 && len(nr.MultiPath) == 0 ||
			o.Prefix.Addr().IsMulticast() || o.Prefix.Addr().Is6() && o.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		o.NextHops = slices.DeleteFunc(o.NextHops, func(h routing.NextHop) bool { return h.Interface == gateway })
		if len(o.NextHops) == 0 {
			continue
		}
		u.Routes = append(u.Routes, o.Route)
		name := o.NextHops[0].Interface
		if hops == 0 && onLink(nr, o.Prefix) && !slices.Contains(onLinks[name], o.Prefix) {
			onLinks[name] = append(onLinks[name], o.Prefix)
		}
	}
	for name, prefixes := range onLinks {
		slices.SortFunc(prefixes, routing.ComparePrefix)
		u.Links = append(u.Links, routing.Link{Name: name, Prefixes: prefixes})
	}
	slices.SortFunc(u.Links, func(a, b routing.Link) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(u.Routes, compareRoutes)
	return u
}

// onLink says that a route leads to neighbours. One that leads everywhere
// without a router (a point-to-point link) does not make everyone one.
func onLink(r netlink.Route, prefix netip.Prefix) bool {
	return r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0 && prefix.Bits() > 0 &&
		!prefix.Addr().IsMulticast() && !(prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast())
}

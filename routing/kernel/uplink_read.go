// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readL3 reads what an interface has that makes it an uplink.
func readL3(link netlink.Link) (l3Config, error) {
	c := l3Config{MTU: link.Attrs().MTU, MAC: link.Attrs().HardwareAddr.String()}
	addrs, err := listAddresses(link)
	if err != nil {
		return c, err
	}
	c.Addresses = addrs
	raw, err := dumpRoutes(unix.RT_TABLE_UNSPEC)
	if err != nil {
		return c, err
	}
	links := newLinkNames()
	for _, nr := range raw {
		if r, ok := savedRouteOf(nr, link.Attrs().Index, links); ok && !slices.ContainsFunc(c.Routes, sameKey(r)) {
			c.Routes = append(c.Routes, r)
		}
	}
	slices.SortStableFunc(c.Routes, compareSaved)
	return c, nil
}

// savedRouteOf translates a route through the interface. Routes that the
// kernel makes itself along with addresses are left out, and those of
// lightweight tunnels, which do not move with a NIC.
//
// A default route that a router advertised becomes a static one a little
// worse: it bridges the time until the kernel has heard the router on the
// other interface.
func savedRouteOf(nr netlink.Route, index int, links *linkNames) (savedRoute, bool) {
	prefix, ok := fromIPNet(nr.Dst)
	if !ok || nr.Table == unix.RT_TABLE_LOCAL || nr.Protocol == unix.RTPROT_KERNEL || nr.Type != unix.RTN_UNICAST ||
		nr.Encap != nil || prefix.Addr().IsMulticast() {
		return savedRoute{}, false
	}
	r := savedRoute{
		Table: nr.Table, Prefix: prefix, Type: nr.Type, Tos: nr.Tos, Scope: int(nr.Scope), Protocol: int(nr.Protocol),
		Metric: nr.Priority, MTU: nr.MTU, AdvMSS: nr.AdvMSS,
	}
	r.Source, _ = fromIP(nr.Src)
	if nr.Protocol == unix.RTPROT_RA {
		r.Protocol = unix.RTPROT_STATIC
		r.Metric++
	}
	hops := nr.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: nr.LinkIndex, Gw: nr.Gw, Via: nr.Via, Flags: nr.Flags}}
	}
	through := false
	for _, nh := range hops {
		h := savedHop{OnLink: nh.Flags&unix.RTNH_F_ONLINK != 0, Weight: nh.Hops}
		h.Addr, _ = fromIP(nh.Gw)
		if via, ok := nh.Via.(*netlink.Via); ok {
			h.Addr, _ = fromIP(via.Addr)
		}
		if nh.LinkIndex == index {
			through = true
		} else {
			h.Interface = links.name(nh.LinkIndex)
		}
		r.Hops = append(r.Hops, h)
	}
	return r, through
}

// toNetlink translates back; hops of the uplink go through the interface of
// that index.
func (r savedRoute) toNetlink(index int, links *linkNames) (*netlink.Route, error) {
	nr := &netlink.Route{
		Dst: toIPNet(r.Prefix), Table: r.Table, Type: r.Type, Tos: r.Tos, Scope: netlink.Scope(r.Scope),
		Protocol: netlink.RouteProtocol(r.Protocol), Priority: r.Metric, MTU: r.MTU, AdvMSS: r.AdvMSS,
	}
	if r.Source.IsValid() {
		nr.Src = r.Source.AsSlice()
	}
	var hops []*netlink.NexthopInfo
	for _, h := range r.Hops {
		nh := &netlink.NexthopInfo{LinkIndex: index, Hops: h.Weight}
		if h.Interface != "" {
			i, err := links.index(h.Interface)
			if err != nil {
				return nil, err
			}
			nh.LinkIndex = i
		}
		if h.OnLink {
			nh.Flags = unix.RTNH_F_ONLINK
		}
		switch {
		case !h.Addr.IsValid():
		case h.Addr.Is4() == r.Prefix.Addr().Is4():
			nh.Gw = h.Addr.AsSlice()
		default:
			nh.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: h.Addr.AsSlice()}
		}
		hops = append(hops, nh)
	}
	if len(hops) == 1 {
		nr.LinkIndex, nr.Gw, nr.Via, nr.Flags = hops[0].LinkIndex, hops[0].Gw, hops[0].Via, hops[0].Flags
	} else {
		nr.MultiPath = hops
	}
	return nr, nil
}

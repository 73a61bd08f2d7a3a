// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// hostRoute is a route of protocol 88 as far as it concerns us. There are so
// many of them that they are read without what the general form costs.
type hostRoute struct {
	prefix netip.Prefix
	// via is the next hop, declared to be on-link; the zero Addr: a route to
	// neighbours.
	via    netip.Addr
	index  int // of the interface
	metric int
	// mtu in bytes, 0: the interface's.
	mtu int
	// scope as the kernel has it, for removal; 0 in wanted routes.
	scope uint8
	// typ is 0 for unicast, else the route's type, and odd says that it has
	// attributes that are never wanted.
	typ uint8
	odd bool
}

// toNetlink is the route in the form in which it is added and removed.
func (r hostRoute) toNetlink() *netlink.Route {
	nr := &netlink.Route{
		Dst: toIPNet(r.prefix), Protocol: ServiceProtocol, Table: unix.RT_TABLE_MAIN, Priority: r.metric,
		Type: unix.RTN_UNICAST, Scope: netlink.Scope(r.scope), MTU: r.mtu,
	}
	if r.typ != 0 || r.odd { // only ever removed: what names it is enough
		if r.typ != 0 {
			nr.Type = int(r.typ)
		}
		return nr
	}
	nr.LinkIndex = r.index
	switch {
	case r.via.IsValid():
		nr.Gw, nr.Flags = r.via.AsSlice(), unix.RTNH_F_ONLINK
	case r.prefix.Addr().Is4():
		nr.Scope = unix.RT_SCOPE_LINK
	}
	return nr
}

// listHostRoutes reads the routes of protocol 88 in the main table.
func listHostRoutes() ([]hostRoute, error) {
	var out []hostRoute
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := eachRoute(family, func(m []byte) {
			if r, ok := parseHostRoute(m); ok {
				out = append(out, r)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
	}
	return out, nil
}

// parseHostRoute reads the body of an RTM_NEWROUTE message (rtnetlink(7)). It
// is false for a route that is not ours, or not in the main table.
func parseHostRoute(m []byte) (hostRoute, bool) {
	// struct rtmsg: family, lengths of destination and source, type of
	// service, table, protocol, scope, type, and flags in four bytes.
	if len(m) < unix.SizeofRtMsg || m[4] != unix.RT_TABLE_MAIN || m[5] != ServiceProtocol {
		return hostRoute{}, false
	}
	flags := nl.NativeEndian().Uint32(m[8:12])
	if flags&unix.RTM_F_CLONED != 0 {
		return hostRoute{}, false
	}
	r := hostRoute{scope: m[6], odd: m[2] != 0 || m[3] != 0}
	if m[7] != unix.RTN_UNICAST {
		r.typ = m[7]
	}
	dst := netip.IPv4Unspecified()
	if m[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for rest := m[unix.SizeofRtMsg:]; len(rest) >= unix.SizeofRtAttr; {
		length, typ := int(nl.NativeEndian().Uint16(rest)), nl.NativeEndian().Uint16(rest[2:])
		if length < unix.SizeofRtAttr || length > len(rest) {
			return hostRoute{}, false
		}
		value := rest[unix.SizeofRtAttr:length]
		rest = rest[min(len(rest), (length+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
		ok := true
		switch typ {
		case unix.RTA_DST:
			dst, ok = netip.AddrFromSlice(value)
		case unix.RTA_GATEWAY:
			r.via, ok = netip.AddrFromSlice(value)
			r.odd = r.odd || flags&unix.RTNH_F_ONLINK == 0
		case unix.RTA_OIF:
			r.index, ok = number(value)
		case unix.RTA_PRIORITY:
			r.metric, ok = number(value)
		case unix.RTA_METRICS:
			r.mtu, ok = onlyMTU(value)
			r.odd, ok = r.odd || !ok, true
		case unix.RTA_TABLE, unix.RTA_CACHEINFO, unix.RTA_PREF:
		default:
			r.odd = true
		}
		if !ok {
			return hostRoute{}, false
		}
	}
	bits := int(m[1])
	if bits > dst.BitLen() || dst.Is4() != (m[0] == unix.AF_INET) {
		return hostRoute{}, false
	}
	r.prefix = netip.PrefixFrom(dst, bits)
	return r, true
}

// onlyMTU reads the metrics of a route (RTA_METRICS) that are nothing but an MTU.
func onlyMTU(metrics []byte) (int, bool) {
	const size = unix.SizeofRtAttr + 4
	if len(metrics) != size || nl.NativeEndian().Uint16(metrics) != size || nl.NativeEndian().Uint16(metrics[2:]) != unix.RTAX_MTU {
		return 0, false
	}
	return number(metrics[unix.SizeofRtAttr:])
}

func number(value []byte) (int, bool) {
	if len(value) != 4 {
		return 0, false
	}
	return int(nl.NativeEndian().Uint32(value)), true
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/routing"
)

// dumpTries bounds how often a list that changed while it was read is read again.
const dumpTries = 5

// dump reads a list until it was not changed meanwhile.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		l, err := list()
		if err == nil || try == dumpTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return l, err
		}
	}
}

// linkNames translates between interface names and indexes, asking the kernel
// once for each. It lives for one call: indexes are reused for other names.
type linkNames struct {
	names   map[int]string
	indexes map[string]int
}

func newLinkNames() *linkNames {
	return &linkNames{names: make(map[int]string), indexes: make(map[string]int)}
}

// name is empty for an index that no longer exists.
func (l *linkNames) name(index int) string {
	if index == 0 {
		return ""
	}
	if n, ok := l.names[index]; ok {
		return n
	}
	n := ""
	if link, err := netlink.LinkByIndex(index); err == nil {
		n = link.Attrs().Name
	}
	l.names[index] = n
	return n
}

func (l *linkNames) index(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	if i, ok := l.indexes[name]; ok {
		return i, nil
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	l.indexes[name] = link.Attrs().Index
	return link.Attrs().Index, nil
}

// toNetlink translates a normalised route.
func toNetlink(r routing.Route, links *linkNames) (*netlink.Route, error) {
	nr := &netlink.Route{
		Dst: toIPNet(r.Prefix), Protocol: Protocol, Table: unix.RT_TABLE_MAIN,
		Priority: r.Metric, MTU: r.MTU, Type: unix.RTN_UNICAST,
	}
	if r.Source.IsValid() {
		nr.Src = r.Source.AsSlice()
	}
	if r.Type == routing.Unreachable {
		nr.Type = unix.RTN_UNREACHABLE
		return nr, nil
	}
	family := routing.FamilyOf(r.Prefix.Addr())
	var hops []*netlink.NexthopInfo
	for _, h := range r.NextHops {
		index, err := links.index(h.Interface)
		if err != nil {
			return nil, err
		}
		nh := &netlink.NexthopInfo{LinkIndex: index}
		if h.OnLink {
			nh.Flags = unix.RTNH_F_ONLINK
		}
		switch {
		case !h.Addr.IsValid():
		case routing.FamilyOf(h.Addr) == family:
			nh.Gw = h.Addr.AsSlice()
		default: // RFC 8950: IPv4 through an IPv6 neighbour
			nh.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: h.Addr.AsSlice()}
		}
		hops = append(hops, nh)
	}
	if len(hops) > 1 {
		nr.MultiPath = hops
		return nr, nil
	}
	nr.LinkIndex, nr.Gw, nr.Via, nr.Flags = hops[0].LinkIndex, hops[0].Gw, hops[0].Via, hops[0].Flags
	if nr.Gw == nil && nr.Via == nil && family == routing.IPv4 {
		nr.Scope = unix.RT_SCOPE_LINK
	}
	return nr, nil
}

// fromNetlink translates a route of the kernel. Routes with a type of service
// or of other types are not in the domain: ok is false for those that are not
// ours, and ours are odd.
func fromNetlink(nr netlink.Route, links *linkNames) (o observed, ok bool) {
	prefix, ok := fromIPNet(nr.Dst)
	if !ok {
		return observed{}, false
	}
	o.protocol = int(nr.Protocol)
	o.Prefix, o.Metric = prefix, nr.Priority
	if nr.Tos != 0 && o.protocol != Protocol {
		return observed{}, false // another route to the kernel, whatever its metric
	}
	switch nr.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_UNREACHABLE:
		o.Type = routing.Unreachable
		return o, true
	default:
		o.odd = true
		return o, true
	}
	o.Source, _ = fromIP(nr.Src)
	o.MTU = nr.MTU
	o.odd = nr.Tos != 0 || nr.MTULock || nr.Encap != nil
	hops := nr.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: nr.LinkIndex, Gw: nr.Gw, Via: nr.Via, Flags: nr.Flags, Encap: nr.Encap}}
	}
	for _, nh := range hops {
		h := routing.NextHop{Interface: links.name(nh.LinkIndex), OnLink: nh.Flags&unix.RTNH_F_ONLINK != 0}
		h.Addr, _ = fromIP(nh.Gw)
		if via, ok := nh.Via.(*netlink.Via); ok {
			h.Addr, _ = fromIP(via.Addr)
		}
		o.odd = o.odd || nh.Encap != nil || nh.Hops != 0
		o.NextHops = append(o.NextHops, h)
	}
	slices.SortFunc(o.NextHops, compareHops)
	return o, true
}

// forRemoval reduces an observed route to what names it: the kernel compares
// all that a removal carries, and refuses flags that it set itself.
func forRemoval(nr netlink.Route) *netlink.Route {
	del := &netlink.Route{
		Dst: nr.Dst, Protocol: nr.Protocol, Table: nr.Table, Priority: nr.Priority, Type: nr.Type, Tos: nr.Tos,
		Scope: nr.Scope,
	}
	if nr.Type == unix.RTN_UNREACHABLE {
		return del // IPv6 shows the loopback as its interface, and does not take it back
	}
	del.LinkIndex, del.Gw, del.Via = nr.LinkIndex, nr.Gw, nr.Via
	for _, nh := range nr.MultiPath {
		del.MultiPath = append(del.MultiPath, &netlink.NexthopInfo{LinkIndex: nh.LinkIndex, Hops: nh.Hops, Gw: nh.Gw, Via: nh.Via})
	}
	return del
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func fromIPNet(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := fromIP(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits != a.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, ones), true
}

func fromIP(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

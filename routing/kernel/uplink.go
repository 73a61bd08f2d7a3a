// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoUplink says that no interface answers the description.
var ErrNoUplink = errors.New("no uplink found")

// UplinkParams describe the interface that is looked for.
type UplinkParams struct {
	// Interface is its name; empty: the one that holds a node address.
	Interface string
	// Bridge is the bridge that takes over the NIC's addresses with the
	// userspace datapath (see UplinkMover); empty with the kernel datapath.
	Bridge string
	// NodeAddresses are the node's InternalIPs; the first found decides.
	NodeAddresses []netip.Addr
}

// Uplink is the interface by which the node reaches the other nodes.
type Uplink struct {
	Link
	// PathMTU is the smallest of the interface's MTU, what routers advertised
	// on it (RFC 4861), and the MTU of routes through it, host routes left
	// out; in bytes.
	PathMTU int
	// Addresses are those of the interface, without IPv6 link-local ones.
	Addresses []netip.Prefix
	// OnLink are the prefixes that are reached on it without a router.
	OnLink []netip.Prefix
}

// DiscoverUplink finds the uplink. When it is named by its NIC, and the
// bridge has taken over the NIC's addresses, it is the bridge.
func DiscoverUplink(ctx context.Context, p UplinkParams) (Uplink, error) {
	if err := ctx.Err(); err != nil {
		return Uplink{}, fmt.Errorf("uplink: %w", err)
	}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return Uplink{}, fmt.Errorf("uplink: listing interfaces: %w", err)
	}
	addresses, err := allAddresses()
	if err != nil {
		return Uplink{}, fmt.Errorf("uplink: %w", err)
	}
	var found []candidate
	for _, l := range links {
		found = append(found, candidate{
			Link: toLink(l), addresses: addresses[l.Attrs().Index], loopback: l.Attrs().Flags&net.FlagLoopback != 0,
		})
	}
	c, err := selectUplink(p, found)
	if err != nil {
		return Uplink{}, err
	}
	routes, err := dumpRoutes(unix.RT_TABLE_MAIN)
	if err != nil {
		return Uplink{}, fmt.Errorf("uplink %s: %w", c.Name, err)
	}
	u := Uplink{Link: c.Link, PathMTU: c.MTU}
	for _, a := range c.addresses {
		if !a.linkLocal() {
			u.Addresses = append(u.Addresses, a.Prefix)
		}
	}
	if v, err := readSysctl("/proc/sys", filepath.Join("net/ipv6/conf", c.Name, "mtu")); err == nil {
		if mtu, err := strconv.Atoi(v); err == nil && mtu >= 1280 {
			u.PathMTU = min(u.PathMTU, mtu)
		}
	}
	u.readRoutes(routes)
	return u, nil
}

// candidate is an interface to choose from.
type candidate struct {
	Link
	addresses []Address
	loopback  bool
}

func (c candidate) holds(a netip.Addr) bool {
	return slices.ContainsFunc(c.addresses, func(h Address) bool { return h.Prefix.Addr() == a.Unmap() })
}

func selectUplink(p UplinkParams, found []candidate) (candidate, error) {
	byName := func(name string) int {
		return slices.IndexFunc(found, func(c candidate) bool { return name != "" && c.Name == name })
	}
	holder := func(c candidate) bool { return slices.ContainsFunc(p.NodeAddresses, c.holds) }
	bridge := byName(p.Bridge)
	if bridge >= 0 && holder(found[bridge]) {
		return found[bridge], nil
	}
	if p.Interface != "" {
		if i := byName(p.Interface); i >= 0 {
			return found[i], nil
		}
		return candidate{}, fmt.Errorf("%w: there is no interface %s", ErrNoUplink, p.Interface)
	}
	for _, a := range p.NodeAddresses {
		for _, c := range found {
			switch {
			case !c.holds(a):
			case c.loopback:
				return candidate{}, fmt.Errorf("%w: node address %v is on the loopback, name the interface in uplink.interface", ErrNoUplink, a)
			default:
				return c, nil
			}
		}
	}
	return candidate{}, fmt.Errorf("%w: no interface holds a node address of %v", ErrNoUplink, p.NodeAddresses)
}

// readRoutes takes from the routes of the main table what they say of the uplink.
func (u *Uplink) readRoutes(routes []netlink.Route) {
	for _, r := range routes {
		prefix, ok := fromIPNet(r.Dst)
		if !ok || r.Protocol == Protocol || r.Type != unix.RTN_UNICAST {
			continue
		}
		through := r.LinkIndex == u.Index ||
			slices.ContainsFunc(r.MultiPath, func(n *netlink.NexthopInfo) bool { return n.LinkIndex == u.Index })
		if !through {
			continue
		}
		if r.MTU != 0 && !prefix.IsSingleIP() {
			u.PathMTU = min(u.PathMTU, r.MTU)
		}
		if onLink(r, prefix) && !slices.Contains(u.OnLink, prefix) {
			u.OnLink = append(u.OnLink, prefix)
		}
	}
	slices.SortFunc(u.OnLink, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
}

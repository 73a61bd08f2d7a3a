// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dumpRoutes reads the routes of a table, of every table for RT_TABLE_UNSPEC, less
// those to Services: of these there may be thousands, and a route that is made out
// of its message costs many times as much as one that the kernel leaves out.
func dumpRoutes(table int) ([]netlink.Route, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	defer h.Close()
	// A kernel that cannot choose (before 4.20) tells all, and the library chooses.
	_ = h.SetStrictCheck(true)
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		protocols, err := dump(func() ([]int, error) { return routeProtocols(family) })
		if err != nil {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for _, p := range protocols {
			if p == ServiceProtocol {
				continue
			}
			filter := &netlink.Route{Table: table, Protocol: netlink.RouteProtocol(p)}
			rs, err := dump(func() ([]netlink.Route, error) {
				return h.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
			})
			// The main table is not there before its first route.
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return nil, fmt.Errorf("listing routes of protocol %d: %w", p, err)
			}
			all = append(all, rs...)
		}
	}
	return all, nil
}

// routeProtocols returns the protocols that there are routes of, in order.
func routeProtocols(family int) ([]int, error) {
	var found [256]bool
	err := eachRoute(uint8(family), func(m []byte) {
		if len(m) >= unix.SizeofRtMsg {
			found[m[5]] = true
		}
	})
	var out []int
	for p, is := range found {
		if is {
			out = append(out, p)
		}
	}
	return out, err
}

// eachRoute calls do with the body of an RTM_NEWROUTE message (rtnetlink(7)) for
// each route of a family, in whichever table.
func eachRoute(family uint8, do func(m []byte)) error {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
	return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(m []byte) bool {
		do(m)
		return true
	})
}

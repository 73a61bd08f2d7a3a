// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// DefaultGateway returns the node's default gateway: that of the default route
// with the lowest metric, of the first of the families, or of IPv4 and then IPv6
// where none are given, that has one. underlay are the routes of others.
func DefaultGateway(underlay []Route, families []Family) (netip.Addr, error) {
	if len(families) == 0 {
		families = Families()
	}
	var found *Route
	for _, f := range families {
		for i, r := range underlay {
			gateway := slices.ContainsFunc(r.NextHops, func(h NextHop) bool { return h.Addr.IsValid() })
			if r.Type == Unicast && r.Prefix.Bits() == 0 && FamilyOf(r.Prefix.Addr()) == f && gateway &&
				(found == nil || r.Metric < found.Metric) {
				found = &underlay[i]
			}
		}
		if found != nil {
			break
		}
	}
	switch {
	case found == nil:
		return netip.Addr{}, errors.New("the node has no default route with a gateway that was not learned over BGP")
	case len(found.NextHops) > 1:
		return netip.Addr{}, fmt.Errorf("the default route has %d gateways: give each its own BGPPeer with address", len(found.NextHops))
	case found.NextHops[0].Addr.IsLinkLocalUnicast() && found.NextHops[0].Addr.Is6():
		return netip.Addr{}, fmt.Errorf("the default gateway %s is a link-local address, with which sessions are not supported", found.NextHops[0].Addr)
	}
	return found.NextHops[0].Addr.Unmap(), nil
}

// SPDX-License-Identifier: Apache-2.0

package encap

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/routing"
)

// TunnelType is an encapsulation.
type TunnelType string

// The tunnel types.
const (
	Geneve TunnelType = "geneve" // RFC 8926
	VXLAN  TunnelType = "vxlan"  // RFC 7348
)

// DefaultPort is the UDP destination port that IANA assigned to the type, 0
// for an unknown type.
func (t TunnelType) DefaultPort() uint16 {
	switch t {
	case Geneve:
		return 6081
	case VXLAN:
		return 4789
	}
	return 0
}

// Underlay says over which IP family tunnels run. The inner packets may be of
// either family whatever the underlay is.
type Underlay string

// The underlays.
const (
	UnderlayIPv4 Underlay = "ipv4"
	UnderlayIPv6 Underlay = "ipv6"
	// UnderlayAuto takes IPv4 between nodes that both have an IPv4 address,
	// IPv6 otherwise: the smaller header leaves more of the MTU to Pods.
	UnderlayAuto Underlay = "auto"
)

// ErrNoEndpoint says that two nodes have no address of a common, allowed
// family.
var ErrNoEndpoint = errors.New("no common underlay address")

// families returns the families that u allows, best first.
func (u Underlay) families() []routing.Family {
	switch u {
	case UnderlayIPv4:
		return []routing.Family{routing.IPv4}
	case UnderlayIPv6:
		return []routing.Family{routing.IPv6}
	case UnderlayAuto:
		return []routing.Family{routing.IPv4, routing.IPv6}
	}
	return nil
}

// Endpoint is the pair of addresses that a tunnel runs between.
type Endpoint struct {
	Local, Remote netip.Addr
}

// Family is the family of the tunnel's outer header.
func (e Endpoint) Family() routing.Family { return routing.FamilyOf(e.Remote) }

// SelectEndpoint picks the addresses of a tunnel between two nodes from the
// addresses that they have. Both ends pick the same pair when they are given
// the same addresses. Addresses that cannot be routed between nodes
// (loopback, link-local, multicast, unspecified) are passed over. The error
// wraps ErrNoEndpoint.
func SelectEndpoint(u Underlay, local, remote []netip.Addr) (Endpoint, error) {
	for _, f := range u.families() {
		l, r := firstUsable(local, f), firstUsable(remote, f)
		if l.IsValid() && r.IsValid() {
			return Endpoint{Local: l, Remote: r}, nil
		}
	}
	return Endpoint{}, fmt.Errorf("underlay %q between %v and %v: %w", u, local, remote, ErrNoEndpoint)
}

// UnderlayFamilies returns, in ascending order, the families of the outer
// headers that a node with addresses local needs to reach peers. Peers that
// cannot be reached at all do not count. Without any peer it is the family
// that the node would use for a peer like itself.
func UnderlayFamilies(u Underlay, local []netip.Addr, peers [][]netip.Addr) []routing.Family {
	var out []routing.Family
	for _, p := range peers {
		if e, err := SelectEndpoint(u, local, p); err == nil && !slices.Contains(out, e.Family()) {
			out = append(out, e.Family())
		}
	}
	if len(out) == 0 {
		if e, err := SelectEndpoint(u, local, local); err == nil {
			out = append(out, e.Family())
		}
	}
	slices.Sort(out)
	return out
}

func firstUsable(addrs []netip.Addr, f routing.Family) netip.Addr {
	for _, a := range addrs {
		if a = a.Unmap(); a.IsGlobalUnicast() && a.Zone() == "" && routing.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

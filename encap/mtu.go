// SPDX-License-Identifier: Apache-2.0

package encap

import (
	"errors"
	"fmt"

	"github.com/waymark-net/waymark/routing"
)

// The MTU bounds of a Pod interface, in bytes.
const (
	// MinMTUIPv4 is what every IPv4 host must be able to receive (RFC 791).
	MinMTUIPv4 = 576
	// MinMTUIPv6 is the least MTU of an IPv6 link (RFC 8200, section 5).
	MinMTUIPv6 = 1280
	// MaxMTU is the largest that an IP header can describe.
	MaxMTU = 65535
)

// Bytes of the headers that encapsulation puts before the inner IP packet.
const (
	innerEthernet = 14
	tunnelHeader  = 8 // Geneve without options (RFC 8926) and VXLAN (RFC 7348) alike
	udpHeader     = 8
	ipv4Header    = 20
	ipv6Header    = 40
)

// ErrMTU says that an MTU is out of bounds.
var ErrMTU = errors.New("MTU out of bounds")

// Overhead is the number of bytes that a tunnel over an underlay of family f
// takes from the underlay's MTU: 50 over IPv4, 70 over IPv6. It is the same
// for all tunnel types, none of which carries options here.
func Overhead(f routing.Family) int {
	ip := ipv4Header
	if f == routing.IPv6 {
		ip = ipv6Header
	}
	return ip + udpHeader + tunnelHeader + innerEthernet
}

// TunnelMTU is the largest inner IP packet that fits through a tunnel over an
// underlay of family f and the given MTU.
func TunnelMTU(underlayMTU int, f routing.Family) int {
	return underlayMTU - Overhead(f)
}

// CheckMTU says whether mtu can be the MTU of a link that carries families.
// The error wraps ErrMTU.
func CheckMTU(mtu int, families []routing.Family) error {
	least, why := MinMTUIPv4, "IPv4"
	for _, f := range families {
		if f == routing.IPv6 {
			least, why = MinMTUIPv6, "IPv6"
		}
	}
	if mtu < least || mtu > MaxMTU {
		return fmt.Errorf("MTU %d: %s allows %d to %d: %w", mtu, why, least, MaxMTU, ErrMTU)
	}
	return nil
}

// MTUParams is what the MTU of Pod interfaces follows from.
type MTUParams struct {
	Mode routing.Mode
	// Uplink is the MTU of the node's uplink, or of the narrowest known path
	// to another node if that is smaller.
	Uplink int
	// Configured is the administrator's choice, 0 for none.
	Configured int
	// Underlay are the families of the outer headers (UnderlayFamilies). Not
	// used in mode noEncap.
	Underlay []routing.Family
	// Pod are the families of the Pods' addresses.
	Pod []routing.Family
}

// PodMTU returns the MTU of Pod interfaces: the uplink's in mode noEncap, what
// the tunnel leaves of it in the other modes, where any packet may have to
// take the tunnel. A configured MTU wins if it is not larger than that. The
// error wraps ErrMTU; the MTU returned beside it is the computed one.
func PodMTU(p MTUParams) (int, error) {
	mtu := p.Uplink
	if p.Mode != routing.ModeNoEncap {
		most := 0
		for _, f := range p.Underlay {
			most = max(most, Overhead(f))
		}
		mtu -= most
	}
	if err := CheckMTU(mtu, p.Pod); err != nil {
		return mtu, fmt.Errorf("mode %s on an uplink of MTU %d: %w", p.Mode, p.Uplink, err)
	}
	if p.Configured == 0 {
		return mtu, nil
	}
	if err := CheckMTU(p.Configured, p.Pod); err != nil {
		return mtu, fmt.Errorf("configured MTU: %w", err)
	}
	if p.Configured > mtu {
		return mtu, fmt.Errorf("configured MTU %d: mode %s on an uplink of MTU %d leaves %d: %w",
			p.Configured, p.Mode, p.Uplink, mtu, ErrMTU)
	}
	return p.Configured, nil
}

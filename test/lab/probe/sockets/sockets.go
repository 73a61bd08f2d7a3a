// SPDX-License-Identifier: Apache-2.0

package sockets

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connection is an established TCP connection.
type Connection struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
}

// Established lists the established TCP connections with an address.
func Established(remote netip.Addr) ([]Connection, error) {
	found := []Connection{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return nil, fmt.Errorf("list TCP sockets: %w", err)
		}
		for _, s := range sockets {
			peer, _ := netip.AddrFromSlice(s.ID.Destination)
			own, _ := netip.AddrFromSlice(s.ID.Source)
			if s.State == netlink.TCP_ESTABLISHED && peer.Unmap() == remote.Unmap() {
				found = append(found, Connection{
					Local:  netip.AddrPortFrom(own.Unmap(), s.ID.SourcePort),
					Remote: netip.AddrPortFrom(peer.Unmap(), s.ID.DestinationPort),
				})
			}
		}
	}
	return found, nil
}

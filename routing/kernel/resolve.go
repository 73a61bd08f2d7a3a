// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// resolvePoll is how often ResolveNeighbours looks whether an answer has come.
const resolvePoll = 5 * time.Millisecond

// ResolveNeighbours returns the link-layer addresses of on-link addresses at an
// interface. Those that the kernel does not know it is made to ask for (ARP, ND),
// and as many as answer within wait are returned.
func ResolveNeighbours(ctx context.Context, iface string, addrs []netip.Addr, wait time.Duration) (map[netip.Addr]net.HardwareAddr, error) {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return nil, fmt.Errorf("neighbours of %s: %w", iface, err)
	}
	index := link.Attrs().Index
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ticker := time.NewTicker(resolvePoll)
	defer ticker.Stop()
	asked := false
	for {
		known, err := knownNeighbours(index)
		if err != nil {
			return nil, fmt.Errorf("listing neighbours of %s: %w", iface, err)
		}
		found := map[netip.Addr]net.HardwareAddr{}
		var errs []error
		for _, a := range addrs {
			if mac := known[a]; mac != nil {
				found[a] = mac
			} else if !asked {
				errs = append(errs, askFor(index, a))
			}
		}
		asked = true
		if err := errors.Join(errs...); err != nil {
			return found, fmt.Errorf("resolving neighbours of %s: %w", iface, err)
		}
		if len(found) == len(addrs) {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return found, nil
		case <-ticker.C:
		}
	}
}

// knownNeighbours are those with a link-layer address that is believed to be right.
func knownNeighbours(index int) (map[netip.Addr]net.HardwareAddr, error) {
	list, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(index, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	const valid = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_PROBE | unix.NUD_STALE | unix.NUD_DELAY
	known := map[netip.Addr]net.HardwareAddr{}
	for _, e := range list {
		if a, ok := fromIP(e.IP); ok && e.State&valid != 0 && len(e.HardwareAddr) == 6 {
			known[a] = e.HardwareAddr
		}
	}
	return known, nil
}

// askFor has the kernel do what a packet to the address would make it do.
func askFor(index int, a netip.Addr) error {
	err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: index, State: netlink.NUD_NONE, Flags: netlink.NTF_USE, Type: unix.RTN_UNICAST, IP: a.AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("ask for %v: %w", a, err)
	}
	return nil
}

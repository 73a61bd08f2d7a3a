// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Neighbour is a permanent entry of the ARP or ND table.
type Neighbour struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
}

// Neighbours owns the permanent neighbours of one interface that is wholly
// ours, so it removes any that it was not asked for. Entries that the kernel
// resolved itself are left alone, unless they stand where a permanent one is
// wanted.
type Neighbours struct {
	// Interface is the name of the interface.
	Interface string
}

// NeighbourOptions change what Apply does.
type NeighbourOptions struct {
	// KeepUnknown leaves permanent entries that are not wanted: routes may lead
	// through them still.
	KeepUnknown bool
}

// NeighbourResult is what Apply achieved.
type NeighbourResult struct {
	Set, Removed []netip.Addr
	Unchanged    int
}

// Apply makes the permanent neighbours what desired says. It goes on past
// errors and returns them joined.
func (n Neighbours) Apply(ctx context.Context, desired []Neighbour, opts NeighbourOptions) (NeighbourResult, error) {
	link, err := netlink.LinkByName(n.Interface)
	if err != nil {
		return NeighbourResult{}, fmt.Errorf("neighbours of %s: %w", n.Interface, err)
	}
	index := link.Attrs().Index
	list, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(index, netlink.FAMILY_ALL) })
	if err != nil {
		return NeighbourResult{}, fmt.Errorf("listing neighbours of %s: %w", n.Interface, err)
	}
	var have []Neighbour
	for _, e := range list {
		if a, ok := fromIP(e.IP); ok && e.State&unix.NUD_PERMANENT != 0 {
			have = append(have, Neighbour{Addr: a, MAC: e.HardwareAddr})
		}
	}
	set, remove := diffNeighbours(desired, have)
	if opts.KeepUnknown {
		remove = nil
	}
	res := NeighbourResult{Unchanged: len(desired) - len(set)}
	var errs []error
	log := klog.FromContext(ctx)
	for _, d := range set {
		err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index, State: unix.NUD_PERMANENT, Type: unix.RTN_UNICAST,
			IP: d.Addr.AsSlice(), HardwareAddr: d.MAC,
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("set neighbour %v on %s: %w", d.Addr, n.Interface, err))
			continue
		}
		log.Info("Neighbour set", "interface", n.Interface, "address", d.Addr, "mac", d.MAC)
		res.Set = append(res.Set, d.Addr)
	}
	for _, a := range remove {
		err := netlink.NeighDel(&netlink.Neigh{LinkIndex: index, IP: a.AsSlice()})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove neighbour %v on %s: %w", a, n.Interface, err))
			continue
		}
		log.Info("Neighbour removed", "interface", n.Interface, "address", a)
		res.Removed = append(res.Removed, a)
	}
	return res, errors.Join(errs...)
}

func diffNeighbours(desired, have []Neighbour) (set []Neighbour, remove []netip.Addr) {
	wanted := make(map[netip.Addr]bool)
	for _, d := range desired {
		wanted[d.Addr] = true
		if !slices.ContainsFunc(have, func(h Neighbour) bool { return h.Addr == d.Addr && bytes.Equal(h.MAC, d.MAC) }) {
			set = append(set, d)
		}
	}
	for _, h := range have {
		if !wanted[h.Addr] {
			remove = append(remove, h.Addr)
		}
	}
	slices.SortFunc(set, func(a, b Neighbour) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(remove, netip.Addr.Compare)
	return set, remove
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
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

// Link is an interface as it was found.
type Link struct {
	Name  string
	Index int
	MAC   net.HardwareAddr
	// MTU in bytes.
	MTU int
}

// WaitLink returns the interface of that name as soon as it exists, or the
// error of ctx.
func WaitLink(ctx context.Context, name string) (Link, error) {
	sub, err := subscribe(ctx, unix.RTNLGRP_LINK)
	if err != nil {
		return Link{}, fmt.Errorf("waiting for interface %s: %w", name, err)
	}
	defer sub.close()
	for {
		link, err := netlink.LinkByName(name)
		if err == nil {
			return toLink(link), nil
		}
		if !errors.As(err, &netlink.LinkNotFoundError{}) {
			return Link{}, fmt.Errorf("interface %s: %w", name, err)
		}
		if _, err := sub.receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return Link{}, fmt.Errorf("waiting for interface %s: %w", name, err)
		}
	}
}

// LinkSpec is what ConfigureLink brings about.
type LinkSpec struct {
	Name string
	// MTU in bytes. An internal port of Open vSwitch also needs it as
	// mtu_request in OVSDB, or the switch sets its own again.
	MTU int
	// Addresses are the interface's addresses, all of them: others are
	// removed, except IPv6 link-local ones.
	Addresses []netip.Prefix
}

// LinkResult is what ConfigureLink achieved.
type LinkResult struct {
	// Link is the interface after that.
	Link Link
	// Changes counts what was changed of the interface itself, Addresses those
	// that were added or removed.
	Changes, Addresses int
}

// ConfigureLink gives an existing interface its MTU and exactly its addresses,
// and sets it up. IPv6 addresses skip duplicate detection, so that they are
// usable at once. It goes on past errors and returns them joined.
func ConfigureLink(ctx context.Context, spec LinkSpec) (LinkResult, error) {
	link, err := netlink.LinkByName(spec.Name)
	if err != nil {
		return LinkResult{}, fmt.Errorf("interface %s: %w", spec.Name, err)
	}
	var res LinkResult
	var errs []error
	do := func(count *int, what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %s: %w", spec.Name, what, err))
			return
		}
		*count++
		klog.FromContext(ctx).Info("Interface changed", "interface", spec.Name, "change", what)
	}
	if spec.MTU != 0 && link.Attrs().MTU != spec.MTU {
		do(&res.Changes, fmt.Sprintf("set MTU %d", spec.MTU), netlink.LinkSetMTU(link, spec.MTU))
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		do(&res.Changes, "set up", netlink.LinkSetUp(link))
	}
	have, err := listAddresses(link)
	if err != nil {
		errs = append(errs, err)
	} else {
		add, remove := diffAddresses(spec.Addresses, have)
		for _, p := range add {
			do(&res.Addresses, "add address "+p.String(), addAddress(link, Address{Prefix: p}))
		}
		for _, p := range remove {
			do(&res.Addresses, "remove address "+p.String(), netlink.AddrDel(link, &netlink.Addr{IPNet: toIPNet(p)}))
		}
	}
	if link, err = netlink.LinkByName(spec.Name); err != nil {
		return res, errors.Join(append(errs, fmt.Errorf("interface %s: %w", spec.Name, err))...)
	}
	res.Link = toLink(link)
	return res, errors.Join(errs...)
}

// diffAddresses compares the wanted addresses of an interface with those it has.
func diffAddresses(desired []netip.Prefix, have []Address) (add, remove []netip.Prefix) {
	for _, d := range desired {
		if !slices.ContainsFunc(have, func(h Address) bool { return h.Prefix == d }) {
			add = append(add, d)
		}
	}
	for _, h := range have {
		if !h.linkLocal() && !slices.Contains(desired, h.Prefix) {
			remove = append(remove, h.Prefix)
		}
	}
	return add, remove
}

// Address is an address of an interface.
type Address struct {
	// Prefix is the address with the length of its subnet.
	Prefix netip.Prefix `json:"prefix"`
	// Peer is the other end of a point-to-point address, else invalid.
	Peer      netip.Prefix `json:"peer,omitzero"`
	Broadcast netip.Addr   `json:"broadcast,omitzero"`
	// Scope as in rtnetlink(7): 0 global, 253 link, 254 host.
	Scope int `json:"scope,omitempty"`
	// NoPrefixRoute: the kernel made no route for the subnet.
	NoPrefixRoute bool `json:"noPrefixRoute,omitempty"`
}

// linkLocal says that it is an IPv6 link-local address, which the kernel
// makes itself; an IPv4 one is an address like any other.
func (a Address) linkLocal() bool {
	return a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast()
}

// listAddresses leaves out temporary (RFC 8981), deprecated and failed ones.
func listAddresses(link netlink.Link) ([]Address, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses of %s: %w", link.Attrs().Name, err)
	}
	var out []Address
	for _, a := range list {
		if addr, ok := toAddress(a); ok {
			out = append(out, addr)
		}
	}
	return out, nil
}

// allAddresses is listAddresses for all links at once, by their index.
func allAddresses() (map[int][]Address, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	out := map[int][]Address{}
	for _, a := range list {
		if addr, ok := toAddress(a); ok {
			out[a.LinkIndex] = append(out[a.LinkIndex], addr)
		}
	}
	return out, nil
}

// toAddress returns false for an address that is none to rely on.
func toAddress(a netlink.Addr) (Address, bool) {
	const skip = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_DADFAILED
	p, ok := fromIPNet(a.IPNet)
	// IFA_F_TEMPORARY means secondary in IPv4.
	if !ok || p.Addr().Is6() && a.Flags&skip != 0 {
		return Address{}, false
	}
	addr := Address{Prefix: p, Scope: a.Scope, NoPrefixRoute: a.Flags&unix.IFA_F_NOPREFIXROUTE != 0}
	addr.Broadcast, _ = fromIP(a.Broadcast)
	if peer, ok := fromIPNet(a.Peer); ok && peer != p {
		addr.Peer = peer
	}
	return addr, true
}

// addAddress adds an address; it is no error when it is there already.
func addAddress(link netlink.Link, a Address) error {
	// Without a word the library would make up a broadcast address.
	na := &netlink.Addr{IPNet: toIPNet(a.Prefix), Scope: a.Scope, Broadcast: net.IPv4zero}
	if a.Broadcast.IsValid() {
		na.Broadcast = a.Broadcast.AsSlice()
	}
	if a.Peer.IsValid() {
		na.Peer = toIPNet(a.Peer)
	}
	if a.NoPrefixRoute {
		na.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	if a.Prefix.Addr().Is6() {
		na.Flags |= unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, na); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

func toLink(l netlink.Link) Link {
	a := l.Attrs()
	return Link{Name: a.Name, Index: a.Index, MAC: slices.Clone(a.HardwareAddr), MTU: a.MTU}
}

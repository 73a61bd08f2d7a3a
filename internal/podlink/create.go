// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func createLink(ctx context.Context, link Link) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pod, err := openPod(link.NetNS)
	if err != nil {
		return err
	}
	defer pod.Close()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := makePair(h, link, pod); err != nil {
		return err
	}
	if err := inNamespace(pod, func() error { return configurePod(link) }); err != nil {
		return errors.Join(fmt.Errorf("Pod's end: %w", err), deleteByName(h, link.HostInterface))
	}
	return nil
}

// makePair makes the pair and configures the host's end. On error nothing stays
// behind.
func makePair(h *netlink.Handle, link Link, pod *os.File) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = link.HostInterface, link.HostMTU
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU = link.IfName, uint32(link.MTU)
	veth.PeerHardwareAddr = link.MAC
	veth.PeerNamespace = netlink.NsFd(int(pod.Fd()))
	err := h.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		// Either our own name, left by an attempt that was killed, or the
		// name in the Pod, which then is still taken after this.
		if err := deleteByName(h, link.HostInterface); err != nil {
			return fmt.Errorf("removing what was left: %w", err)
		}
		err = h.LinkAdd(veth)
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return ErrInterfaceExists
	case err != nil:
		return fmt.Errorf("adding veth pair: %w", err)
	}
	if err := configureHost(h, veth, link); err != nil {
		return errors.Join(fmt.Errorf("host's end: %w", err), deleteByName(h, link.HostInterface))
	}
	return nil
}

// configureHost keeps the kernel's IP stack off the host's end and sets it up.
func configureHost(h *netlink.Handle, veth *netlink.Veth, link Link) error {
	if err := writeSysctls(hostSysctls(link)); err != nil {
		return err
	}
	if link.Alias != "" {
		if err := h.LinkSetAlias(veth, link.Alias); err != nil {
			return fmt.Errorf("setting alias: %w", err)
		}
	}
	if err := h.LinkSetUp(veth); err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	return nil
}

// configurePod configures the Pod's end. The thread is in the Pod's namespace.
func configurePod(link Link) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	dev, err := h.LinkByName(link.IfName)
	if err != nil {
		return fmt.Errorf("finding Pod's end: %w", err)
	}
	if err := writeSysctls(podSysctls(link)); err != nil {
		return err
	}
	if link.Datapath == Netdev {
		if err := setTxChecksum(link.IfName, 0); err != nil {
			return fmt.Errorf("turning off TX checksum offload: %w", err)
		}
	}
	if err := h.LinkSetUp(dev); err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	index := dev.Attrs().Index
	for _, a := range link.Addresses {
		if err := h.AddrAdd(dev, podAddr(a.Addr)); err != nil {
			return fmt.Errorf("adding address %s: %w", a.Addr, err)
		}
		if err := h.NeighSet(podNeigh(index, a.Gateway, link.GatewayMAC)); err != nil {
			return fmt.Errorf("adding neighbour %s: %w", a.Gateway, err)
		}
		for _, r := range podRoutes(index, a.Gateway, link.routeMTU()) {
			if err := h.RouteAdd(r); err != nil {
				return fmt.Errorf("adding route %s: %w", r, err)
			}
		}
	}
	return nil
}

// podAddr is a host address. The switch lets no other Pod use it, so that
// duplicate address detection (RFC 4862, section 5.4) could only cost time.
func podAddr(addr netip.Addr) *netlink.Addr {
	out := &netlink.Addr{IPNet: hostNet(addr)}
	if addr.Is6() {
		out.Flags = unix.IFA_F_NODAD
	}
	return out
}

func podNeigh(index int, gateway netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	family := unix.AF_INET
	if gateway.Is6() {
		family = unix.AF_INET6
	}
	return &netlink.Neigh{
		LinkIndex:    index,
		Family:       family,
		State:        netlink.NUD_PERMANENT,
		IP:           gateway.AsSlice(),
		HardwareAddr: mac,
	}
}

// podRoutes are the routes of one family, in the order in which they can be added.
func podRoutes(index int, gateway netip.Addr, mtu int) []*netlink.Route {
	return []*netlink.Route{
		{LinkIndex: index, Dst: hostNet(gateway), Scope: netlink.SCOPE_LINK},
		{LinkIndex: index, Dst: defaultNet(gateway), Gw: gateway.AsSlice(), MTU: mtu},
	}
}

// routeMTU is the MTU of the Pod's default routes, 0: that of the interface.
func (l Link) routeMTU() int {
	if l.SendMTU < l.MTU {
		return l.SendMTU
	}
	return 0
}

func hostNet(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}

func defaultNet(family netip.Addr) *net.IPNet {
	zero := netip.IPv4Unspecified()
	if family.Is6() {
		zero = netip.IPv6Unspecified()
	}
	return &net.IPNet{IP: zero.AsSlice(), Mask: net.CIDRMask(0, zero.BitLen())}
}

func deleteLink(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return deleteByName(h, name)
}

// deleteByName deletes an interface if there is one of that name.
func deleteByName(h *netlink.Handle, name string) error {
	dev, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	err = h.LinkDel(dev)
	if errors.Is(err, unix.ENODEV) {
		return nil // its namespace went meanwhile
	}
	return err
}

func listLinks(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	devs, err := dumpLinks(h.LinkList)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, dev := range devs {
		if dev.Type() == "veth" && IsHostInterface(dev.Attrs().Name) {
			names = append(names, dev.Attrs().Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// dumpTries bounds how often a list of links that changed while it was read is
// read again.
const dumpTries = 5

// dumpLinks reads the list of links until it was not changed meanwhile: while
// Pods come and go it easily is.
func dumpLinks(list func() ([]netlink.Link, error)) ([]netlink.Link, error) {
	for try := 1; ; try++ {
		devs, err := list()
		if err == nil || try == dumpTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return devs, err
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func checkLink(ctx context.Context, link Link) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pod, err := openPod(link.NetNS)
	if err != nil {
		return err
	}
	defer pod.Close()
	found, hostIndex, err := checkHost(link)
	if err != nil {
		return err
	}
	err = inNamespace(pod, func() error {
		more, err := checkPod(link, hostIndex)
		found = append(found, more...)
		return err
	})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %s", ErrBroken, strings.Join(found, "; "))
	}
	return nil
}

// checkHost names what is wrong with the host's end and returns its index.
func checkHost(link Link) ([]string, int, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, 0, err
	}
	defer h.Close()
	dev, err := h.LinkByName(link.HostInterface)
	switch {
	case errors.As(err, &netlink.LinkNotFoundError{}):
		return []string{"no interface " + link.HostInterface + " on the host"}, 0, nil
	case err != nil:
		return nil, 0, err
	}
	return checkDevice(dev, link.HostInterface, link.HostMTU), dev.Attrs().Index, nil
}

func checkDevice(dev netlink.Link, name string, mtu int) []string {
	var found []string
	if dev.Attrs().Flags&net.FlagUp == 0 {
		found = append(found, name+" is down")
	}
	if dev.Attrs().MTU != mtu {
		found = append(found, fmt.Sprintf("MTU of %s is %d, not %d", name, dev.Attrs().MTU, mtu))
	}
	return found
}

// checkPod names what is wrong with the Pod's end.
func checkPod(link Link, hostIndex int) ([]string, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	dev, err := h.LinkByName(link.IfName)
	switch {
	case errors.As(err, &netlink.LinkNotFoundError{}):
		return []string{"no interface " + link.IfName + " in the Pod"}, nil
	case err != nil:
		return nil, err
	}
	found := checkDevice(dev, link.IfName, link.MTU)
	if dev.Type() != "veth" || dev.Attrs().ParentIndex != hostIndex {
		found = append(found, link.IfName+" is not the other end of "+link.HostInterface)
	}
	if !bytes.Equal(dev.Attrs().HardwareAddr, link.MAC) {
		found = append(found, fmt.Sprintf("MAC of %s is %s, not %s", link.IfName, dev.Attrs().HardwareAddr, link.MAC))
	}
	if link.Datapath == Netdev {
		switch value, err := txChecksum(link.IfName); {
		case err != nil:
			return nil, fmt.Errorf("reading TX checksum offload: %w", err)
		case value != 0:
			found = append(found, "TX checksum offload of "+link.IfName+" is on")
		}
	}
	for _, a := range link.Addresses {
		more, err := checkFamily(h, dev, a)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// checkFamily names what is missing of one family: address, routes.
func checkFamily(h *netlink.Handle, dev netlink.Link, a Address) ([]string, error) {
	family := netlink.FAMILY_V4
	if a.Addr.Is6() {
		family = netlink.FAMILY_V6
	}
	var found []string
	addrs, err := h.AddrList(dev, family)
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	want := hostNet(a.Addr).String()
	if !slices.ContainsFunc(addrs, func(x netlink.Addr) bool { return x.IPNet.String() == want }) {
		found = append(found, "no address "+want)
	}
	routes, err := h.RouteList(dev, family)
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	for _, want := range podRoutes(dev.Attrs().Index, a.Gateway, 0) {
		if !slices.ContainsFunc(routes, func(x netlink.Route) bool { return sameRoute(x, *want) }) {
			found = append(found, fmt.Sprintf("no route to %s", want.Dst))
		}
	}
	return found, nil
}

// sameRoute compares destination and gateway. A default route is listed with
// or without a destination, depending on the family.
func sameRoute(a, b netlink.Route) bool {
	return dstOf(a) == dstOf(b) && a.Gw.Equal(b.Gw)
}

func dstOf(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(r.Dst.IP)
	ones, _ := r.Dst.Mask.Size()
	if ones == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr.Unmap(), ones)
}

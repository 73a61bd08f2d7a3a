// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// repairLink goes on past errors. An end that is not there is one.
func repairLink(ctx context.Context, link Link) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pod, err := openPod(link.NetNS)
	if err != nil {
		return nil, err
	}
	defer pod.Close()
	changed, hostErr := repairHost(link)
	err = inNamespace(pod, func() error {
		more, err := repairPod(link)
		changed = append(changed, more...)
		return err
	})
	return changed, errors.Join(hostErr, err)
}

// repairHost brings the host's end to its sysctls before it sets it up.
func repairHost(link Link) ([]string, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	dev, err := h.LinkByName(link.HostInterface)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", link.HostInterface, err)
	}
	changed, err := correctSysctls(hostSysctls(link))
	errs := []error{err}
	if dev.Attrs().MTU != link.HostMTU {
		if err := h.LinkSetMTU(dev, link.HostMTU); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", link.HostInterface, err))
		} else {
			changed = append(changed, fmt.Sprintf("MTU %d of %s", link.HostMTU, link.HostInterface))
		}
	}
	if dev.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(dev); err != nil {
			errs = append(errs, fmt.Errorf("setting %s up: %w", link.HostInterface, err))
		} else {
			changed = append(changed, link.HostInterface+" up")
		}
	}
	return changed, errors.Join(errs...)
}

// repairPod changes the MTU of the Pod's end and of its default routes. The thread
// is in the Pod's namespace.
func repairPod(link Link) ([]string, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	dev, err := h.LinkByName(link.IfName)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", link.IfName, err)
	}
	var changed []string
	if dev.Attrs().MTU != link.MTU {
		if err := h.LinkSetMTU(dev, link.MTU); err != nil {
			return nil, fmt.Errorf("%s: %w", link.IfName, err)
		}
		changed = append(changed, fmt.Sprintf("MTU %d of %s", link.MTU, link.IfName))
	}
	for _, a := range link.Addresses {
		family := netlink.FAMILY_V4
		if a.Addr.Is6() {
			family = netlink.FAMILY_V6
		}
		routes, err := h.RouteList(dev, family)
		if err != nil {
			return changed, fmt.Errorf("listing routes: %w", err)
		}
		for _, want := range podRoutes(dev.Attrs().Index, a.Gateway, link.routeMTU()) {
			i := slices.IndexFunc(routes, func(x netlink.Route) bool { return sameRoute(x, *want) })
			if i < 0 || routes[i].MTU == want.MTU {
				continue
			}
			if err := h.RouteReplace(want); err != nil {
				return changed, fmt.Errorf("MTU of route %s: %w", want, err)
			}
			changed = append(changed, fmt.Sprintf("MTU %d of the route to %s", want.MTU, want.Dst))
		}
	}
	return changed, nil
}

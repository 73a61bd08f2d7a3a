// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// newResult is the CNI result of an attachment, added to what a plugin before
// us in the chain returned. The host's end has no sandbox: that is how chained
// plugins find it.
func newResult(prev *current.Result, a attachment, mtu int) *current.Result {
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion}
	if prev != nil {
		res.Interfaces, res.IPs, res.Routes, res.DNS = prev.Interfaces, prev.IPs, prev.Routes, prev.DNS
	}
	res.Interfaces = append(res.Interfaces,
		&current.Interface{Name: a.HostInterface, Mtu: mtu},
		&current.Interface{Name: a.IfName, Mac: a.MAC.String(), Mtu: mtu, Sandbox: a.NetNS},
	)
	podEnd := len(res.Interfaces) - 1
	for i, addr := range a.Addresses {
		gateway := a.Gateways[i].AsSlice()
		res.IPs = append(res.IPs, &current.IPConfig{
			Interface: current.Int(podEnd),
			Address:   net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
			Gateway:   gateway,
		})
		res.Routes = append(res.Routes, &types.Route{Dst: defaultRoute(addr), GW: gateway})
	}
	return res
}

func defaultRoute(family netip.Addr) net.IPNet {
	zero := netip.IPv4Unspecified()
	if family.Is6() {
		zero = netip.IPv6Unspecified()
	}
	return net.IPNet{IP: zero.AsSlice(), Mask: net.CIDRMask(0, zero.BitLen())}
}

// hasAddresses says whether a result lists all addresses of an attachment.
func hasAddresses(res *current.Result, a attachment) bool {
	listed := map[netip.Addr]bool{}
	for _, ip := range res.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			listed[addr.Unmap()] = true
		}
	}
	for _, addr := range a.Addresses {
		if !listed[addr] {
			return false
		}
	}
	return true
}

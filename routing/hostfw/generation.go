// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// generation asks the kernel for the number of the current ruleset of nftables
// (NFT_MSG_GETGEN). Every change to any table counts it up, changes by the nft
// kind of iptables included.
func generation() (uint32, error) {
	msgs, err := netfilterRequest(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("asking for the generation of nftables: %w", err)
	}
	for _, m := range msgs {
		if len(m) < nl.SizeofNfgenmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("reading the generation of nftables: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				// Like all of nftables, in network byte order.
				return uint32(a.Value[0])<<24 | uint32(a.Value[1])<<16 | uint32(a.Value[2])<<8 | uint32(a.Value[3]), nil
			}
		}
	}
	return 0, fmt.Errorf("asking for the generation of nftables: no answer")
}

// netfilterRequest is a message to a subsystem of netfilter, without attributes.
func netfilterRequest(subsystem, message, flags int, family uint8) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(subsystem<<8|message, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return req
}

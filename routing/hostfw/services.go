// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// ServicePort is a port of the node at which a Service is reached.
type ServicePort struct {
	// Protocol is the IP number of TCP, UDP or SCTP.
	Protocol uint8
	Port     uint16
}

// ServiceAlias is an address of the node that belongs to a Service at one port.
type ServiceAlias struct {
	Addr netip.AddrPort
	// Protocol is the IP number of TCP, UDP or SCTP.
	Protocol uint8
	// To is the address, of the same family, by which the switch knows Addr.
	To netip.Addr
}

// NodeClient is how the node itself goes to NodePorts, in one family.
type NodeClient struct {
	// As is the source of what the node sends to NodePorts: an address that the
	// kernel routes into the switch. Nobody else may have it.
	As netip.Addr
	// Node is an address of the node. What the switch hands back from As, on the
	// way to an endpoint, gets it as its source.
	Node netip.Addr
}

// ServiceRules say which packets to addresses of the node itself go to the
// switch, as they belong to Services: from the outside, from Pods and from the
// node. Their ports stay, and so do their sources but for the node's own. The
// order within slices does not matter.
type ServiceRules struct {
	// Gateway is the interface that leads to the switch.
	Gateway   string
	NodePorts []ServicePort
	// NodePortAddrs limit NodePorts to the node's addresses within. A family of
	// which there is none is not limited. Loopback addresses and link-local ones
	// of IPv6 never serve NodePorts.
	NodePortAddrs []netip.Prefix
	// To4 and To6 are where packets to NodePorts go; a family without has no
	// NodePorts.
	To4, To6 netip.Addr
	Aliases  []ServiceAlias
	// NodeClients are for the families in which the node has an address, one each.
	NodeClients []NodeClient
}

// serviceRules is ServiceRules in order and without what cannot be.
type serviceRules struct {
	gateway  string
	ports    []ServicePort // none without a family that has them
	families [2]serviceFamily
}

type serviceFamily struct {
	// to is the zero Addr if the family has no NodePorts.
	to      netip.Addr
	within  []netip.Prefix // none: anywhere
	aliases []ServiceAlias
	// client is the zero value if the node keeps its sources.
	client NodeClient
}

func (r serviceRules) family(is4 bool) serviceFamily {
	if is4 {
		return r.families[0]
	}
	return r.families[1]
}

// empty says that nothing is wanted.
func (r serviceRules) empty() bool {
	return len(r.ports)+len(r.families[0].aliases)+len(r.families[1].aliases) == 0
}

// normal returns the rules in order, IPv4 first, and an error for each that
// cannot be. Of two aliases for one address, protocol and port the one with the
// smaller To counts.
func (r ServiceRules) normal() (serviceRules, error) {
	out := serviceRules{gateway: r.Gateway}
	var errs []error
	for _, p := range r.NodePorts {
		if err := checkPort(p.Protocol, p.Port); err != nil {
			errs = append(errs, fmt.Errorf("NodePort %d: %w", p.Port, err))
		} else if r.To4.IsValid() || r.To6.IsValid() {
			out.ports = append(out.ports, p)
		}
	}
	slices.SortFunc(out.ports, func(a, b ServicePort) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	out.ports = slices.Compact(out.ports)
	for i, to := range []netip.Addr{r.To4, r.To6} {
		f := &out.families[i]
		if len(out.ports) > 0 && to.IsValid() {
			f.to = to
			f.within = aggregate(r.NodePortAddrs, i == 0)
			if len(f.within) == 1 && f.within[0].Bits() == 0 {
				f.within = nil
			}
		}
	}
	for _, a := range r.Aliases {
		err := checkPort(a.Protocol, a.Addr.Port())
		if err == nil && (!a.To.IsValid() || a.To.Is4() != a.Addr.Addr().Is4()) {
			err = fmt.Errorf("%v is not an address of its family", a.To)
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("alias of %v: %w", a.Addr, err))
		case a.Addr.Addr().Is4():
			out.families[0].aliases = append(out.families[0].aliases, a)
		default:
			out.families[1].aliases = append(out.families[1].aliases, a)
		}
	}
	for i := range out.families {
		f := &out.families[i]
		slices.SortFunc(f.aliases, func(a, b ServiceAlias) int {
			return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), a.To.Compare(b.To))
		})
		f.aliases = slices.CompactFunc(f.aliases, func(a, b ServiceAlias) bool {
			return a.Addr == b.Addr && a.Protocol == b.Protocol
		})
	}
	for _, c := range r.NodeClients {
		f := &out.families[0]
		if c.As.Is6() {
			f = &out.families[1]
		}
		if !c.As.IsValid() || !c.Node.IsValid() || c.As.Is4() != c.Node.Is4() {
			errs = append(errs, fmt.Errorf("client of the node: %v and %v are not addresses of one family", c.As, c.Node))
		} else if f.to.IsValid() {
			f.client = c
		}
	}
	return out, errors.Join(errs...)
}

func checkPort(protocol uint8, port uint16) error {
	switch {
	case protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_UDP && protocol != unix.IPPROTO_SCTP:
		return fmt.Errorf("protocol %d is none of TCP (6), UDP (17) and SCTP (132)", protocol)
	case port == 0:
		return errors.New("port 0 is not from 1 to 65535")
	}
	return nil
}

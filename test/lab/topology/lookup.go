// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// Host returns the host of that name.
func (t *Topology) Host(name string) (Host, bool) {
	at := slices.IndexFunc(t.Hosts, func(h Host) bool { return h.Name == name })
	if at < 0 {
		return Host{}, false
	}
	return t.Hosts[at], true
}

// WithRole returns the hosts that have one of the roles, in layout order.
func (t *Topology) WithRole(roles ...Role) []Host {
	return slices.DeleteFunc(slices.Clone(t.Hosts), func(h Host) bool { return !slices.Contains(roles, h.Role) })
}

// ToRs returns the top-of-rack routers of a rack.
func (t *Topology) ToRs(rack string) []Host {
	return slices.DeleteFunc(t.WithRole(RoleToR), func(h Host) bool { return h.Rack != rack })
}

// Link returns the link of that name, with its ends named in either order.
func (t *Topology) Link(name string) (Link, bool) {
	at := slices.IndexFunc(t.Links, func(l Link) bool {
		return l.Name == name || l.B.Host+"-"+l.A.Host == name
	})
	if at < 0 {
		return Link{}, false
	}
	return t.Links[at], true
}

func (t *Topology) linkNames() string {
	var names []string
	for _, l := range t.Links {
		names = append(names, l.Name)
	}
	return strings.Join(names, ", ")
}

// LinksOf returns the links that end at a host.
func (t *Topology) LinksOf(host string) []Link {
	return slices.DeleteFunc(slices.Clone(t.Links), func(l Link) bool { return l.A.Host != host && l.B.Host != host })
}

// RackPrefixes are the subnets of a rack.
func (t *Topology) RackPrefixes(rack string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, p := range t.subnetPrefixes(int(rack[0]-'A')+1, 0) {
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes
}

// PodPrefixes are the Pod networks of the families that the lab has.
func (t *Topology) PodPrefixes() []netip.Prefix {
	return t.wanted(t.Spec.Networks.PodIPv4, t.Spec.Networks.PodIPv6)
}

// ServicePrefixes are the Service networks of the families that the lab has.
func (t *Topology) ServicePrefixes() []netip.Prefix {
	return t.wanted(t.Spec.Networks.ServiceIPv4, t.Spec.Networks.ServiceIPv6)
}

func (t *Topology) wanted(prefixes ...netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(prefixes, func(p netip.Prefix) bool { return !t.Spec.Families.Has(p.Addr()) })
}

// subnetPrefixes are the addresses of a host in a numbered subnet.
func (t *Topology) subnetPrefixes(subnet, host int) []netip.Prefix {
	n := t.Spec.Networks
	v6 := n.HostIPv6.Addr().As16()
	binary.BigEndian.PutUint16(v6[6:], binary.BigEndian.Uint16(v6[6:])|readable(subnet))
	binary.BigEndian.PutUint16(v6[14:], readable(host))
	v4 := n.HostIPv4.Addr().As4()
	v4[2] |= byte(subnet)
	v4[3] = byte(host)
	return t.wanted(netip.PrefixFrom(netip.AddrFrom4(v4), 24), netip.PrefixFrom(netip.AddrFrom16(v6), 64))
}

// readable makes a number look the same in an IPv6 address, whose groups are
// hexadecimal, as in an IPv4 address. The number is below 1000.
func readable(number int) uint16 {
	return uint16(number/100<<8 | number/10%10<<4 | number%10)
}

func (t *Topology) addresses(subnet, host int) []netip.Addr {
	var addrs []netip.Addr
	for _, p := range t.subnetPrefixes(subnet, host) {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

// fabricPrefixes are the addresses of both ends of a link between routers.
func (t *Topology) fabricPrefixes(number int) (first, second []netip.Prefix) {
	n := t.Spec.Networks
	v4, v6 := n.FabricIPv4.Addr().As4(), n.FabricIPv6.Addr().As16()
	v4[3], v6[15] = byte(2*number), byte(2*number)
	a4, a6 := netip.AddrFrom4(v4), netip.AddrFrom16(v6)
	first = t.wanted(netip.PrefixFrom(a4, 31), netip.PrefixFrom(a6, 127))
	second = t.wanted(netip.PrefixFrom(a4.Next(), 31), netip.PrefixFrom(a6.Next(), 127))
	return first, second
}

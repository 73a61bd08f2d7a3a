// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"net/netip"
	"slices"
)

// l3Config is what makes an interface the node's uplink: all that moves
// between NIC and bridge.
type l3Config struct {
	// MTU in bytes.
	MTU       int          `json:"mtu"`
	MAC       string       `json:"mac"`
	Addresses []Address    `json:"addresses"`
	Routes    []savedRoute `json:"routes"`
}

// savedRoute is a route through the uplink, in terms that survive the
// interface: a hop without an interface goes through the uplink.
type savedRoute struct {
	Table    int          `json:"table"`
	Prefix   netip.Prefix `json:"prefix"`
	Type     int          `json:"type"`
	Tos      int          `json:"tos,omitempty"`
	Scope    int          `json:"scope"`
	Protocol int          `json:"protocol"`
	Metric   int          `json:"metric"`
	Source   netip.Addr   `json:"source,omitzero"`
	MTU      int          `json:"mtu,omitempty"`
	AdvMSS   int          `json:"advMSS,omitempty"`
	Hops     []savedHop   `json:"hops"`
}

type savedHop struct {
	Addr      netip.Addr `json:"addr,omitzero"`
	Interface string     `json:"interface,omitempty"`
	OnLink    bool       `json:"onLink,omitempty"`
	// Weight is as the kernel counts it: 0 is one share.
	Weight int `json:"weight,omitempty"`
}

type savedRouteKey struct {
	table, metric, tos int
	prefix             netip.Prefix
}

func (r savedRoute) key() savedRouteKey { return savedRouteKey{r.Table, r.Metric, r.Tos, r.Prefix} }

func (r savedRoute) equal(o savedRoute) bool {
	same := slices.Equal(r.Hops, o.Hops)
	r.Hops, o.Hops = nil, nil
	return same && r.key() == o.key() && r.Type == o.Type && r.Scope == o.Scope && r.Protocol == o.Protocol &&
		r.Source == o.Source && r.MTU == o.MTU && r.AdvMSS == o.AdvMSS
}

func (c l3Config) equal(o l3Config) bool {
	return c.MTU == o.MTU && c.MAC == o.MAC && slices.Equal(c.Addresses, o.Addresses) &&
		slices.EqualFunc(c.Routes, o.Routes, savedRoute.equal)
}

// usable says that it has an address by which others could reach the node.
func (c l3Config) usable() bool {
	return slices.ContainsFunc(c.Addresses, func(a Address) bool { return !a.linkLocal() })
}

// durable leaves out the routes that the agent makes anew at any time.
func (c l3Config) durable() l3Config {
	c.Routes = slices.DeleteFunc(slices.Clone(c.Routes), func(r savedRoute) bool { return r.Protocol == Protocol })
	return c
}

// merge adds to base what only extra has; where both have a route, extra's counts.
func merge(base, extra l3Config) l3Config {
	out := l3Config{MTU: extra.MTU, MAC: extra.MAC, Addresses: slices.Clone(base.Addresses), Routes: slices.Clone(base.Routes)}
	for _, a := range extra.Addresses {
		if !slices.ContainsFunc(out.Addresses, sameAddress(a)) {
			out.Addresses = append(out.Addresses, a)
		}
	}
	for _, r := range extra.Routes {
		if i := slices.IndexFunc(out.Routes, sameKey(r)); i >= 0 {
			out.Routes[i] = r
		} else {
			out.Routes = append(out.Routes, r)
		}
	}
	slices.SortStableFunc(out.Routes, compareSaved)
	return out
}

func sameAddress(a Address) func(Address) bool {
	return func(b Address) bool { return a.Prefix == b.Prefix && a.Peer == b.Peer }
}

func sameKey(r savedRoute) func(savedRoute) bool {
	return func(o savedRoute) bool { return o.key() == r.key() }
}

// compareSaved puts routes into an order in which each can be added: what a
// router's own address is reached by comes before what goes through the router.
func compareSaved(a, b savedRoute) int {
	viaRouter := func(r savedRoute) int {
		return b2i(slices.ContainsFunc(r.Hops, func(h savedHop) bool { return h.Addr.IsValid() && !h.OnLink }))
	}
	return cmp.Or(
		cmp.Compare(viaRouter(a), viaRouter(b)),
		cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()),
		a.Prefix.Addr().Compare(b.Prefix.Addr()),
		cmp.Compare(a.Table, b.Table), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Tos, b.Tos))
}

// movePlan is what has to be done, in this order: the target gets everything
// before the other interface loses anything.
type movePlan struct {
	addAddresses  []Address
	putRoutes     []savedRoute
	dropAddresses []Address
}

func planMove(want, from, to l3Config) movePlan {
	var p movePlan
	var v6 []Address
	for _, a := range want.Addresses {
		switch {
		case slices.ContainsFunc(to.Addresses, sameAddress(a)):
		case a.Prefix.Addr().Is6():
			v6 = append(v6, a)
		default:
			p.addAddresses = append(p.addAddresses, a)
		}
	}
	// The kernel puts a new IPv6 address before the older ones, and prefers it.
	slices.Reverse(v6)
	p.addAddresses = append(p.addAddresses, v6...)
	for _, r := range want.Routes {
		if i := slices.IndexFunc(to.Routes, sameKey(r)); i < 0 || !r.equal(to.Routes[i]) {
			p.putRoutes = append(p.putRoutes, r)
		}
	}
	slices.SortStableFunc(p.putRoutes, compareSaved)
	// Backwards: a primary address takes its secondary ones along.
	p.dropAddresses = slices.Clone(from.Addresses)
	slices.Reverse(p.dropAddresses)
	return p
}

// situation is what a decision about the uplink is made from.
type situation struct {
	state       *uplinkState // what was saved, nil if nothing
	nic, bridge l3Config
	bridgeIndex int
	bridgeUp    bool
	bootID      string
}

// want decides what the uplink should look like.
//
// While the bridge is the one that was set up, what people change on it
// counts, as it would on a NIC. A bridge that the switch made anew is empty,
// and one whose MAC the switch changed was down for that and has lost its
// routes: then what was saved counts. What appears on the NIC (a DHCP client, the
// boot scripts, a move that was interrupted) counts in any case, and after a
// reboot it replaces what was saved.
func (s situation) want() l3Config {
	switch {
	case s.state == nil || s.state.BootID != s.bootID && s.nic.usable():
		return merge(s.bridge, s.nic)
	case s.state.BridgeIndex == s.bridgeIndex && s.state.Config.MAC == s.bridge.MAC && s.bridgeUp && s.bridge.usable():
		return merge(s.bridge, s.nic)
	default:
		return merge(s.state.Config, s.nic)
	}
}

// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"fmt"
	"net/netip"
)

// Tuple is where the packets of one direction of a connection come from and go
// to. Ports are 0 for protocols without them.
type Tuple struct{ Src, Dst netip.AddrPort }

func (t Tuple) String() string { return endText(t.Src) + "->" + endText(t.Dst) }

func endText(a netip.AddrPort) string {
	if a == (netip.AddrPort{}) {
		return "any"
	}
	return a.String()
}

// Connection is a connection that a zone of the connection tracker knows, or
// chooses such connections: then a Protocol of 0, an address that is not valid
// and a port of 0 choose by nothing. Zone 0 is a zone like others.
type Connection struct {
	Zone     uint16
	Protocol uint8
	// Original has the packets of the side that began before any translation,
	// Reply those of the other side as they come back, before theirs is undone:
	// with nat(dst) its source is the endpoint.
	Original, Reply Tuple
}

func (c Connection) String() string {
	return fmt.Sprintf("zone %d, protocol %d, %v, answers %v", c.Zone, c.Protocol, c.Original, c.Reply)
}

// Chooses reports whether c chooses the connection e.
func (c Connection) Chooses(e Connection) bool {
	if c.Zone != e.Zone || c.Protocol != 0 && c.Protocol != e.Protocol {
		return false
	}
	have := e.ends()
	for i, want := range c.ends() {
		if want.Addr().IsValid() && want.Addr() != have[i].Addr() || want.Port() != 0 && want.Port() != have[i].Port() {
			return false
		}
	}
	return true
}

func (c Connection) ends() [4]netip.AddrPort {
	return [4]netip.AddrPort{c.Original.Src, c.Original.Dst, c.Reply.Src, c.Reply.Dst}
}

// Check reports why c cannot choose connections: ports of a protocol that has
// none or is not named, addresses of two families, and ICMP, of which Open
// vSwitch would compare the number of the echo too.
func (c Connection) Check() error {
	var errs []error
	bits := 0
	if c.Protocol == ProtoICMP || c.Protocol == ProtoICMPv6 {
		errs = append(errs, errors.New("ICMP cannot be chosen"))
	}
	for _, end := range c.ends() {
		a := end.Addr()
		switch {
		case !a.IsValid():
		case a.Zone() != "" || a.Is4In6():
			errs = append(errs, fmt.Errorf("%v is not an address of a packet", a))
		case bits != 0 && bits != a.BitLen():
			errs = append(errs, errors.New("addresses of two families"))
		default:
			bits = a.BitLen()
		}
		if end.Port() == 0 {
			continue
		}
		switch c.Protocol {
		case ProtoTCP, ProtoUDP, ProtoSCTP:
		default:
			errs = append(errs, fmt.Errorf("protocol %d has no ports", c.Protocol))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("connection %v: %w", c, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rules of NAT see the first packet of a connection only. A client of UDP that
// goes on to send from one port has one connection without end, and so would
// never meet a rule that came later. Therefore connections of UDP that are not
// translated as they should be are forgotten when rules change.

// translations says where UDP packets to addresses of the node go.
type translations struct {
	// local are all addresses of the node.
	local map[netip.Addr]bool
	// changed are the ports whose rules changed.
	changed map[uint16]bool
	want    serviceRules
}

// stale says whether a connection to dst, whose packets go to the address to,
// is not what the rules want.
func (t translations) stale(dst netip.AddrPort, to netip.Addr) bool {
	return t.changed[dst.Port()] && t.local[dst.Addr()] && t.of(dst) != to
}

// of returns where packets to an address of the node go.
func (t translations) of(dst netip.AddrPort) netip.Addr {
	f := t.want.family(dst.Addr().Is4())
	for _, a := range f.aliases {
		if a.Protocol == unix.IPPROTO_UDP && a.Addr == dst {
			return a.To
		}
	}
	within := len(f.within) == 0
	for _, p := range f.within {
		within = within || p.Contains(dst.Addr())
	}
	never := dst.Addr().IsLoopback() || dst.Addr().Is6() && dst.Addr().IsLinkLocalUnicast()
	if f.to.IsValid() && within && !never {
		for _, p := range t.want.ports {
			if p == (ServicePort{unix.IPPROTO_UDP, dst.Port()}) {
				return f.to
			}
		}
	}
	return dst.Addr()
}

// changedUDP returns the ports of UDP for which two sets of rules may differ:
// all of them when addresses do.
func changedUDP(a, b serviceRules) map[uint16]bool {
	in := [2]map[ServiceAlias]bool{{}, {}}
	for i, r := range []serviceRules{a, b} {
		for n, f := range r.families {
			for _, p := range r.ports {
				// As an alias that stands for all addresses of the family.
				key := ServiceAlias{Addr: netip.AddrPortFrom(netip.Addr{}, p.Port), Protocol: p.Protocol, To: f.to}
				if n == 1 {
					key.Addr = netip.AddrPortFrom(netip.IPv6Unspecified(), p.Port)
				}
				in[i][key] = true
			}
			for _, a := range f.aliases {
				in[i][a] = true
			}
		}
	}
	moved := fmt.Sprint(a.families[0].within, a.families[1].within) != fmt.Sprint(b.families[0].within, b.families[1].within)
	out := map[uint16]bool{}
	for i := range in {
		for k := range in[i] {
			if k.Protocol == unix.IPPROTO_UDP && (moved || !in[1-i][k]) {
				out[k.Addr.Port()] = true
			}
		}
	}
	return out
}

// forgetUDP has the kernel forget connections that rules do not fit any more,
// and returns how many there were.
func forgetUDP(changed map[uint16]bool, want serviceRules) (int, error) {
	if len(changed) == 0 {
		return 0, nil
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, fmt.Errorf("listing addresses: %w", err)
	}
	t := translations{local: map[netip.Addr]bool{}, changed: changed, want: want}
	for _, e := range addrs {
		if a, ok := netip.AddrFromSlice(e.IP); ok {
			t.local[a.Unmap()] = true
		}
	}
	n := 0
	var errs []error
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		var found [][]byte
		req := netfilterRequest(unix.NFNL_SUBSYS_CTNETLINK, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, family)
		err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(m []byte) bool {
			if f, ok := parseUDPFlow(m); ok && t.stale(f.dst, f.to) {
				found = append(found, slices.Clone(f.tuple))
			}
			return true
		})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // then most of them were seen
			errs = append(errs, fmt.Errorf("listing connections: %w", err))
		}
		for _, tuple := range found {
			del := netfilterRequest(unix.NFNL_SUBSYS_CTNETLINK, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, family)
			del.AddData(nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, tuple))
			if _, err := del.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("forgetting a connection: %w", err))
				continue
			}
			n++
		}
	}
	return n, errors.Join(errs...)
}

// udpFlow is a connection of UDP in conntrack's default zone.
type udpFlow struct {
	// dst is where the client sends to, and to whose answers are expected.
	dst netip.AddrPort
	to  netip.Addr
	// tuple identifies it: the content of CTA_TUPLE_ORIG, within the message.
	tuple []byte
}

// parseUDPFlow reads the body of an IPCTNL_MSG_CT_NEW message
// (linux/netfilter/nfnetlink_conntrack.h). It is false for everything else than
// a udpFlow.
func parseUDPFlow(m []byte) (f udpFlow, ok bool) {
	if len(m) < nl.SizeofNfgenmsg {
		return f, false
	}
	for typ, value := range attributes(m[nl.SizeofNfgenmsg:]) {
		switch typ {
		case nl.CTA_TUPLE_ORIG:
			f.tuple = value
			_, dst, protocol := parseTuple(value)
			if protocol != unix.IPPROTO_UDP {
				return f, false
			}
			f.dst = dst
		case nl.CTA_TUPLE_REPLY:
			f.to, _, _ = parseTuple(value)
		case nl.CTA_ZONE: // only other zones than the default have it
			return f, false
		}
	}
	return f, f.dst.IsValid() && f.to.IsValid()
}

// parseTuple returns the source address, the destination and the protocol.
func parseTuple(b []byte) (src netip.Addr, dst netip.AddrPort, protocol uint8) {
	var to netip.Addr
	var port uint16
	for typ, value := range attributes(b) {
		for inner, v := range attributes(value) {
			switch {
			case typ == nl.CTA_TUPLE_IP && (inner == nl.CTA_IP_V4_SRC || inner == nl.CTA_IP_V6_SRC):
				src, _ = netip.AddrFromSlice(v)
			case typ == nl.CTA_TUPLE_IP && (inner == nl.CTA_IP_V4_DST || inner == nl.CTA_IP_V6_DST):
				to, _ = netip.AddrFromSlice(v)
			case typ == nl.CTA_TUPLE_PROTO && inner == nl.CTA_PROTO_NUM && len(v) == 1:
				protocol = v[0]
			case typ == nl.CTA_TUPLE_PROTO && inner == nl.CTA_PROTO_DST_PORT && len(v) == 2:
				port = binary.BigEndian.Uint16(v)
			}
		}
	}
	return src, netip.AddrPortFrom(to, port), protocol
}

// attributes iterates over attributes of netlink(7), without their flags.
func attributes(b []byte) func(yield func(typ int, value []byte) bool) {
	return func(yield func(int, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofNlAttr || length > len(b) {
				return
			}
			typ := int(binary.NativeEndian.Uint16(b[2:]) & nl.NLA_TYPE_MASK)
			if !yield(typ, b[unix.SizeofNlAttr:length]) {
				return
			}
			b = b[min(len(b), (length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
		}
	}
}

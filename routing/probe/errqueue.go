// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// What port unreachable is (RFC 792, RFC 4443 section 3.1).
const (
	icmp4Unreachable, icmp4Port = 3, 3
	icmp6Unreachable, icmp6Port = 1, 4
)

// controlLen is more than an extended error and the address after it need.
const controlLen = 256

// receive takes a datagram, or an error that a packet of ours met on its way, from
// a socket. Errors that are of no use are taken from the socket too: the next
// packet is refused for them otherwise. None is left: false.
func receive(fd int, buf, control []byte) (datagram, bool) {
	for {
		n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err == nil {
			return datagram{at: time.Now(), payload: append([]byte(nil), buf[:n]...), from: addrPort(from)}, true
		}
		if errors.Is(err, unix.EBADF) {
			return datagram{}, false
		}
		// Whatever else it is, it is told once, and the queue says more of it.
		n, controls, _, to, queue := unix.Recvmsg(fd, buf, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		switch {
		case queue == nil && portUnreachable(control[:controls], addrPort(to).Addr()):
			return datagram{
				at: time.Now(), payload: append([]byte(nil), buf[:n]...), from: addrPort(to), refused: true,
			}, true
		case queue != nil && errors.Is(err, unix.EAGAIN):
			return datagram{}, false
		}
	}
}

// portUnreachable says whether the control messages of an error say that it came
// from the host that the packet was sent to, since nobody has the port open there.
// A router that rejects packets says the same in its own name.
func portUnreachable(control []byte, to netip.Addr) bool {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return false
		}
		control = rest
		v4 := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR
		v6 := h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR
		if v4 || v6 {
			return extendedError(data, to)
		}
	}
	return false
}

// extendedError reads a sock_extended_err of linux/errqueue.h, whose bytes 4 to 6
// are origin, type and code, and the address of who sent it, a sockaddr, from byte
// 16.
func extendedError(b []byte, to netip.Addr) bool {
	const offender = 16
	if len(b) < offender+2 {
		return false
	}
	var from netip.Addr
	port := false
	switch family := binary.NativeEndian.Uint16(b[offender:]); {
	case family == unix.AF_INET && len(b) >= offender+8:
		from = netip.AddrFrom4([4]byte(b[offender+4:]))
		port = b[4] == unix.SO_EE_ORIGIN_ICMP && b[5] == icmp4Unreachable && b[6] == icmp4Port
	case family == unix.AF_INET6 && len(b) >= offender+24:
		from = netip.AddrFrom16([16]byte(b[offender+8:]))
		port = b[4] == unix.SO_EE_ORIGIN_ICMP6 && b[5] == icmp6Unreachable && b[6] == icmp6Port
	}
	return port && from == to
}

// addrPort is the address of a socket; not valid when it has none.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)) //nolint:gosec // a port
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)) //nolint:gosec // a port
	}
	return netip.AddrPort{}
}

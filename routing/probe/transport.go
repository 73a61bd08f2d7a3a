// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// answering is the flow of the socket that answers.
const answering = -1

// buffer is how many bytes of datagrams wait in the kernel while the process has
// no processor: some hundred full-size packets. The kernel's default holds fewer
// than one answer of each path.
const buffer = 1 << 20

// attempts is how often a packet is sent that the kernel does not take: it may say
// so for an error that one before it met, which it tells once each.
const attempts = 3

// datagram is what came in.
type datagram struct {
	at      time.Time
	payload []byte // owned by who gets it
	from    netip.AddrPort
	to      netip.Addr // our address
	flow    int        // answering: it came to Port
	// refused: it is what from's kernel quotes of a datagram that we sent to from,
	// where nobody has the port open. It may be cut off.
	refused bool
}

// transport sends from our addresses and receives for them. Its methods are
// called by one goroutine.
type transport interface {
	// listen has sockets for exactly these addresses open. Errors name those for
	// which there are none.
	listen(local []netip.Addr) error
	// send never waits. What has no place is an error.
	send(from netip.Addr, flow int, to netip.AddrPort, b []byte) error
	// close ends all sockets, and no datagram is delivered after it.
	close()
}

// udp is the real transport.
type udp struct {
	flows   int
	deliver func(datagram) // from a goroutine a socket
	sockets map[netip.Addr][]*socket
	readers sync.WaitGroup
}

// socket is of an address and a flow.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
}

func newUDP(flows int, deliver func(datagram)) *udp {
	return &udp{flows: flows, deliver: deliver, sockets: map[netip.Addr][]*socket{}}
}

func (u *udp) listen(local []netip.Addr) error {
	for a, sockets := range u.sockets {
		if !slices.Contains(local, a) {
			shut(sockets)
			delete(u.sockets, a)
		}
	}
	var errs []error
	for _, a := range local {
		if u.sockets[a] != nil {
			continue
		}
		sockets, err := u.open(a)
		if err != nil {
			errs = append(errs, fmt.Errorf("probing from %s: %w", a, err))
			continue
		}
		u.sockets[a] = sockets
		for i, s := range sockets {
			u.readers.Go(func() { u.read(s, a, i-1) })
		}
	}
	return errors.Join(errs...)
}

func (u *udp) close() {
	for _, sockets := range u.sockets {
		shut(sockets)
	}
	u.readers.Wait()
}

func shut(sockets []*socket) {
	for _, s := range sockets {
		_ = s.conn.Close()
	}
}

// open opens the sockets of an address: the one that answers, then the flows',
// whose ports the kernel chooses.
func (u *udp) open(a netip.Addr) ([]*socket, error) {
	var sockets []*socket
	for flow := answering; flow < u.flows; flow++ {
		port := uint16(0)
		if flow == answering {
			port = Port
		}
		s, err := openUDP(netip.AddrPortFrom(a, port))
		if err != nil {
			shut(sockets)
			return nil, err
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

func openUDP(at netip.AddrPort) (*socket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) { err = options(int(fd), at.Addr().Is6()) })
		return errors.Join(control, err)
	}}
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	c, err := lc.ListenPacket(context.Background(), network, at.String())
	if err != nil {
		return nil, err
	}
	s := &socket{conn: c.(*net.UDPConn)}
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}

// options are set before a socket is bound. The address may come later than we
// do. Packets are never fragmented, and what routers said about MTUs does not
// count: a router whose word does not come through is what is looked for. Errors
// that packets meet are queued: one kind says that the other node has no agent.
func options(fd int, v6 bool) error {
	// More than the system's limit takes a privilege, which tests may not have.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if v6 {
		return errors.Join(
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1, "IPV6_FREEBIND"),
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1, "IPV6_RECVERR"),
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1, "IPV6_DONTFRAG"),
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER"))
	}
	return errors.Join(
		set(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1, "IP_FREEBIND"),
		set(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1, "IP_RECVERR"),
		set(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, "IP_MTU_DISCOVER"))
}

func set(fd, level, option, value int, name string) error {
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

// read delivers until the socket is closed.
func (u *udp) read(s *socket, to netip.Addr, flow int) {
	buf, control := make([]byte, 1<<16), make([]byte, controlLen)
	for {
		var d datagram
		err := s.raw.Read(func(fd uintptr) (got bool) {
			d, got = receive(int(fd), buf, control)
			return got
		})
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // the poller's, told once
		}
		d.to, d.flow = to, flow
		u.deliver(d)
	}
}

func (u *udp) send(from netip.Addr, flow int, to netip.AddrPort, b []byte) error {
	sockets := u.sockets[from]
	if sockets == nil {
		return fmt.Errorf("no socket for %s", from)
	}
	var sa unix.Sockaddr
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	var err error
	control := sockets[flow+1].raw.Write(func(fd uintptr) bool {
		for range attempts {
			if err = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sa); err == nil {
				break
			}
		}
		return true
	})
	if err = errors.Join(control, err); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	return nil
}

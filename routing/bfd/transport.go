// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	portSingle = 3784 // RFC 5881, 4
	portMulti  = 4784 // RFC 5883, 5
	// firstSource to lastSource are the ports to send from (RFC 5881, 4).
	firstSource, lastSource = 49152, 65535
	sourceTries             = 64
	// trafficClass is CS6, network control.
	trafficClass = 0xc0
	// datagramMax is longer than any control packet: the length field has a byte.
	datagramMax = 512
)

// datagram is what came in on one of the BFD ports.
type datagram struct {
	at       time.Time
	payload  []byte
	src, dst netip.Addr // without zone
	ifindex  int
	ttl      int // -1: unknown
	multihop bool
}

// listener is one of the sockets that receive: RFC 5881 and RFC 5883, a family
// each.
type listener struct {
	v6, multihop bool
}

// transport receives datagrams and opens what they are sent by.
type transport interface {
	// listen has exactly the wanted sockets open. Errors name those that are not.
	listen(want map[listener]bool) error
	// open returns the way for packets of a session, from a port if that is free;
	// 0: any.
	open(s Session, port uint16) (path, error)
	// close ends all sockets of listen, and no datagram is delivered after it.
	close()
}

// path sends packets of one session.
type path interface {
	send(b []byte) error
	// ifindex is the interface that the session is bound to, 0: none.
	ifindex() int
	// source is the port that packets are sent from.
	source() uint16
	close()
}

// udp is the real transport. Its methods are called by one goroutine.
type udp struct {
	deliver func(datagram) // from a goroutine a listener
	conns   map[listener]*net.UDPConn
	readers sync.WaitGroup
	used    map[uint16]bool // source ports
}

func newUDP(deliver func(datagram)) *udp {
	return &udp{deliver: deliver, conns: map[listener]*net.UDPConn{}, used: map[uint16]bool{}}
}

func (u *udp) listen(want map[listener]bool) error {
	for l, c := range u.conns {
		if !want[l] {
			_ = c.Close()
			delete(u.conns, l)
		}
	}
	var errs []error
	for l := range want {
		if u.conns[l] != nil {
			continue
		}
		c, err := l.open()
		if err != nil {
			errs = append(errs, fmt.Errorf("receiving BFD: %w", err))
			continue
		}
		u.conns[l] = c
		u.readers.Go(func() { u.read(l, c) })
	}
	return errors.Join(errs...)
}

func (u *udp) close() {
	for _, c := range u.conns {
		_ = c.Close()
	}
	u.readers.Wait()
}

// open binds the port on all addresses: packets are told apart by what they say.
func (l listener) open() (*net.UDPConn, error) {
	network, addr := "udp4", "0.0.0.0"
	if l.v6 {
		network, addr = "udp6", "[::]"
	}
	port := portSingle
	if l.multihop {
		port = portMulti
	}
	return listenUDP(network, fmt.Sprintf("%s:%d", addr, port), func(fd int) error {
		if l.v6 {
			return errors.Join(
				set(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO"),
				set(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1, "IPV6_RECVHOPLIMIT"))
		}
		return errors.Join(
			set(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1, "IP_PKTINFO"),
			set(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1, "IP_RECVTTL"))
	})
}

// read delivers until the socket is closed.
func (u *udp) read(l listener, c *net.UDPConn) {
	buf, oob := make([]byte, datagramMax), make([]byte, 256)
	for {
		n, oobn, _, src, err := c.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // an error of the socket is told once, then it is read on
		}
		d := datagram{
			at: time.Now(), payload: append([]byte(nil), buf[:n]...),
			src: src.Addr().Unmap().WithZone(""), ttl: -1, multihop: l.multihop,
		}
		d.control(oob[:oobn])
		u.deliver(d)
	}
}

// control reads TTL, destination and interface.
func (d *datagram) control(oob []byte) {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		oob = rest
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(data) >= 4,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			d.ttl = native(data)
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			d.ifindex = native(data)
			d.dst = netip.AddrFrom4([4]byte(data[8:12]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			d.dst = netip.AddrFrom16([16]byte(data[:16]))
			d.ifindex = native(data[16:])
		}
	}
}

// udpPath is a socket with a source port of its own.
type udpPath struct {
	owner *udp
	port  uint16
	conn  *net.UDPConn
	raw   syscall.RawConn
	index int
	to    unix.Sockaddr
}

func (u *udp) open(s Session, source uint16) (path, error) {
	p := &udpPath{owner: u}
	zone := uint32(0)
	if s.Interface != "" {
		i, err := net.InterfaceByName(s.Interface)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", s.Interface, err)
		}
		p.index = i.Index
		if s.Peer.IsLinkLocalUnicast() {
			zone = uint32(i.Index)
		}
	}
	port := portSingle
	if s.Multihop {
		port = portMulti
	}
	if s.Peer.Is4() {
		p.to = &unix.SockaddrInet4{Port: port, Addr: s.Peer.As4()}
	} else {
		p.to = &unix.SockaddrInet6{Port: port, Addr: s.Peer.As16(), ZoneId: zone}
	}
	if err := u.bind(p, s, source); err != nil {
		return nil, err
	}
	raw, err := p.conn.SyscallConn()
	if err != nil {
		p.close()
		return nil, fmt.Errorf("socket of BFD session %s: %w", s.Name, err)
	}
	p.raw = raw
	return p, nil
}

// bind finds a free source port, best the one that the peer knows.
func (u *udp) bind(p *udpPath, s Session, source uint16) error {
	network, host := "udp4", netip.IPv4Unspecified()
	if s.Peer.Is6() {
		network, host = "udp6", netip.IPv6Unspecified()
	}
	if s.Local.IsValid() {
		host = s.Local
		if host.Is6() && host.IsLinkLocalUnicast() {
			host = host.WithZone(s.Interface)
		}
	}
	var err error
	for i := range sourceTries {
		port := source
		if i > 0 || port == 0 {
			port = uint16(firstSource + rand.IntN(lastSource-firstSource+1))
		}
		if u.used[port] {
			continue
		}
		p.conn, err = listenUDP(network, netip.AddrPortFrom(host, port).String(), func(fd int) error {
			return options(fd, s)
		})
		if err == nil {
			p.port, u.used[port] = port, true
			return nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return fmt.Errorf("socket of BFD session %s: %w", s.Name, err)
}

// options are set on sockets that send. What they receive is never read: answers
// go to the BFD port.
func options(fd int, s Session) error {
	errs := []error{set(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1, "SO_RCVBUF")}
	if s.Peer.Is6() {
		errs = append(errs,
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255, "IPV6_UNICAST_HOPS"),
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass, "IPV6_TCLASS"))
	} else {
		errs = append(errs,
			set(fd, unix.IPPROTO_IP, unix.IP_TTL, 255, "IP_TTL"),
			set(fd, unix.IPPROTO_IP, unix.IP_TOS, trafficClass, "IP_TOS"))
	}
	if s.Interface != "" {
		if err := unix.BindToDevice(fd, s.Interface); err != nil {
			errs = append(errs, fmt.Errorf("binding to %s: %w", s.Interface, err))
		}
	}
	return errors.Join(errs...)
}

// send never waits: a packet that the kernel has no place for is lost.
func (p *udpPath) send(b []byte) error {
	var err error
	control := p.raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, p.to)
		return true
	})
	if err = errors.Join(control, err); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	return nil
}

func (p *udpPath) ifindex() int { return p.index }

func (p *udpPath) source() uint16 { return p.port }

func (p *udpPath) close() {
	_ = p.conn.Close()
	delete(p.owner.used, p.port)
}

// listenUDP opens a socket with options that are set before it is bound.
func listenUDP(network, addr string, options func(fd int) error) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) { err = options(int(fd)) })
		return errors.Join(control, err)
	}}
	c, err := lc.ListenPacket(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func set(fd, level, option, value int, name string) error {
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

// native reads an int of the kernel.
func native(b []byte) int { return int(int32(binary.NativeEndian.Uint32(b))) }

// SPDX-License-Identifier: Apache-2.0

package icmpecho

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// HeaderSize is how many bytes of a payload identify a request; a payload is
// never smaller.
const HeaderSize = 24

// Params say how to open a Socket.
type Params struct {
	Family int // 4 or 6
	// DontFragment forbids fragments on the way, and has the kernel ignore what
	// it learned about the path's MTU: a request that is too large gets lost
	// where it does not fit, or fails with EMSGSIZE on the first link.
	DontFragment bool
}

// Reply is one answer to a request of the same Socket.
type Reply struct {
	From netip.Addr
	Seq  uint64
	Sent time.Time // when the request was sent
	At   time.Time // when the reply was read
}

// Socket is a bound socket for echo requests of one family.
type Socket struct {
	conn   net.PacketConn
	raw    bool
	family int
	id     uint16
	nonce  uint64
	start  time.Time
}

// Open makes a Socket. It needs CAP_NET_RAW, or a group in
// net.ipv4.ping_group_range.
func Open(params Params) (*Socket, error) {
	s := &Socket{
		family: params.Family,
		id:     uint16(rand.Uint32()),
		nonce:  rand.Uint64(),
		start:  time.Now(),
	}
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if params.Family == 6 {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	flags := unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|flags, protocol)
	if err != nil {
		s.raw = true
		fd, err = unix.Socket(domain, unix.SOCK_RAW|flags, protocol)
	}
	if err != nil {
		return nil, fmt.Errorf("ICMP socket of IPv%d: %w", params.Family, err)
	}
	// The file's descriptor is duplicated by FilePacketConn.
	file := os.NewFile(uintptr(fd), "icmp")
	defer file.Close()
	if err := setOptions(fd, params, s.raw); err != nil {
		return nil, fmt.Errorf("ICMP socket of IPv%d: %w", params.Family, err)
	}
	if s.conn, err = net.FilePacketConn(file); err != nil {
		return nil, fmt.Errorf("ICMP socket of IPv%d: %w", params.Family, err)
	}
	return s, nil
}

func setOptions(fd int, params Params, raw bool) error {
	// Room for a burst of replies while the reader does not get to run.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	var errs []error
	if params.Family == 6 {
		if raw {
			errs = append(errs, onlyEchoReplies(fd))
		}
		if params.DontFragment {
			errs = append(errs,
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
		}
	} else if params.DontFragment {
		errs = append(errs, unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE))
	}
	return errors.Join(errs...)
}

// onlyEchoReplies has the kernel drop all other ICMPv6 (RFC 3542, section 3.2).
func onlyEchoReplies(fd int) error {
	var filter unix.ICMPv6Filter // a set bit blocks
	for i := range filter.Data {
		filter.Data[i] = ^uint32(0)
	}
	const reply = 129
	filter.Data[reply/32] &^= 1 << (reply % 32)
	return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
}

// Close closes the socket and ends a Read.
func (s *Socket) Close() error { return s.conn.Close() }

// Send sends request seq to an address with a payload of size bytes.
func (s *Socket) Send(to netip.Addr, seq uint64, size int) error {
	payload := make([]byte, max(size, HeaderSize))
	binary.BigEndian.PutUint64(payload, s.nonce)
	binary.BigEndian.PutUint64(payload[8:], seq)
	binary.BigEndian.PutUint64(payload[16:], uint64(time.Since(s.start)))
	for i := HeaderSize; i < len(payload); i++ {
		payload[i] = byte(i)
	}
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(s.id), Seq: int(uint16(seq)), Data: payload}}
	if s.family == 6 {
		message.Type = ipv6.ICMPTypeEchoRequest // the kernel writes its checksum
	}
	packet, err := message.Marshal(nil)
	if err != nil {
		return err
	}
	var address net.Addr = &net.UDPAddr{IP: to.AsSlice(), Zone: to.Zone()}
	if s.raw {
		address = &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}
	}
	_, err = s.conn.WriteTo(packet, address)
	return err
}

// Read waits for the next reply to a request of this Socket, until the deadline.
func (s *Socket) Read(deadline time.Time) (Reply, error) {
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return Reply{}, err
	}
	buffer := make([]byte, 65536)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return Reply{}, err
		}
		reply, ok := s.parse(buffer[:n])
		if !ok {
			continue
		}
		reply.At = time.Now()
		reply.From = addrOf(from)
		return reply, nil
	}
}

// parse accepts only whole and unchanged replies to requests of this Socket: a
// raw socket sees everybody's.
func (s *Socket) parse(packet []byte) (Reply, bool) {
	protocol := unix.IPPROTO_ICMP
	if s.family == 6 {
		protocol = unix.IPPROTO_ICMPV6
	}
	message, err := icmp.ParseMessage(protocol, packet)
	if err != nil {
		return Reply{}, false
	}
	if message.Type != ipv4.ICMPTypeEchoReply && message.Type != ipv6.ICMPTypeEchoReply {
		return Reply{}, false
	}
	echo, ok := message.Body.(*icmp.Echo)
	if !ok || len(echo.Data) < HeaderSize || binary.BigEndian.Uint64(echo.Data) != s.nonce {
		return Reply{}, false
	}
	for i, b := range echo.Data[HeaderSize:] {
		if b != byte(i+HeaderSize) {
			return Reply{}, false
		}
	}
	return Reply{
		Seq:  binary.BigEndian.Uint64(echo.Data[8:]),
		Sent: s.start.Add(time.Duration(binary.BigEndian.Uint64(echo.Data[16:]))),
	}, true
}

func addrOf(address net.Addr) netip.Addr {
	var ip net.IP
	switch a := address.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.IPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

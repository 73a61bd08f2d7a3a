// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/routing"
)

const (
	// probeTime bounds a probe.
	probeTime = 5 * time.Second
	// probeEvery is the least time between probes of a peer, probeSoon while
	// it has not yet said who it is.
	probeEvery = time.Minute
	probeSoon  = 10 * time.Second
)

// finding is what a probe learned.
type finding struct {
	// asn is the AS the peer says it is in, 0: it did not say.
	asn uint32
	// refusal is the peer's NOTIFICATION in words, empty: it sent none.
	refusal string
}

// probe opens a connection of its own to a peer, sends our OPEN message and
// listens to the answer, which GoBGP keeps for itself. It is sent only to
// peers with which a session has just failed over the OPEN messages, and never
// completes a session.
func probe(ctx context.Context, c routing.SpeakerConfig, p routing.Peer) (finding, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { return probeOptions(raw, c, p) }}
	if p.SourceAddress.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: p.SourceAddress.AsSlice()}
	}
	port := p.Port
	if port == 0 {
		port = bgp.BGP_PORT
	}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(p.Address.String(), strconv.Itoa(port)))
	if err != nil {
		return finding{}, fmt.Errorf("probing BGP peer %s: %w", p.Name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	open, err := probeOpen(c, p)
	if err == nil {
		_, err = conn.Write(open)
	}
	if err != nil {
		return finding{}, fmt.Errorf("probing BGP peer %s: %w", p.Name, err)
	}
	return listen(conn), nil
}

// listen reads the peer's OPEN and what follows it.
func listen(r io.Reader) finding {
	var f finding
	for range 2 {
		m, err := readMessage(r)
		if err != nil {
			break
		}
		switch body := m.Body.(type) {
		case *bgp.BGPOpen:
			f.asn = openASN(body)
		case *bgp.BGPNotification:
			f.refusal = notificationWords(body.ErrorCode, body.ErrorSubcode)
			return f
		}
	}
	return f
}

// readMessage reads one message of the ordinary size.
func readMessage(r io.Reader) (*bgp.BGPMessage, error) {
	buf := make([]byte, bgp.BGP_MAX_MESSAGE_LENGTH)
	if _, err := io.ReadFull(r, buf[:bgp.BGP_HEADER_LENGTH]); err != nil {
		return nil, fmt.Errorf("reading BGP header: %w", err)
	}
	n := int(binary.BigEndian.Uint16(buf[16:]))
	if n < bgp.BGP_HEADER_LENGTH || n > len(buf) {
		return nil, fmt.Errorf("BGP message of %d bytes", n)
	}
	if _, err := io.ReadFull(r, buf[bgp.BGP_HEADER_LENGTH:n]); err != nil {
		return nil, fmt.Errorf("reading BGP message: %w", err)
	}
	m, err := bgp.ParseBGPMessage(buf[:n])
	if err != nil {
		return nil, fmt.Errorf("parsing BGP message: %w", err)
	}
	return m, nil
}

func openASN(o *bgp.BGPOpen) uint32 {
	asn := uint32(o.MyAS)
	for _, opt := range o.OptParams {
		caps, ok := opt.(*bgp.OptionParameterCapability)
		if !ok {
			continue
		}
		for _, c := range caps.Capability {
			if as4, ok := c.(*bgp.CapFourOctetASNumber); ok {
				asn = as4.CapValue
			}
		}
	}
	return asn
}

func probeOpen(c routing.SpeakerConfig, p routing.Peer) ([]byte, error) {
	asn := localASN(c, p)
	caps := []bgp.ParameterCapabilityInterface{bgp.NewCapFourOctetASNumber(asn)}
	for _, f := range families(p) {
		caps = append(caps, bgp.NewCapMultiProtocol(bgpFamily(f)))
	}
	short := uint16(bgp.AS_TRANS)
	if asn <= 0xffff {
		short = uint16(asn)
	}
	m, err := bgp.NewBGPOpenMessage(short, uint16(seconds(p.Timers.Hold, defaultHold)), c.RouterID,
		[]bgp.OptionParameterInterface{bgp.NewOptionParameterCapability(caps)})
	if err != nil {
		return nil, fmt.Errorf("building OPEN: %w", err)
	}
	return m.Serialize()
}

// probeOptions sets what the peer's configuration asks of a connection.
func probeOptions(raw syscall.RawConn, c routing.SpeakerConfig, p routing.Peer) error {
	var err error
	ctlErr := raw.Control(func(fd uintptr) {
		ttl := 0
		switch {
		case p.GTSMHops != 0:
			ttl = 255
		case p.MultihopTTL != 0:
			ttl = int(p.MultihopTTL)
		case p.ASN != localASN(c, p):
			ttl = 1
		}
		level, option := unix.IPPROTO_IP, unix.IP_TTL
		if p.Address.Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
		}
		if ttl != 0 {
			err = unix.SetsockoptInt(int(fd), level, option, ttl)
		}
		if err == nil && p.Password != "" {
			err = unix.SetsockoptTCPMD5Sig(int(fd), unix.IPPROTO_TCP, unix.TCP_MD5SIG, md5Key(p))
		}
	})
	if ctlErr != nil {
		return fmt.Errorf("socket options: %w", ctlErr)
	}
	if err != nil {
		return fmt.Errorf("socket options: %w", err)
	}
	return nil
}

func md5Key(p routing.Peer) *unix.TCPMD5Sig {
	sig := &unix.TCPMD5Sig{Keylen: uint16(len(p.Password))}
	copy(sig.Key[:], p.Password)
	if p.Address.Is4() { // struct sockaddr_in: port, address
		sig.Addr.Family = unix.AF_INET
		copy(sig.Addr.Data[2:], p.Address.AsSlice())
	} else { // struct sockaddr_in6: port, flow label, address
		sig.Addr.Family = unix.AF_INET6
		copy(sig.Addr.Data[6:], p.Address.AsSlice())
	}
	return sig
}

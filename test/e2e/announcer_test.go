// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
)

// announcer is a BGP router that announces whatever it is told to, which a real
// one could not without believing it itself. It only speaks: what the other side
// says is read and forgotten.
type announcer struct {
	conn net.Conn
	// routerID and nextHop6 are addresses of the host it runs on.
	routerID, nextHop6 netip.Addr
	asn                uint16
	ended              chan error
}

// The types of BGP messages and path attributes (RFC 4271, RFC 4760).
const (
	bgpPort      = 179
	bgpOpen      = 1
	bgpUpdate    = 2
	bgpKeepalive = 4
	bgpHeader    = 19
	bgpMaxLength = 4096

	attrOrigin  = 1
	attrASPath  = 2
	attrNextHop = 3
	attrMPReach = 14
)

// dialAnnouncer opens a session from a host of the lab.
func dialAnnouncer(ctx context.Context, lab *cluster.Lab, hostName string, to netip.Addr, asn uint16) (*announcer, error) {
	h, err := lab.Host(hostName)
	if err != nil {
		return nil, err
	}
	conn, err := h.DialContext(ctx, "tcp", netip.AddrPortFrom(to, bgpPort).String())
	if err != nil {
		return nil, err
	}
	layout, _ := lab.Topology.Host(hostName)
	addresses := layout.Addresses()
	a := &announcer{conn: conn, asn: asn, routerID: addresses[0], nextHop6: addresses[len(addresses)-1], ended: make(chan error, 1)}
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("BGP session of %s with %s: %w", hostName, to, err), conn.Close())
	}
	go func() {
		_, err := io.Copy(io.Discard, conn)
		a.ended <- err
	}()
	return a, nil
}

// open exchanges OPEN and the first KEEPALIVE.
func (a *announcer) open(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	if err := a.conn.SetDeadline(deadline); err != nil {
		return err
	}
	// Both families (RFC 4760, section 8), and no hold time: the session lives
	// as long as the connection.
	capabilities := []byte{2, 12, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1}
	open := []byte{4, byte(a.asn >> 8), byte(a.asn), 0, 0}
	open = append(open, a.routerID.AsSlice()...)
	open = append(open, byte(len(capabilities)))
	if err := a.send(bgpOpen, append(open, capabilities...)); err != nil {
		return err
	}
	for _, want := range []byte{bgpOpen, bgpKeepalive} {
		got, body, err := a.receive()
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("message of type %d instead of %d: % x", got, want, body)
		}
		if want == bgpOpen {
			if err := a.send(bgpKeepalive, nil); err != nil {
				return err
			}
		}
	}
	return a.conn.SetDeadline(time.Time{})
}

func (a *announcer) send(kind byte, body []byte) error {
	message := make([]byte, bgpHeader, bgpHeader+len(body))
	for i := range 16 {
		message[i] = 0xff
	}
	binary.BigEndian.PutUint16(message[16:], uint16(bgpHeader+len(body)))
	message[18] = kind
	_, err := a.conn.Write(append(message, body...))
	return err
}

func (a *announcer) receive() (kind byte, body []byte, err error) {
	var header [bgpHeader]byte
	if _, err := io.ReadFull(a.conn, header[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, max(int(binary.BigEndian.Uint16(header[16:]))-bgpHeader, 0))
	_, err = io.ReadFull(a.conn, body)
	return header[18], body, err
}

// announce sends prefixes of any family in as few messages as they fit in.
func (a *announcer) announce(prefixes ...netip.Prefix) error {
	var v4, v6 []byte
	flush := func() error {
		err := errors.Join(a.update(v4, nil), a.update(nil, v6))
		v4, v6 = nil, nil
		return err
	}
	for _, p := range prefixes {
		nlri := append([]byte{byte(p.Bits())}, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
		if p.Addr().Is4() {
			v4 = append(v4, nlri...)
		} else {
			v6 = append(v6, nlri...)
		}
		if max(len(v4), len(v6)) > bgpMaxLength-200 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// update sends one UPDATE with the prefixes of one family.
func (a *announcer) update(v4, v6 []byte) error {
	if len(v4)+len(v6) == 0 {
		return nil
	}
	attributes := attribute(attrOrigin, []byte{0})
	attributes = append(attributes, attribute(attrASPath, []byte{2, 1, byte(a.asn >> 8), byte(a.asn)})...)
	if len(v6) > 0 {
		reach := append([]byte{0, 2, 1, 16}, a.nextHop6.AsSlice()...)
		attributes = append(attributes, attribute(attrMPReach, append(append(reach, 0), v6...))...)
	} else {
		attributes = append(attributes, attribute(attrNextHop, a.routerID.AsSlice())...)
	}
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attributes)))
	return a.send(bgpUpdate, append(append(body, attributes...), v4...))
}

// attribute renders a path attribute with a length of two bytes.
func attribute(kind byte, value []byte) []byte {
	const transitive, extended = 0x40, 0x10
	flags := byte(transitive | extended)
	if kind == attrMPReach {
		flags = 0x80 | extended // optional, not transitive
	}
	return append(binary.BigEndian.AppendUint16([]byte{flags, kind}, uint16(len(value))), value...)
}

// close ends the session as a crash does.
func (a *announcer) close() error {
	err := a.conn.Close()
	<-a.ended
	return err
}

// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/waymark-net/waymark/routing"
)

// message frames a BGP message.
func message(typ byte, body ...byte) []byte {
	out := make([]byte, 19, 19+len(body))
	for i := range 16 {
		out[i] = 0xff
	}
	binary.BigEndian.PutUint16(out[16:], uint16(19+len(body)))
	out[18] = typ
	return append(out, body...)
}

func attr(flags, typ byte, data ...byte) []byte {
	return append([]byte{flags, typ, byte(len(data))}, data...)
}

// update is an UPDATE message with NLRI, whose lengths are right.
func update(nlri []byte, attrs ...[]byte) []byte {
	all := slices.Concat(attrs...)
	body := []byte{0, 0, byte(len(all) >> 8), byte(len(all))}
	return message(2, slices.Concat(body, all, nlri)...)
}

var (
	origin   = attr(0x40, 1, 0)
	asPath4  = attr(0x40, 2, 2, 1, 0, 0, 0xfd, 0xea) // 65002 in four bytes
	asPath2  = attr(0x40, 2, 2, 1, 0xfd, 0xea)
	nextHop4 = attr(0x40, 3, 192, 0, 2, 2)
	net109   = []byte{24, 10, 10, 9} // 10.10.9.0/24
)

// open is an OPEN message of AS 65002.
func open(id byte, fourByteAS bool, extra ...byte) []byte {
	caps := []byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1}
	if fourByteAS {
		caps = append(caps, 65, 4, 0, 0, 0xfd, 0xea)
	}
	caps = append(caps, extra...)
	body := []byte{4, 0xfd, 0xea, 0, 90, 192, 0, 2, id, byte(2 + len(caps)), 2, byte(len(caps))}
	return message(1, append(body, caps...)...)
}

// malformed are messages of the kinds that once ended the process: of
// CVE-2026-30405, -37462, -41642, -41643, -42285, -7734 and their relatives.
var malformed = []struct {
	name     string
	twoBytes bool   // no four-byte AS numbers in this session
	caps     []byte // more capabilities in OPEN
	messages [][]byte
}{
	{name: "good", messages: [][]byte{update([]byte{24, 10, 10, 10}, origin, asPath4, nextHop4)}},
	{name: "next hop of 3 bytes", messages: [][]byte{update(net109, origin, asPath4, attr(0x40, 3, 192, 0, 2))}},
	{name: "next hop of 0 bytes", messages: [][]byte{update(net109, origin, attr(0x40, 3), asPath4)}},
	{name: "next hop of 5 bytes", messages: [][]byte{update(net109, origin, asPath4, attr(0x40, 3, 192, 0, 2, 1, 1))}},
	{name: "unknown well-known attribute", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0x40, 99, 1, 2, 3))}},
	{name: "unknown well-known attribute first", messages: [][]byte{update(net109, attr(0x40, 99), origin, asPath4, nextHop4)}},
	{name: "bad AS4_PATH before AS_PATH", twoBytes: true,
		messages: [][]byte{update(net109, attr(0xc0, 17, 2, 9, 0, 0, 0xfd), origin, asPath2, nextHop4)}},
	{name: "bad AS4_PATH last", twoBytes: true, messages: [][]byte{update(net109, origin, asPath2, nextHop4, attr(0xc0, 17, 7, 1))}},
	{name: "AS4_PATH alone", twoBytes: true, messages: [][]byte{update(net109, attr(0xc0, 17, 2, 1, 0, 0, 0xfd, 0xea))}},
	{name: "bad AS4_AGGREGATOR", twoBytes: true, messages: [][]byte{update(net109, attr(0xc0, 18, 0, 0), origin, asPath2, nextHop4, attr(0xc0, 7, 1, 2, 3, 4, 5, 6))}},
	{name: "origin without transitive flag", messages: [][]byte{update(net109, attr(0x00, 1, 0), asPath4, nextHop4)}},
	{name: "origin of 2 bytes", messages: [][]byte{update(net109, attr(0x40, 1, 0, 0), asPath4, nextHop4)}},
	{name: "origin missing", messages: [][]byte{update(net109, asPath4, nextHop4)}},
	{name: "origin twice", messages: [][]byte{update(net109, origin, origin, asPath4, nextHop4)}},
	{name: "no attributes", messages: [][]byte{update(net109)}},
	{name: "empty AS path", messages: [][]byte{update(net109, origin, attr(0x40, 2), nextHop4)}},
	{name: "AS path segment of 0", messages: [][]byte{update(net109, origin, attr(0x40, 2, 2, 0), nextHop4)}},
	{name: "AS path segment too long", messages: [][]byte{update(net109, origin, attr(0x40, 2, 2, 200, 0, 0, 0xfd, 0xea), nextHop4)}},
	{name: "AS path of confederation", messages: [][]byte{update(net109, origin, attr(0x40, 2, 3, 1, 0, 0, 0xfd, 0xea), nextHop4)}},
	{name: "attribute longer than the message", messages: [][]byte{message(2, 0, 0, 0, 4, 0x40, 1, 200, 0)}},
	{name: "attributes longer than the message", messages: [][]byte{message(2, 0, 0, 0xff, 0xff, 0x40, 1, 1, 0)}},
	{name: "attributes shorter than their sum", messages: [][]byte{message(2, slices.Concat([]byte{0, 0, 0, 9}, origin, asPath4, nextHop4, net109)...)}},
	{name: "withdrawn longer than the message", messages: [][]byte{message(2, 0xff, 0xff, 0, 0)}},
	{name: "withdrawn length of 4", messages: [][]byte{message(2, 0, 4, 0, 0)}},
	{name: "UPDATE of 0 bytes", messages: [][]byte{message(2)}},
	{name: "UPDATE of 3 bytes", messages: [][]byte{message(2, 0, 0, 0)}},
	{name: "network longer than an address", messages: [][]byte{update([]byte{33, 10, 10, 9, 0, 0}, origin, asPath4, nextHop4)}},
	{name: "network cut short", messages: [][]byte{update([]byte{24, 10}, origin, asPath4, nextHop4)}},
	{name: "withdrawn network too long", messages: [][]byte{message(2, 0, 2, 255, 1, 0, 0)}},
	{name: "MP_REACH of 0 bytes", messages: [][]byte{update(nil, origin, asPath4, attr(0x80, 14))}},
	{name: "MP_REACH without next hop", messages: [][]byte{update(nil, origin, asPath4, attr(0x80, 14, 0, 2, 1, 0, 0, 64, 0xfd, 0x10, 0, 0, 0, 0, 0, 9))}},
	{name: "MP_REACH next hop of 3", messages: [][]byte{update(nil, origin, asPath4, attr(0x80, 14, 0, 2, 1, 3, 1, 2, 3, 0, 64, 0xfd, 0x10, 0, 0, 0, 0, 0, 9))}},
	{name: "MP_REACH IPv6 with IPv4 next hop", messages: [][]byte{update(nil, origin, asPath4, attr(0x80, 14, 0, 2, 1, 4, 192, 0, 2, 2, 0, 64, 0xfd, 0x10, 0, 0, 0, 0, 0, 9))}},
	{name: "MP_REACH of unknown family", messages: [][]byte{update(nil, origin, asPath4, attr(0x80, 14, 0x40, 9, 77, 0, 0, 1, 2))}},
	{name: "MP_REACH twice", messages: [][]byte{update(nil, origin, asPath4,
		attr(0x80, 14, 0, 2, 1, 0, 0), attr(0x80, 14, 0, 2, 1, 0, 0))}},
	{name: "MP_UNREACH of 1 byte", messages: [][]byte{update(nil, attr(0x80, 15, 0))}},
	{name: "MP_UNREACH of a family not negotiated", messages: [][]byte{update(nil, attr(0x80, 15, 0, 25, 70, 1, 2, 3))}},
	{name: "communities of 3 bytes", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0xc0, 8, 1, 2, 3))}},
	{name: "extended communities of 7 bytes", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0xc0, 16, 1, 2, 3, 4, 5, 6, 7))}},
	{name: "large communities of 11 bytes", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0xc0, 32, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11))}},
	{name: "aggregator of 1 byte", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0xc0, 7, 1))}},
	{name: "local preference of 1 byte", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0x40, 5, 1))}},
	{name: "MED of 2 bytes", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0x80, 4, 1, 2))}},
	{name: "originator of 3 bytes", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0x80, 9, 1, 2, 3))}},
	{name: "tunnel encapsulation cut short", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0xc0, 23, 0, 15, 0, 200, 1))}},
	{name: "prefix SID cut short", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0xc0, 40, 5, 0, 200, 1))}},
	{name: "link state cut short", messages: [][]byte{update(net109, origin, asPath4, nextHop4, attr(0x80, 29, 4, 0, 0, 200, 1))}},
	{name: "notification of 0 bytes", messages: [][]byte{message(3)}},
	{name: "notification of 1 byte", messages: [][]byte{message(3, 6)}},
	{name: "administrative shutdown with a long text", messages: [][]byte{message(3, 6, 2, 255, 'x')}},
	{name: "hard reset with nothing", messages: [][]byte{message(3, 6, 9)}},
	{name: "hard reset with a long text", messages: [][]byte{message(3, 6, 9, 6, 2, 200, 'x')}},
	{name: "route refresh of 1 byte", messages: [][]byte{message(5, 1)}},
	{name: "OPEN in the session", messages: [][]byte{open(9, true)}},
	{name: "unknown type", messages: [][]byte{message(77, 1, 2, 3)}},
	{name: "header with a length of 0", messages: [][]byte{slices.Concat(message(4)[:16], []byte{0, 0, 4})}},
	{name: "header with the longest length", messages: [][]byte{slices.Concat(message(4)[:16], []byte{0xff, 0xff, 2}, make([]byte, 8000))}},
	{name: "no marker", messages: [][]byte{make([]byte, 64)}},
	{name: "software version of 0 bytes", caps: []byte{75, 1, 0}, messages: [][]byte{message(4)}},
	{name: "graceful restart cut short", caps: []byte{64, 3, 0, 120, 0}, messages: [][]byte{message(4)}},
	{name: "extended next hop cut short", caps: []byte{5, 3, 0, 1, 0}, messages: [][]byte{message(4)}},
	{name: "four-byte AS cut short", caps: []byte{65, 1, 0}, messages: [][]byte{message(4)}},
	{name: "capability longer than OPEN", caps: []byte{69, 200, 1}, messages: [][]byte{message(4)}},
}

// rawPeer is a peer made of bytes.
type rawPeer struct {
	listener net.Listener
	conn     chan net.Conn // the first connection, after our messages were sent
}

// startRawPeer waits for the speaker on addr, completes a session as far as
// open allows, and sends messages.
func startRawPeer(t *testing.T, wg *sync.WaitGroup, addr string, open []byte, messages ...[]byte) *rawPeer {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{listener: l, conn: make(chan net.Conn, 1)}
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write(open)
		_, _ = c.Write(message(4))
		for _, m := range messages {
			if _, err := c.Write(m); err != nil {
				break
			}
		}
		p.conn <- c
		_, _ = io.Copy(io.Discard, c)
	})
	t.Cleanup(func() {
		_ = l.Close()
		select {
		case c := <-p.conn:
			_ = c.Close()
		default:
		}
	})
	return p
}

// mutations returns copies of a good UPDATE with some bytes of its body
// changed, the same for the same seed.
func mutations(seed uint64, n int) [][]byte {
	r := rand.New(rand.NewPCG(seed, 77))
	good := [][]byte{
		update(net109, origin, asPath4, nextHop4, attr(0xc0, 8, 0xfd, 0xea, 0, 7), attr(0xc0, 16, 0, 2, 0xfd, 0xea, 0, 0, 0, 7)),
		update(nil, origin, asPath4, attr(0x80, 14, slices.Concat([]byte{0, 2, 1, 16}, ip("2001:db8::2").AsSlice(), []byte{0, 64, 0xfd, 0x10, 0, 0, 0, 0, 0, 9})...)),
		message(2, slices.Concat([]byte{0, 4}, net109, []byte{0, 0})...),
	}
	out := make([][]byte, 0, n)
	for range n {
		m := slices.Clone(good[r.IntN(len(good))])
		for range 1 + r.IntN(4) {
			m[19+r.IntN(len(m)-19)] = byte(r.Uint32())
		}
		out = append(out, m)
	}
	return out
}

// TestMalformedMessages has a peer for every kind of malformed message and
// some for random ones, all at once: the process lives, what can be read of a
// peer's words is in its status, and a peer that behaves is not touched.
func TestMalformedMessages(t *testing.T) {
	const node = "127.0.9.1"
	s := startSpeaker(t)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	c := conf(end{node, 65001, -1})
	addr := netip.MustParseAddr("127.0.10.1")
	add := func(name string, open []byte, messages ...[]byte) {
		p := startRawPeer(t, &wg, addr.String(), open, messages...)
		c.Peers = append(c.Peers, routing.Peer{
			Name: name, Address: addr, ASN: 65002, SourceAddress: ip(node),
			Port: p.listener.Addr().(*net.TCPAddr).Port,
		})
		addr = addr.Next()
	}
	for i, m := range malformed {
		add(m.name, open(byte(i), !m.twoBytes, m.caps...), m.messages...)
	}
	for seed := range uint64(60) {
		add(fmt.Sprintf("random %d", seed), open(byte(seed), true), mutations(seed, 40)...)
	}
	s.set(c)
	for _, p := range c.Peers {
		s.eventually(p.Name, func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
			i := slices.IndexFunc(ss, func(st routing.SessionStatus) bool { return st.Peer == p.Name })
			return i >= 0 && (ss[i].State == routing.SessionEstablished || ss[i].LastError != "")
		})
	}
	s.eventually("the good peer's route", func(ev routing.PathEvent, _ []routing.SessionStatus) bool {
		return slices.ContainsFunc(ev.Routes, func(r routing.LearnedRoute) bool {
			return r.Prefix == pfx("10.10.10.0/24") && slices.Contains(r.Peers, "good")
		})
	})
	for _, st := range s.Sessions() {
		t.Logf("%-40s %-12s %s %q", st.Peer, st.State, st.LastError, st.Warnings)
		if st.Peer == "good" && (st.State != routing.SessionEstablished || st.LastError != "") {
			t.Errorf("the good peer is %s: %s", st.State, st.LastError)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The speaker still works.
	c.Peers = c.Peers[:1]
	p := startRawPeer(t, &wg, addr.String(), open(250, true), malformed[0].messages...)
	c.Peers[0].Address, c.Peers[0].Port = addr, p.listener.Addr().(*net.TCPAddr).Port
	s.set(c)
	s.eventually("learned again", has(route("10.10.10.0/24", "192.0.2.2", "good")))
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
)

// memory is a network of engines. A packet takes half a millisecond.
type memory struct {
	mu    sync.Mutex
	nodes map[netip.Addr]*memoryNode
	// errors has a node whose engine has ended send ICMP errors, to these addresses.
	errors map[netip.Addr]*bucket
	lose   func(from netip.Addr, port netip.AddrPort, flow, length int) bool
}

// memoryNode is the transport of an engine. Flow n sends from port 50000 + n.
type memoryNode struct {
	net     *memory
	deliver func(datagram)
	local   []netip.Addr
	deaf    error
}

func (n *memoryNode) listen(local []netip.Addr) error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.deaf != nil {
		return n.deaf
	}
	n.local = local
	for _, a := range local {
		n.net.nodes[a] = n
	}
	return nil
}

func (n *memoryNode) close() {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.deliver = nil
}

func (n *memoryNode) send(from netip.Addr, flow int, to netip.AddrPort, b []byte) error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.net.nodes[from] != n {
		return errors.New("no such address")
	}
	n.net.carry(from, flow, to, b)
	return nil
}

// carry is called with the lock held.
func (m *memory) carry(from netip.Addr, flow int, to netip.AddrPort, b []byte) {
	if m.lose != nil && m.lose(from, to, flow, len(b)) {
		return
	}
	port, at := uint16(Port), answering
	if flow != answering {
		port = 50000 + uint16(flow)
	}
	if to.Port() != Port {
		at = int(to.Port()) - 50000
	}
	b = bytes.Clone(b)
	time.AfterFunc(500*time.Microsecond, func() {
		m.mu.Lock()
		var deliver func(datagram)
		d := datagram{at: time.Now(), payload: b, from: netip.AddrPortFrom(from, port), to: to.Addr(), flow: at}
		if n := m.nodes[to.Addr()]; n != nil {
			deliver = n.deliver
			if back := m.nodes[from]; deliver == nil && back != nil && m.errors[from] != nil && m.errors[from].take(time.Now()) {
				deliver = back.deliver
				d = datagram{at: time.Now(), payload: b[:min(len(b), 520)], from: to, to: from, flow: flow, refused: true}
			}
		}
		m.mu.Unlock()
		if deliver != nil {
			deliver(d)
		}
	})
}

// set changes what is lost.
func (m *memory) set(lose func(from netip.Addr, to netip.AddrPort, flow, length int) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose = lose
}

// node is an engine with its transport, and what it told.
type node struct {
	*Engine
	transport *memoryNode
	mu        sync.Mutex
	told      []string
	stop      func()
}

func (m *memory) node(t *testing.T, p Params) *node {
	t.Helper()
	n := &node{transport: &memoryNode{net: m}}
	p.OnVerdicts = func(vs []Verdict) {
		var s []string
		for _, v := range vs {
			s = append(s, fmt.Sprintf("%s %s %v %s", v.Node, v.Family, v.Works, v.Class))
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.told = append(n.told, strings.Join(s, ", "))
	}
	n.Engine = New(p)
	n.newTransport = func(deliver func(datagram)) transport {
		n.transport.deliver = deliver
		return n.transport
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return n
}

func (n *node) verdicts(t *testing.T, after time.Duration, want ...string) []Verdict {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	vs := n.Status()
	var got []string
	for _, v := range vs {
		got = append(got, fmt.Sprintf("%s %s %v: %s", v.Node, v.Family, v.Works, v.Reason))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("verdicts (-want +got):\n%s\n%+v", diff, n.Counters())
	}
	return vs
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var (
	a4, a6 = addr("10.0.1.254"), addr("2001:db8:1::fe")
	b4, b6 = addr("10.0.2.254"), addr("2001:db8:2::fe")
	aConf  = Config{
		Local: []netip.Addr{a4, a6}, Answer: []netip.Addr{b4, b6},
		Targets: []Target{
			{Node: "b", Family: routing.IPv4, Address: b4, Size: 1450, Route: "r"},
			{Node: "b", Family: routing.IPv6, Address: b6, Size: 1450, Route: "r"},
		},
	}
	bConf = Config{
		Local: []netip.Addr{b4, b6}, Answer: []netip.Addr{a4, a6},
		Targets: []Target{
			{Node: "a", Family: routing.IPv4, Address: a4, Size: 1450, Route: "r"},
			{Node: "a", Family: routing.IPv6, Address: a6, Size: 1450, Route: "r"},
		},
	}
)

const answeredWords = "answered on all 8 flows, packets of 1450 bytes too"

// together runs body with two engines that have proven their paths.
func together(t *testing.T, body func(t *testing.T, m *memory, a, b *node)) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{nodes: map[netip.Addr]*memoryNode{}}
		a, b := m.node(t, Params{}), m.node(t, Params{})
		defer a.stop()
		defer b.stop()
		for _, err := range []error{a.Set(t.Context(), aConf), b.Set(t.Context(), bConf)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		a.verdicts(t, time.Second, "b IPv4 true: "+answeredWords, "b IPv6 true: "+answeredWords)
		b.verdicts(t, 0, "a IPv4 true: "+answeredWords, "a IPv6 true: "+answeredWords)
		body(t, m, a, b)
	})
}

// TestOneWay: what is lost in one direction fails both nodes' paths, of that
// family alone.
func TestOneWay(t *testing.T) {
	together(t, func(t *testing.T, m *memory, a, b *node) {
		m.set(func(from netip.Addr, _ netip.AddrPort, _, _ int) bool { return from == a4 })
		vs := a.verdicts(t, 700*ms, "b IPv4 false: no answer on any flow", "b IPv6 true: "+answeredWords)
		if vs[1].RTT != ms || vs[0].Interval != 200*ms || vs[0].Failures != 1 {
			t.Errorf("%+v", vs)
		}
		b.verdicts(t, 0, "a IPv4 false: no answer on any flow", "a IPv6 true: "+answeredWords)
		m.set(nil)
		a.verdicts(t, 3800*ms, "b IPv4 false: answered for 3s of 5s after 1 failure", "b IPv6 true: "+answeredWords)
		a.verdicts(t, 2*time.Second, "b IPv4 true: "+answeredWords, "b IPv6 true: "+answeredWords)
		a.mu.Lock()
		defer a.mu.Unlock()
		want := []string{
			"b IPv4 false unproven, b IPv6 false unproven", "b IPv4 true answered, b IPv6 true answered",
			"b IPv4 false no-answer, b IPv6 true answered", "b IPv4 false hold, b IPv6 true answered",
			"b IPv4 true answered, b IPv6 true answered",
		}
		// The families prove themselves one after the other.
		var told []string
		for _, s := range a.told {
			if s != "b IPv4 true answered, b IPv6 false unproven" && s != "b IPv4 false unproven, b IPv6 true answered" {
				told = append(told, s)
			}
		}
		// Nothing new is told again when a verdict changed while it was being told.
		if diff := cmp.Diff(want, slices.Compact(told)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// TestBlackHole: big packets are lost, or a flow.
func TestBlackHole(t *testing.T) {
	together(t, func(t *testing.T, m *memory, a, _ *node) {
		m.set(func(_ netip.Addr, to netip.AddrPort, _, length int) bool { return to.Addr() == b6 && length > 1400-48 })
		a.verdicts(t, 2*time.Second, "b IPv4 true: "+answeredWords,
			"b IPv6 false: no answer to packets of 1450 bytes on 8 of 8 flows, small ones are answered")
		m.set(func(_ netip.Addr, to netip.AddrPort, flow, _ int) bool { return to.Addr() == b4 && flow == 2 })
		a.verdicts(t, 2*time.Second, "b IPv4 false: no answer on 1 of 8 flows",
			"b IPv6 false: answered for 1s of 5s after 1 failure")
	})
}

// TestPeerLeaves: an engine that ends answers no more, and who is not to be
// answered is not.
func TestPeerLeaves(t *testing.T) {
	together(t, func(t *testing.T, _ *memory, a, b *node) {
		c := bConf
		c.Answer = []netip.Addr{a6}
		if err := b.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		a.verdicts(t, time.Second, "b IPv4 false: no answer on any flow", "b IPv6 true: "+answeredWords)
		if b.Counters().Discarded[DiscardSource] == 0 {
			t.Errorf("%+v", b.Counters())
		}
		b.stop()
		a.verdicts(t, time.Second, "b IPv4 false: no answer on any flow", "b IPv6 false: no answer on any flow")
		if err := b.Set(t.Context(), c); !errors.Is(err, ErrStopped) {
			t.Errorf("Set after the end: %v", err)
		}
	})
}

// TestSet: what stays is not disturbed, what goes is forgotten.
func TestSet(t *testing.T) {
	together(t, func(t *testing.T, _ *memory, a, _ *node) {
		before := a.Status()
		for range 10 {
			if err := a.Set(t.Context(), aConf); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(before, a.Status()); diff != "" {
			t.Errorf("set again (-before +after):\n%s", diff)
		}
		c := aConf
		c.Targets = aConf.Targets[:1]
		if err := a.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		a.verdicts(t, 0, "b IPv4 true: "+answeredWords)
		a.mu.Lock()
		if last := a.told[len(a.told)-1]; last != "b IPv4 true answered" {
			t.Errorf("told %q", last)
		}
		a.mu.Unlock()
		if err := a.Set(t.Context(), aConf); err != nil {
			t.Fatal(err)
		}
		a.verdicts(t, 0, "b IPv4 true: "+answeredWords, "b IPv6 false: not answered yet")
	})
}

// TestForged: replies must come from where they were asked for.
func TestForged(t *testing.T) {
	together(t, func(t *testing.T, m *memory, a, _ *node) {
		forge := func(from netip.Addr, flow int, to netip.AddrPort, p packet) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.carry(from, flow, to, p.bytes())
		}
		before := a.Counters()
		flow0 := netip.AddrPortFrom(a4, 50000)
		good := packet{Type: typeReply, Nonce: a.nonce, Seq: 1, Length: headerLen}
		other := good
		other.Nonce++
		request := good
		request.Type = typeRequest
		forge(addr("10.0.9.9"), answering, flow0, good)          // source
		forge(b4, 1, flow0, good)                                // source: not the port
		forge(b4, answering, flow0, other)                       // nonce
		forge(b4, answering, flow0, good)                        // sequence: answered long ago
		forge(b4, answering, flow0, request)                     // type: not to our port
		forge(b4, answering, netip.AddrPortFrom(a4, Port), good) // type: not to a flow
		time.Sleep(ms)
		synctest.Wait()
		want := map[Discard]uint64{DiscardSource: 2, DiscardNonce: 1, DiscardSequence: 1, DiscardType: 2}
		got := map[Discard]uint64{}
		for d, n := range a.Counters().Discarded {
			if n -= before.Discarded[d]; n != 0 {
				got[d] = n
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestSocketLater: a socket that cannot be opened is an error, is seen in the
// reason, and is tried again.
func TestSocketLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{nodes: map[netip.Addr]*memoryNode{}}
		a, b := m.node(t, Params{}), m.node(t, Params{})
		defer a.stop()
		defer b.stop()
		a.transport.deaf = errors.New("in use")
		if err := a.Set(t.Context(), aConf); err == nil || err.Error() != "in use" {
			t.Errorf("Set: %v", err)
		}
		if err := b.Set(t.Context(), bConf); err != nil {
			t.Fatal(err)
		}
		a.verdicts(t, 3*time.Second, "b IPv4 false: no answer yet on any flow (no such address)",
			"b IPv6 false: no answer yet on any flow (no such address)")
		m.mu.Lock()
		a.transport.deaf = nil
		m.mu.Unlock()
		a.verdicts(t, 3*time.Second, "b IPv4 true: "+answeredWords, "b IPv6 true: "+answeredWords)
	})
}

// TestBudget: with many targets the interval grows, and the node keeps to its
// budget.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{nodes: map[netip.Addr]*memoryNode{}}
		a := m.node(t, Params{Budget: 500})
		defer a.stop()
		c := Config{Local: []netip.Addr{a4}}
		for i := range 100 {
			c.Targets = append(c.Targets, Target{
				Node: fmt.Sprint(i), Family: routing.IPv4, Address: netip.AddrFrom4([4]byte{10, 1, byte(i), 1}), Size: 1450, Route: "r",
			})
		}
		if err := a.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if i := a.Status()[0].Interval; i < 4400*ms || i > 4500*ms {
			t.Errorf("interval %v", i)
		}
		if n := a.Counters().Sent; n < 20*150 || n > 20*250 {
			t.Errorf("%d requests in 20 s", n)
		}
		// Requests of a peer that knows no measure.
		c = Config{Local: []netip.Addr{a4}, Answer: []netip.Addr{b4}}
		if err := a.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		for range 900 {
			m.carry(b4, 0, netip.AddrPortFrom(a4, Port), packet{Type: typeRequest, Length: headerLen}.bytes())
		}
		m.mu.Unlock()
		time.Sleep(ms)
		synctest.Wait()
		if c := a.Counters(); c.Answered != 125 || c.Discarded[DiscardRateLimit] != 775 {
			t.Errorf("%+v", c)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
	"github.com/waymark-net/waymark/service/random"
)

// mostOpen is how many connections go on at most.
const mostOpen = 16

// check sends a packet that begins a connection, once for every bucket that it
// may meet, and holds what becomes of it against naive.
func (n *node) check(p naive.Packet) error {
	want := n.cluster.Verdict(p)
	n.count.verdict(p, want)
	switch p = n.fresh(p); {
	case want.Outcome == naive.Refused:
		return n.expect(p, want, between(flow.PortController, p.Source, p.Destination))
	case want.Outcome == naive.Dropped:
		return n.expect(p, want, nowhere)
	case want.Outcome == naive.Passes:
		return n.expect(p, want, n.passes(p))
	case want.Service.Affinity > 0:
		return n.checkAffinity(p, want)
	}
	return n.checkShares(p, want, n.begin)
}

// begin begins a connection that one of several endpoints gets, which answers.
func (n *node) begin(p naive.Packet, want naive.Verdict) (connection, error) {
	v := n.packet(p.From, p.Source, p.Destination, p.Protocol)
	got := leaves(v)
	for _, e := range want.Endpoints {
		c := connection{first: p, set: want.Set, endpoint: e}
		if !strings.HasSuffix(got, e.String()) || got != n.arrives(c) {
			continue
		}
		if len(n.open) < mostOpen || p.Source.Port()%8 == 0 {
			n.open = append(n.open[max(0, len(n.open)+1-mostOpen):], c)
		}
		return c, n.answer(c)
	}
	return connection{}, fmt.Errorf("%s: %s, wants one of %v (%s); it met:\n%s", p, got, want.Endpoints, want.Why, v.Met())
}

// goOn sends further packets of every open connection, both ways.
func (n *node) goOn() error {
	for _, c := range n.open {
		n.count.connections.Add(1)
		p := c.first
		if v := n.packet(p.From, p.Source, p.Destination, p.Protocol); leaves(v) != n.arrives(c) {
			return fmt.Errorf("%s, of a connection to %s: %s, wants %s; it met:\n%s", p, c.endpoint, leaves(v), n.arrives(c), v.Met())
		}
		if err := n.answer(c); err != nil {
			return err
		}
	}
	return nil
}

// answer sends what the endpoint answers.
func (n *node) answer(c connection) error {
	p := c.first
	from := n.behind(c.endpoint.Addr())
	if n.byKernel(c) {
		from = naive.FromOutside
	}
	v := n.packet(from, c.endpoint.AddrPort, n.seen(c), p.Protocol)
	want := between(n.portOf(p.From, p.Source.Addr()), p.Destination, p.Source)
	if leaves(v) != want {
		return fmt.Errorf("answer of %s to %s: %s, wants %s; it met:\n%s", c.endpoint, p, leaves(v), want, v.Met())
	}
	return nil
}

// seen is what the endpoint of a connection sees as its client.
func (n *node) seen(c connection) netip.AddrPort {
	source := c.first.Source
	is4 := source.Addr().Is4()
	instead := func(four, six netip.Addr) netip.AddrPort {
		if is4 {
			return netip.AddrPortFrom(four, source.Port())
		}
		return netip.AddrPortFrom(six, source.Port())
	}
	switch {
	case n.byKernel(c) && !slices.Contains(random.NodeAddrs, c.endpoint.Addr()):
		return source // which the kernel replaces
	case c.endpoint.Replaced:
		return instead(serviceAddrs[0], serviceAddrs[1])
	case source.Addr() == c.endpoint.Addr(): // a Pod reaches itself
		return instead(pipeline.Hairpin4, pipeline.Hairpin6)
	}
	return source
}

// byKernel reports whether the kernel carries a connection on to its endpoint: what
// the node itself began at a NodePort.
func (n *node) byKernel(c connection) bool {
	return slices.Contains(n.cluster.NodeClients[:], c.first.Source.Addr())
}

// arrives is how a packet of a connection leaves for its endpoint.
func (n *node) arrives(c connection) string {
	to := c.endpoint.Addr()
	if n.byKernel(c) {
		return between(gatewayPort, n.seen(c), c.endpoint.AddrPort)
	}
	return between(n.portOf(n.behind(to), to), n.seen(c), c.endpoint.AddrPort)
}

// passes is what becomes of a packet that is not for a Service.
func (n *node) passes(p naive.Packet) string {
	to := p.Destination.Addr()
	out := n.behind(to)
	switch {
	case out == naive.FromOutside && (p.From == naive.FromNode || p.From == naive.FromOutside):
		return nowhere // back to the kernel would be a loop
	case out == naive.FromTunnel && p.From == naive.FromTunnel:
		out = naive.FromOutside
	}
	return between(n.portOf(out, to), p.Source, p.Destination)
}

// behind says what is at an address: a Pod of the node, the tunnel, or what the
// kernel leads to.
func (n *node) behind(a netip.Addr) naive.Origin {
	switch {
	case slices.Contains(n.cluster.Pods, a):
		return naive.FromPod
	case slices.ContainsFunc(random.TunnelCIDRs, func(p netip.Prefix) bool { return p.Contains(a) }):
		return naive.FromTunnel
	}
	return naive.FromOutside
}

// portOf is the port of the switch by which an address is reached.
func (n *node) portOf(o naive.Origin, a netip.Addr) uint32 {
	switch o {
	case naive.FromPod:
		return firstPod + uint32(slices.Index(n.cluster.Pods, a)/2)
	case naive.FromTunnel:
		return tunnelPort
	}
	return gatewayPort
}

// fresh gives a packet the port of a client that has none yet.
func (n *node) fresh(p naive.Packet) naive.Packet {
	n.nextPort += 2
	p.Source = netip.AddrPortFrom(p.Source.Addr(), n.nextPort)
	return p
}

// packet sends a packet.
func (n *node) packet(from naive.Origin, src, dst netip.AddrPort, protocol service.Protocol) ovstest.Verdict {
	n.count.traces.Add(1)
	return n.sw.Trace(n.fields(from, src, dst, protocol))
}

// fields are those of a packet.
func (n *node) fields(from naive.Origin, src, dst netip.AddrPort, protocol service.Protocol) ovstest.Packet {
	port := n.portOf(from, src.Addr())
	hop := ovstest.Hop{InPort: port, Src: macOf(port), Dst: pipeline.GatewayMAC()}
	p := ovstest.IP(hop, src.Addr(), dst.Addr(), uint8(protocol))
	srcField, dstField := flow.FieldTCPSrc, flow.FieldTCPDst
	switch protocol {
	case service.UDP:
		srcField, dstField = flow.FieldUDPSrc, flow.FieldUDPDst
	case service.SCTP:
		srcField, dstField = flow.FieldSCTPSrc, flow.FieldSCTPDst
	}
	p = append(p, flow.Uint(srcField, uint64(src.Port())), flow.Uint(dstField, uint64(dst.Port())))
	if from == naive.FromTunnel {
		p = append(p, flow.Addr(flow.FieldTunSrc, tunnel.Remote), flow.Addr(flow.FieldTunDst, tunnel.Local))
	}
	return p
}

// expect sends a packet of which one thing only can become.
func (n *node) expect(p naive.Packet, verdict naive.Verdict, want string) error {
	if v := n.packet(p.From, p.Source, p.Destination, p.Protocol); leaves(v) != want {
		return fmt.Errorf("%s: %s, wants %s (%s: %s); it met:\n%s", p, leaves(v), want, verdict.Outcome, verdict.Why, v.Met())
	}
	return nil
}

const nowhere = "nowhere"

func between(port uint32, src, dst netip.AddrPort) string {
	return fmt.Sprintf("by port %d: %s -> %s", port, src, dst)
}

// leaves says where a packet leaves the switch, and with which addresses and
// ports.
func leaves(v ovstest.Verdict) string {
	if v.Err != nil {
		return v.String()
	}
	var out []string
	for _, o := range v.Outputs {
		src, dst := ovstest.Ends(o.Packet)
		out = append(out, between(o.Port, src, dst))
	}
	if len(out) == 0 {
		return nowhere
	}
	return strings.Join(out, ", ")
}

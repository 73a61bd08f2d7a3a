// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

var (
	gatewayPort = uint32(1)
	gatewayMAC  = pipeline.GatewayMAC()
)

// node is a fake switch with the flows of a node and its Pods, and an Engine
// that keeps the flows of policies in it.
type node struct {
	t      testing.TB
	sw     *ovstest.Switch
	engine *Engine
	// pods are the local Pods that have an interface, by OpenFlow port.
	pods map[uint32]localPod
	// local says of connections whether their client was a local Pod when they
	// began.
	local map[packet]bool
}

type localPod struct {
	local LocalPod
	addrs []netip.Addr
	mac   net.HardwareAddr
}

func newNode(t testing.TB, params Params) *node {
	t.Helper()
	var tables []uint8
	for _, tb := range pipeline.Tables() {
		tables = append(tables, tb.ID)
	}
	n := &node{t: t, sw: ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables}), engine: New(params), pods: map[uint32]localPod{}, local: map[packet]bool{}}
	gateway := pipeline.Gateway(pipeline.GatewayParams{
		Port: gatewayPort, Addrs: addresses("10.0.1.1", "fd00:0:0:1::1"), NodeAddrs: addresses("198.51.100.1", "fdfe::1"),
	})
	for owner, flows := range map[string][]flow.Flow{pipeline.OwnerBase: pipeline.Base(), pipeline.OwnerGateway: gateway, OwnerDenied: Denied{}.Flows()} {
		if err := n.sw.Update(owner, flows, nil); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func addresses(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// podAt is the Pod number n of the node; its port is 10 + n.
func podAt(n int) localPod {
	return localPod{
		local: LocalPod{Port: uint32(10 + n), Pod: policy.PodKey{Namespace: "ns", Name: fmt.Sprintf("pod-%d", n)}, UID: fmt.Sprintf("uid-%d", n)},
		addrs: addresses(fmt.Sprintf("10.0.1.%d", 10+n), fmt.Sprintf("fd00:0:0:1::%d", 10+n)),
		mac:   net.HardwareAddr{2, 0, 0, 0, 0, byte(10 + n)},
	}
}

// attach and detach change interfaces in the switch; the Engine is told by apply.
func (n *node) attach(p localPod) LocalPod {
	n.t.Helper()
	flows := pipeline.Pod(pipeline.PodPort{Port: p.local.Port, MAC: p.mac, Addrs: p.addrs})
	if err := n.sw.Update(pipeline.OwnerPod(fmt.Sprint(p.local.Port)), flows, nil); err != nil {
		n.t.Fatal(err)
	}
	n.pods[p.local.Port] = p
	return p.local
}

func (n *node) detach(p localPod) uint32 {
	n.sw.Delete(pipeline.OwnerPod(fmt.Sprint(p.local.Port)))
	delete(n.pods, p.local.Port)
	return p.local.Port
}

func (n *node) apply(c Change) Patch {
	n.t.Helper()
	patch := n.engine.Apply(c)
	if err := n.sw.Patch(patch.Changes...); err != nil {
		n.t.Fatal(err)
	}
	for _, owner := range n.sw.Owners() {
		text, isPort := strings.CutPrefix(owner, OwnerPort(0)[:len(OwnerPort(0))-1])
		if number, _ := strconv.ParseUint(text, 10, 32); isPort && n.pods[uint32(number)].local.Port == 0 {
			n.t.Errorf("%s has flows without an interface", owner)
		}
	}
	return patch
}

// packet is a packet of a connection, in either direction.
type packet struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
}

func (p packet) answer() packet {
	return packet{src: p.dst, dst: p.src, proto: p.proto, sport: p.dport, dport: p.sport}
}

func (p packet) String() string {
	return fmt.Sprintf("%v %v -> %v", policy.Protocol(p.proto), netip.AddrPortFrom(p.src, p.sport), netip.AddrPortFrom(p.dst, p.dport))
}

// at is the local Pod with an address.
func (n *node) at(a netip.Addr) (localPod, bool) {
	for _, p := range n.pods {
		if slices.Contains(p.addrs, a) {
			return p, true
		}
	}
	return localPod{}, false
}

// send sends a packet, as an answer or not.
func (n *node) send(p packet, answer bool) ovstest.Verdict { return n.sw.Trace(n.packet(p, answer)) }

// packet is the packet as it reaches the switch.
func (n *node) packet(p packet, answer bool) ovstest.Packet {
	hop := ovstest.Hop{InPort: gatewayPort, Src: gatewayMAC, Dst: gatewayMAC}
	if from, local := n.at(p.src); local {
		hop = ovstest.Hop{InPort: from.local.Port, Src: from.mac, Dst: gatewayMAC}
	}
	switch p.proto {
	case flow.ProtoTCP:
		return ovstest.TCP(hop, p.src, p.dst, p.sport, p.dport)
	case flow.ProtoUDP:
		return ovstest.UDP(hop, p.src, p.dst, p.sport, p.dport)
	case flow.ProtoSCTP:
		return append(ovstest.IP(hop, p.src, p.dst, p.proto),
			flow.Uint(flow.FieldSCTPSrc, uint64(p.sport)), flow.Uint(flow.FieldSCTPDst, uint64(p.dport)))
	}
	kind := map[bool][2]uint8{false: {8, 128}, true: {0, 129}}[answer]
	if p.src.Is4() {
		return ovstest.ICMP(hop, p.src, p.dst, kind[0], 0)
	}
	return ovstest.ICMP(hop, p.src, p.dst, kind[1], 0)
}

// want is what becomes of a packet if it is allowed.
func (n *node) want(p packet) string {
	if to, local := n.at(p.dst); local {
		return fmt.Sprintf("output:%d", to.local.Port)
	}
	return fmt.Sprintf("output:%d", gatewayPort)
}

// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/testgolden"
	"github.com/waymark-net/waymark/ovs/flow"
)

// The addresses of the example node and its neighbours.
var (
	gw4, gw6     = netip.MustParseAddr("10.10.1.1"), netip.MustParseAddr("fd10:0:0:1::1")
	podA4, podA6 = netip.MustParseAddr("10.10.1.2"), netip.MustParseAddr("fd10:0:0:1::2")
	podB4, podB6 = netip.MustParseAddr("10.10.1.3"), netip.MustParseAddr("fd10:0:0:1::3")
	svc4, svc6   = netip.MustParseAddr("10.10.1.254"), netip.MustParseAddr("fd10:0:0:1::fe")
	macA, macB   = net.HardwareAddr{0x0e, 0, 0, 0, 0, 0xa}, net.HardwareAddr{0x0e, 0, 0, 0, 0, 0xb}
	macC, macD   = net.HardwareAddr{0x0e, 0, 0, 0, 0, 0xc}, net.HardwareAddr{0x0e, 0, 0, 0, 0, 0xd}
)

const (
	portGateway, portTunnel uint32 = 1, 2
	portA, portB            uint32 = 11, 12
	portC, portD            uint32 = 13, 14
)

func addrs(ss ...string) []netip.Addr {
	out := make([]netip.Addr, 0, len(ss))
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func gateway(addrs ...netip.Addr) GatewayParams {
	return GatewayParams{
		Port: portGateway, TunnelPorts: []uint32{portTunnel}, Addrs: addrs,
		NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1"), addrs[0]},
		Services:  true, ServiceAddrs: serviceAddrs(addrs),
	}
}

// serviceAddrs are those of the families of gateways.
func serviceAddrs(gateways []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, g := range gateways {
		if g.Is4() {
			out = append(out, svc4)
		} else {
			out = append(out, svc6)
		}
	}
	return out
}

func podA(addrs ...netip.Addr) PodPort { return PodPort{Port: portA, MAC: macA, Addrs: addrs} }

func remote() NodeParams {
	return NodeParams{
		Sources:    addrs("192.0.2.2"),
		TunnelPort: portTunnel,
		Endpoint:   encap.Endpoint{Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.2")},
		PodCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.10.2.0/24"), netip.MustParsePrefix("fd10:0:0:2::/64")},
		Addrs:      []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fd00::2")},
	}
}

// remote6 is reached over an IPv6 underlay; only its IPv6 Pods by the tunnel.
func remote6() NodeParams {
	return NodeParams{
		Sources:    addrs("fd00::3"),
		TunnelPort: portTunnel,
		Endpoint:   encap.Endpoint{Local: netip.MustParseAddr("fd00::1"), Remote: netip.MustParseAddr("fd00::3")},
		PodCIDRs:   []netip.Prefix{netip.MustParsePrefix("fd10:0:0:3::/64")},
		Addrs:      []netip.Addr{netip.MustParseAddr("fd00::3")},
	}
}

// goldens are the flow sets that have a golden file.
func goldens() map[string][]flow.Flow {
	noTunnel := gateway(gw4, gw6)
	noTunnel.TunnelPorts = nil
	routed := remote()
	routed.PodCIDRs, routed.Addrs = nil, nil
	return map[string][]flow.Flow{
		"Base":             Base(),
		"GatewayDual":      Gateway(gateway(gw4, gw6)),
		"GatewayIPv4":      Gateway(gateway(gw4)),
		"GatewayIPv6":      Gateway(gateway(gw6)),
		"GatewayNoTunnel":  Gateway(noTunnel),
		"Resume":           Resume(gateway(gw4, gw6)),
		"PodDual":          Pod(podA(podA4, podA6)),
		"PodIPv4":          Pod(podA(podA4)),
		"PodIPv6":          Pod(podA(podA6)),
		"Service":          testService(),
		"NodeOverIPv4":     Node(remote()),
		"NodeOverIPv6":     Node(remote6()),
		"NodeAcceptedOnly": Node(routed),
	}
}

// testService has one port of which new connections are shared out among four
// groups, and one without endpoints.
func testService() []flow.Flow {
	flows := []flow.Flow{ClusterIP(netip.MustParseAddr("10.96.0.10")), ClusterIP(netip.MustParseAddr("fd00:96::10"))}
	for _, a := range addrs("10.96.0.10", "fd00:96::10") {
		flows = append(flows, Frontend{Addr: a, Protocol: flow.ProtoUDP, Port: 53}.Flow(ToEndpoints(101, false)))
		flows = append(flows, Frontend{Addr: a, Protocol: flow.ProtoSCTP, Port: 9}.Flow(Refuse()))
	}
	flows = append(flows, Shares(101, true, flow.ProtoUDP, []uint32{101, 102, 103, 104})...)
	limited := Frontend{Addr: NodePort4, Protocol: flow.ProtoTCP, Port: 80, Range: netip.MustParsePrefix("203.0.113.0/24")}
	flows = append(flows, limited.OutOfRange(), limited.Flow(ToEndpoints(201, true)))
	limited.Outside = true
	flows = append(flows, limited.Flow(Ignore()), Sticky(201, 9, netip.MustParseAddrPort("10.10.1.2:8080")))
	return flows
}

func text(flows []flow.Flow) string {
	flows = slices.Clone(flows)
	flow.Sort(flows)
	var b strings.Builder
	for _, f := range flows {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for name, flows := range goldens() {
		t.Run(name, func(t *testing.T) {
			testgolden.Compare(t, name, text(flows))
		})
	}
}

func TestFlowsAreWellFormed(t *testing.T) {
	known := map[uint8]bool{}
	for _, tb := range Tables() {
		known[tb.ID] = true
	}
	for name, flows := range goldens() {
		seen := map[flow.Key]flow.Flow{}
		for _, f := range flows {
			if err := f.Check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !known[f.Table] {
				t.Errorf("%s: %v is in no table of the pipeline", name, f)
			}
			if other, ok := seen[f.Key()]; ok {
				t.Errorf("%s: two flows with one identity:\n%v\n%v", name, other, f)
			}
			seen[f.Key()] = f
			for _, a := range f.Actions {
				if g, ok := a.(flow.GotoTable); ok && !known[g.Table] {
					t.Errorf("%s: %v leads out of the pipeline", name, f)
				}
			}
		}
	}
}

// TestOwnersDoNotShareFlows: a flow of two owners could not be removed with
// either.
func TestOwnersDoNotShareFlows(t *testing.T) {
	b := PodPort{Port: portB, MAC: macB, Addrs: []netip.Addr{podB4, podB6}}
	seen := map[flow.Key]flow.Flow{}
	for _, flows := range [][]flow.Flow{
		Base(), Gateway(gateway(gw4, gw6)), Pod(podA(podA4, podA6)), Pod(b), Node(remote()), Node(remote6()),
	} {
		for _, f := range flows {
			if other, ok := seen[f.Key()]; ok {
				t.Errorf("shared:\n%v\n%v", other, f)
			}
			seen[f.Key()] = f
		}
	}
}

func TestNodeWithoutTunnelHasNoFlows(t *testing.T) {
	p := remote()
	p.Endpoint, p.Sources = encap.Endpoint{}, nil
	if flows := Node(p); len(flows) != 0 {
		t.Errorf("got:\n%s", text(flows))
	}
}

func TestTablesAreInOrder(t *testing.T) {
	tables := Tables()
	names := map[string]bool{}
	for i, tb := range tables {
		if i > 0 && tb.ID <= tables[i-1].ID {
			t.Errorf("table %s has ID %d after %d", tb.Name, tb.ID, tables[i-1].ID)
		}
		if names[tb.Name] || tb.Name == "" || tb.Purpose == "" {
			t.Errorf("table %d needs a name of its own and a purpose", tb.ID)
		}
		names[tb.Name] = true
	}
}

func TestRegistersDoNotOverlap(t *testing.T) {
	used := map[int]uint32{}
	for _, r := range Registers() {
		if used[r.N]&r.Mask != 0 {
			t.Errorf("%s overlaps other bits of register %d", r.Name, r.N)
		}
		used[r.N] |= r.Mask
		for _, v := range r.Values {
			if v.Value&^r.Mask != 0 {
				t.Errorf("%s: value %#x is outside of mask %#x", r.Name, v.Value, r.Mask)
			}
		}
	}
}

func TestLinkLocal(t *testing.T) {
	mac := net.HardwareAddr{0x0a, 0x57, 0x4d, 0x12, 0x34, 0x56}
	if got, want := LinkLocal(mac).String(), "fe80::857:4dff:fe12:3456"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// These tests follow packets of connections through the fake switch, which
// remembers connections.

// stack is what the tests use of one family.
type stack struct {
	name                        string
	gateway, node, outside, vip netip.Addr
	podA, podB, podC, remotePod netip.Addr
	hairpin                     netip.Addr
	ethType                     uint16
}

func stacks() []stack {
	a := netip.MustParseAddr
	return []stack{
		{
			name: "IPv4", gateway: a("10.10.1.1"), node: a("192.0.2.1"), outside: a("203.0.113.7"), vip: vip4,
			podA: a("10.10.1.2"), podB: a("10.10.1.3"), podC: a("10.10.1.4"), remotePod: a("10.10.2.9"), hairpin: pipeline.Hairpin4,
			ethType: flow.EthTypeIPv4,
		},
		{
			name: "IPv6", gateway: a("fd10:0:0:1::1"), node: a("fd00::1"), outside: a("2001:db8::7"), vip: vip6,
			podA: a("fd10:0:0:1::2"), podB: a("fd10:0:0:1::3"), podC: a("fd10:0:0:1::4"), remotePod: a("fd10:0:0:2::9"), hairpin: pipeline.Hairpin6,
			ethType: flow.EthTypeIPv6,
		},
	}
}

const (
	portGateway, portA, portB, portC uint32 = 1, 11, 12, 13
	client                                  = 40000
)

func mac(port uint32) net.HardwareAddr {
	if port == portGateway {
		return pipeline.GatewayMAC()
	}
	return net.HardwareAddr{0x0e, 0, 0, 0, 0, byte(port)}
}

// nodeFlows are those of a node with three Pods in both families.
func nodeFlows() []flow.Flow {
	st := stacks()
	flows := append(pipeline.Base(), pipeline.Gateway(pipeline.GatewayParams{
		Port: portGateway, Addrs: []netip.Addr{st[0].gateway, st[1].gateway}, NodeAddrs: []netip.Addr{st[0].node, st[1].node},
	})...)
	for port, addrs := range map[uint32][]netip.Addr{
		portA: {st[0].podA, st[1].podA}, portB: {st[0].podB, st[1].podB}, portC: {st[0].podC, st[1].podC},
	} {
		flows = append(flows, pipeline.Pod(pipeline.PodPort{Port: port, MAC: mac(port), Addrs: addrs})...)
	}
	return flows
}

// packet is one that enters at a port.
func (s stack) packet(in uint32, proto Protocol, src netip.Addr, srcPort uint16, dst netip.Addr, dstPort uint16) ovstest.Packet {
	hop := ovstest.Hop{InPort: in, Src: mac(in), Dst: pipeline.GatewayMAC()}
	p := ovstest.IP(hop, src, dst, uint8(proto))
	switch proto {
	case TCP:
		return ovstest.TCP(hop, src, dst, srcPort, dstPort)
	case UDP:
		return ovstest.UDP(hop, src, dst, srcPort, dstPort)
	}
	return append(p, flow.Uint(flow.FieldSCTPSrc, uint64(srcPort)), flow.Uint(flow.FieldSCTPDst, uint64(dstPort)))
}

// leaves says where a packet leaves and with which addresses and ports, or in
// which flow it ends.
func leaves(v ovstest.Verdict) string {
	switch {
	case v.Err != nil:
		return v.String()
	case len(v.Outputs) == 0 && len(v.Flows) == 0:
		return "drop"
	case len(v.Outputs) == 0:
		last := v.Flows[len(v.Flows)-1]
		return fmt.Sprintf("drop %d/%d", last.Table, last.Priority)
	}
	if v.Outputs[0].Port == flow.PortController {
		return "refused"
	}
	src, dst := ovstest.Ends(v.Outputs[0].Packet)
	return fmt.Sprintf("%d: %s -> %s", v.Outputs[0].Port, src, dst)
}

func check(t *testing.T, what string, v ovstest.Verdict, want string) {
	t.Helper()
	if got := leaves(v); got != want {
		t.Errorf("%s: got %s, want %s; the packet met:\n%s", what, got, want, v.Met())
	}
}

func between(port uint32, src netip.Addr, srcPort uint16, dst netip.Addr, dstPort uint16) string {
	return fmt.Sprintf("%d: %s -> %s", port, netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort))
}

// at is a Service of one endpoint a port.
func at(s stack, proto Protocol, endpoints ...netip.AddrPort) Service {
	svc := Service{Key: web, ClusterIPs: []netip.Addr{s.vip}, Ports: []Port{{Protocol: proto, Port: 80}}}
	for _, e := range endpoints {
		svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, Endpoint{AddrPort: e, Ready: true, Serving: true})
	}
	return svc
}

func each(t *testing.T, test func(t *testing.T, s stack, sw *ovstest.Switch, c *Compiler)) {
	for _, s := range stacks() {
		t.Run(s.name, func(t *testing.T) { test(t, s, switchOf(t, nodeFlows()...), New()) })
	}
}

func TestConnection(t *testing.T) {
	for _, proto := range []Protocol{TCP, UDP, SCTP} {
		t.Run(proto.String(), func(t *testing.T) {
			each(t, func(t *testing.T, s stack, sw *ovstest.Switch, c *Compiler) {
				for name, end := range map[string]struct {
					addr netip.Addr
					port uint32 // by which packets reach it
				}{
					"local Pod": {s.podB, portB}, "remote Pod": {s.remotePod, portGateway},
					"its node": {s.node, portGateway}, "outside": {s.outside, portGateway},
				} {
					sw.ForgetAllConnections()
					c.Set(at(s, proto, netip.AddrPortFrom(end.addr, 8080)))
					flush(t, c, sw)
					request := func(what string) {
						t.Helper()
						check(t, what+" to "+name, sw.Trace(s.packet(portA, proto, s.podA, client, s.vip, 80)),
							between(end.port, s.podA, client, end.addr, 8080))
					}
					request("first packet")
					request("first packet again")
					for range 2 {
						check(t, "answer of "+name, sw.Trace(s.packet(end.port, proto, end.addr, 8080, s.podA, client)),
							between(portA, s.vip, 80, s.podA, client))
						request("later packet")
					}
				}
			})
		})
	}
}

func TestHairpin(t *testing.T) {
	each(t, func(t *testing.T, s stack, sw *ovstest.Switch, c *Compiler) {
		c.Set(at(s, TCP, netip.AddrPortFrom(s.podA, 8080)))
		flush(t, c, sw)
		// A Pod may always reach itself.
		isolate(t, sw, portA)
		for _, what := range []string{"first", "later"} {
			check(t, what, sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), between(portA, s.hairpin, client, s.podA, 8080))
			check(t, "answer", sw.Trace(s.packet(portA, TCP, s.podA, 8080, s.hairpin, client)), between(portA, s.vip, 80, s.podA, client))
		}
		check(t, "another Pod answers", sw.Trace(s.packet(portB, TCP, s.podB, 8080, s.hairpin, client)), "drop 23/300")
		check(t, "answer that nobody waits for", sw.Trace(s.packet(portA, TCP, s.podA, 8080, s.hairpin, client+1)), "drop 23/300")
	})
}

func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, s stack, sw *ovstest.Switch, c *Compiler) {
		svc := at(s, TCP)
		svc.Ports[0].Endpoints = []Endpoint{{AddrPort: netip.AddrPortFrom(s.podB, 8080)}}
		c.Set(svc)
		flush(t, c, sw)
		check(t, "no endpoint is ready", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), "refused")
		check(t, "another port", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 81)), "refused")
		check(t, "another protocol", sw.Trace(s.packet(portA, UDP, s.podA, client, s.vip, 80)), "refused")
		check(t, "ping", sw.Trace(ovstest.Echo(ovstest.Hop{InPort: portA, Src: mac(portA), Dst: pipeline.GatewayMAC()}, s.podA, s.vip)), "refused")
		check(t, "a foreign address", sw.Trace(s.packet(portB, TCP, s.podA, client, s.vip, 80)), "drop 10/50")
		if got := sw.Connections(); len(got) != 0 {
			t.Errorf("connections were recorded: %v", got)
		}
		// What was not served is, as soon as there is an endpoint.
		c.Set(at(s, TCP, netip.AddrPortFrom(s.podB, 8080)))
		flush(t, c, sw)
		check(t, "ready", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), between(portB, s.podA, client, s.podB, 8080))
		c.Delete(web)
		flush(t, c, sw)
		check(t, "later, Service gone", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), between(portB, s.podA, client, s.podB, 8080))
		check(t, "new, Service gone", sw.Trace(s.packet(portA, TCP, s.podA, client+1, s.vip, 80)), between(portGateway, s.podA, client+1, s.vip, 80))
	})
}

// TestChangeDisturbsNobody: connections stay where they are.
func TestChangeDisturbsNobody(t *testing.T) {
	each(t, func(t *testing.T, s stack, sw *ovstest.Switch, c *Compiler) {
		c.Set(at(s, TCP, netip.AddrPortFrom(s.podC, 8080)))
		flush(t, c, sw)
		toC := between(portC, s.podA, client, s.podC, 8080)
		check(t, "first", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), toC)
		c.Set(at(s, TCP, netip.AddrPortFrom(s.podB, 8080), netip.AddrPortFrom(s.podC, 8080)))
		flush(t, c, sw)
		check(t, "the same, not answered yet", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), toC)
		check(t, "answer", sw.Trace(s.packet(portC, TCP, s.podC, 8080, s.podA, client)), between(portA, s.vip, 80, s.podA, client))
		check(t, "the same", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), toC)
		check(t, "another", sw.Trace(s.packet(portA, TCP, s.podA, client+1, s.vip, 80)), between(portB, s.podA, client+1, s.podB, 8080))
	})
}

// isolate denies everything to and from a Pod that has no other rule.
func isolate(t *testing.T, sw flowTable, port uint32, rules ...flow.Flow) {
	t.Helper()
	flows := append(rules, pipeline.Isolate(pipeline.TableEgressIsolate, port), pipeline.Isolate(pipeline.TableIngressIsolate, port))
	flows = append(flows, pipeline.JudgeEgress(port)...)
	flows = append(flows, pipeline.JudgeIngress(port)...)
	flows = append(flows, pipeline.JudgeInvalid(port)...)
	if err := sw.Update("policy", flows, nil); err != nil {
		t.Fatal(err)
	}
}

const (
	class  = 0xc1
	denied = "drop 44/0"
)

func (s stack) rule(table uint8, port uint32, policyPort uint16) flow.Flow {
	note := pipeline.NotedEgress(8)
	if table == pipeline.TableIngressPolicy {
		note = pipeline.NotedIngress(7)
	}
	return flow.Flow{Table: table, Priority: 200, Match: flow.Match{
		flow.EthType(s.ethType), flow.IPProto(flow.ProtoTCP), pipeline.MatchJudged(port),
		pipeline.MatchAddressClass(class), pipeline.MatchPolicyPort(policyPort, 0xffff),
	}, Actions: []flow.Action{note}}
}

// TestEgressPolicySeesEndpoint: the rules of the client speak of the endpoint's
// address and port, also for answers; the address of the Service is nothing to
// them.
func TestEgressPolicySeesEndpoint(t *testing.T) {
	each(t, func(t *testing.T, s stack, sw *ovstest.Switch, c *Compiler) {
		c.Set(at(s, TCP, netip.AddrPortFrom(s.podB, 8080)))
		flush(t, c, sw)
		request := func() ovstest.Verdict { return sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)) }
		reply := func() ovstest.Verdict { return sw.Trace(s.packet(portB, TCP, s.podB, 8080, s.podA, client)) }
		allowed, back := between(portB, s.podA, client, s.podB, 8080), between(portA, s.vip, 80, s.podA, client)
		rule := s.rule(pipeline.TableEgressPolicy, portA, 8080)
		endpoint := pipeline.PeerAddress(s.podB, class)

		isolate(t, sw, portA)
		check(t, "denied", request(), denied)
		check(t, "denied again", request(), denied)
		isolate(t, sw, portA, rule, endpoint)
		check(t, "allowed", request(), allowed)
		check(t, "its answer", reply(), back)
		check(t, "allowed, later", request(), allowed)
		isolate(t, sw, portA)
		check(t, "cut", request(), denied)
		check(t, "its answer", reply(), denied)
		isolate(t, sw, portA, s.rule(pipeline.TableEgressPolicy, portA, 80), endpoint)
		check(t, "the port of the Service", request(), denied)
		check(t, "its answer", reply(), denied)
		isolate(t, sw, portA, rule, pipeline.PeerAddress(s.vip, class))
		check(t, "the address of the Service", request(), denied)
		check(t, "its answer", reply(), denied)
	})
}

// TestIngressPolicySeesClient: the rules of a local endpoint speak of the Pod
// that connects.
func TestIngressPolicySeesClient(t *testing.T) {
	each(t, func(t *testing.T, s stack, sw *ovstest.Switch, c *Compiler) {
		c.Set(at(s, TCP, netip.AddrPortFrom(s.podB, 8080)))
		flush(t, c, sw)
		rule := s.rule(pipeline.TableIngressPolicy, portB, 8080)
		isolate(t, sw, portB, rule, pipeline.PeerAddress(s.podA, class))
		for range 2 {
			check(t, "from A", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), between(portB, s.podA, client, s.podB, 8080))
			check(t, "answer to A", sw.Trace(s.packet(portB, TCP, s.podB, 8080, s.podA, client)), between(portA, s.vip, 80, s.podA, client))
			check(t, "from C", sw.Trace(s.packet(portC, TCP, s.podC, client, s.vip, 80)), denied)
		}
		isolate(t, sw, portB)
		check(t, "from A, cut", sw.Trace(s.packet(portA, TCP, s.podA, client, s.vip, 80)), denied)
		check(t, "answer to A, cut", sw.Trace(s.packet(portB, TCP, s.podB, 8080, s.podA, client)), denied)
	})
}

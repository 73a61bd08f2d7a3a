// SPDX-License-Identifier: Apache-2.0

//go:build integration

package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// realNode is a node in a network namespace: a userspace Open vSwitch, the
// kernel's side of the gateway, Pods, and a machine outside that it routes to.
type realNode struct {
	ovs      *ovstest.OVS
	flows    *openflow.Target
	compiler *Compiler
	// hosts are the namespaces of Pods by port, of the machine outside under 0
	// and of the node under portGateway.
	hosts map[uint32]*testnet.Namespace
}

const patience = 20 * time.Second

func newRealNode(t *testing.T, root *testnet.Namespace) *realNode {
	t.Helper()
	n := &realNode{ovs: ovstest.StartOVS(t), hosts: map[uint32]*testnet.Namespace{portGateway: root}}
	n.ovs.AddBridge("br-int", ovstest.DatapathNetdev)
	n.ovs.AddPort("br-int", "wm-gw0", "internal", portGateway, fmt.Sprintf(`mac="%s"`, pipeline.GatewayMAC()))
	st := stacks()
	for _, line := range []string{
		"ip link set wm-gw0 up", "ethtool -K wm-gw0 tx off",
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
		"nft add table netdev waymark",
		fmt.Sprintf("ip address add %s/24 dev wm-gw0", st[0].gateway), fmt.Sprintf("ip address add %s/64 dev wm-gw0 nodad", st[1].gateway),
		fmt.Sprintf("ip address add %s/32 dev lo", st[0].node), fmt.Sprintf("ip address add %s/128 dev lo", st[1].node),
	} {
		root.Exec(t, line)
	}
	for port, addrs := range map[uint32][2]netip.Addr{
		portA: {st[0].podA, st[1].podA}, portB: {st[0].podB, st[1].podB}, portC: {st[0].podC, st[1].podC},
	} {
		n.addPod(t, port, addrs)
	}
	n.addOutside(t)
	n.connect(t)
	return n
}

// connect begins as an agent does that has just been started.
func (n *realNode) connect(t *testing.T, services ...Service) {
	t.Helper()
	n.flows, n.compiler = openflow.New(openflow.Params{Socket: n.ovs.Socket("br-int")}), New()
	if err := n.flows.Update("node", nodeFlows(), nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		n.compiler.Set(s)
	}
	flush(t, n.compiler, n.flows)
	n.flows.Complete()
	ctx, ended := t.Context(), make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.flows.Run(ctx)
	}()
	t.Cleanup(func() { <-ended })
	n.sync(t)
}

func (n *realNode) sync(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.flows.Sync(ctx); err != nil {
		t.Fatal(err)
	}
}

func (n *realNode) addPod(t *testing.T, port uint32, addrs [2]netip.Addr) {
	t.Helper()
	root, dev := n.hosts[portGateway], fmt.Sprintf("pod%d", port)
	ns := testnet.New(t, fmt.Sprintf("p%d", port))
	n.hosts[port] = ns
	testnet.Veth(t, testnet.End{NS: root, Name: dev}, testnet.End{
		NS: ns, Name: "eth0", MAC: mac(port).String(), Addrs: []string{addrs[0].String() + "/32", addrs[1].String() + "/128"},
	})
	for i, s := range stacks() {
		ns.Exec(t, fmt.Sprintf("ip -%d route add %s dev eth0", 4+2*i, s.gateway))
		ns.Exec(t, fmt.Sprintf("ip -%d route add default via %s dev eth0", 4+2*i, s.gateway))
	}
	ns.Exec(t, "ethtool -K eth0 tx off")
	// The kernel must not see what the userspace switch takes off the wire.
	chain := []string{"add chain netdev waymark " + dev + " { type filter hook ingress device " + dev + " priority 0; policy drop; }"}
	if out, err := root.Command(t.Context(), "nft", chain...).CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	n.ovs.AddPort("br-int", dev, "system", port)
}

// addOutside adds a machine behind the node that knows the way back.
func (n *realNode) addOutside(t *testing.T) {
	t.Helper()
	ns := testnet.New(t, "outside")
	n.hosts[0] = ns
	testnet.Veth(t, testnet.End{NS: n.hosts[portGateway], Name: "uplink", Addrs: []string{"203.0.113.1/24", "2001:db8::1/64"}},
		testnet.End{NS: ns, Name: "eth0", Addrs: []string{"203.0.113.7/24", "2001:db8::7/64"}})
	ns.Exec(t, "ip route add default via 203.0.113.1")
	ns.Exec(t, "ip -6 route add default via 2001:db8::1")
}

// set puts a Service into the switch.
func (n *realNode) set(t *testing.T, s Service) {
	t.Helper()
	n.compiler.Set(s)
	flush(t, n.compiler, n.flows)
	n.settle(t)
}

// settle waits until the switch has what was declared, and its datapath follows.
func (n *realNode) settle(t *testing.T) {
	t.Helper()
	n.sync(t)
	n.ovs.Appctl("revalidator/wait")
}

// serve answers on TCP and UDP: each line, or packet, with the server's name and
// the client's address. It ends with the test.
func (n *realNode) serve(t *testing.T, host uint32, name string, at netip.AddrPort) {
	t.Helper()
	err := n.hosts[host].Do(func() error {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		p, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return errors.Join(err, l.Close())
		}
		t.Cleanup(func() { _, _ = l.Close(), p.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go echoLines(c, name)
			}
		}()
		go func() {
			b := make([]byte, 4000)
			for {
				_, from, err := p.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = p.WriteToUDPAddrPort([]byte(name+" "+from.String()+"\n"), from)
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatalf("serve %s: %v", name, err)
	}
}

func echoLines(c net.Conn, name string) {
	defer func() { _ = c.Close() }()
	for r := bufio.NewReader(c); ; {
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		if _, err := io.WriteString(c, name+" "+c.RemoteAddr().String()+"\n"); err != nil {
			return
		}
	}
}

func (n *realNode) dial(t *testing.T, from uint32, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	var c net.Conn
	err := n.hosts[from].Do(func() (err error) {
		c, err = net.DialTimeout(network, to.String(), patience)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a line and returns who answers and whom the server took the client for.
func ask(t *testing.T, c net.Conn) (server string, client netip.AddrPort) {
	t.Helper()
	return askWith(t, c, "hello\n")
}

func askWith(t *testing.T, c net.Conn, line string) (server string, client netip.AddrPort) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	name, address, _ := strings.Cut(strings.TrimSpace(answer), " ")
	return name, netip.MustParseAddrPort(address)
}

// TestRealTraffic connects Pods to Services with real packets.
func TestRealTraffic(t *testing.T) {
	testnet.Run(t, func(t *testing.T, root *testnet.Namespace) {
		n := newRealNode(t, root)
		for _, s := range stacks() {
			names := map[netip.Addr]uint32{s.podA: portA, s.podB: portB, s.podC: portC, s.outside: 0, s.node: portGateway}
			for addr, host := range names {
				n.serve(t, host, fmt.Sprint(host), netip.AddrPortFrom(addr, 8080))
			}
			for addr, host := range names {
				t.Run(fmt.Sprintf("%s/endpoint at %d", s.name, host), func(t *testing.T) { n.reach(t, s, host, addr) })
			}
			t.Run(s.name+"/change", func(t *testing.T) { n.change(t, s) })
			t.Run(s.name+"/policy", func(t *testing.T) { n.policy(t, s) })
			t.Run(s.name+"/distribution", func(t *testing.T) { n.distribution(t, s) })
		}
		t.Run("restart", n.restart)
	})
}

// reach: Pod A gets an answer of the one endpoint, again and again, which sees
// Pod A; Pod A itself sees the address that stands for it. Over UDP it begins with
// a datagram in pieces, unless it is Pod A's own: those do not survive that the
// userspace datapath rewrites their source.
func (n *realNode) reach(t *testing.T, s stack, host uint32, addr netip.Addr) {
	svc := at(s, TCP, netip.AddrPortFrom(addr, 8080))
	svc.Ports = append(svc.Ports, Port{Protocol: UDP, Port: 80, Endpoints: svc.Ports[0].Endpoints})
	n.set(t, svc)
	want := s.podA
	if addr == s.podA {
		want = s.hairpin
	}
	for _, network := range []string{"tcp", "udp"} {
		for range 3 {
			c := n.dial(t, portA, network, netip.AddrPortFrom(s.vip, 80))
			for i := range 3 {
				line := "hello\n"
				if network == "udp" && i == 0 && addr != s.podA {
					line = strings.Repeat(".", 2000) + line
				}
				if server, client := askWith(t, c, line); server != fmt.Sprint(host) || client.Addr() != want {
					t.Fatalf("%s: server %s saw %s, want %d and %s\n%s", network, server, client, host, want, n.ovs.Appctl("dpctl/dump-conntrack"))
				}
			}
		}
	}
}

// change: a connection stays with its endpoint when the Service loses it.
func (n *realNode) change(t *testing.T, s stack) {
	n.set(t, at(s, TCP, netip.AddrPortFrom(s.podB, 8080)))
	old := n.dial(t, portA, "tcp", netip.AddrPortFrom(s.vip, 80))
	expect := func(c net.Conn, want uint32) {
		t.Helper()
		if server, _ := ask(t, c); server != fmt.Sprint(want) {
			t.Errorf("server %s, want %d", server, want)
		}
	}
	expect(old, portB)
	for range 3 {
		n.set(t, at(s, TCP, netip.AddrPortFrom(s.podC, 8080)))
		expect(old, portB)
		expect(n.dial(t, portA, "tcp", netip.AddrPortFrom(s.vip, 80)), portC)
		n.set(t, at(s, TCP, netip.AddrPortFrom(s.podB, 8080), netip.AddrPortFrom(s.podC, 8080)))
		expect(old, portB)
	}
}

// policy: the client's rules speak of the endpoint, for requests and answers, and
// cut what they come to deny.
func (n *realNode) policy(t *testing.T, s stack) {
	n.set(t, at(s, TCP, netip.AddrPortFrom(s.podB, 8080)))
	defer n.flows.Delete("policy")
	limit := func(port uint16, rules ...flow.Flow) {
		t.Helper()
		isolate(t, n.flows, portA, append(rules, s.rule(pipeline.TableEgressPolicy, portA, port))...)
		n.settle(t)
	}
	endpoint := pipeline.PeerAddress(s.podB, class)
	limit(8080, endpoint)
	c := n.dial(t, portA, "tcp", netip.AddrPortFrom(s.vip, 80))
	if server, _ := ask(t, c); server != fmt.Sprint(portB) {
		t.Errorf("server %s, want %d", server, portB)
	}
	limit(80, endpoint)
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, "hello\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
		t.Errorf("a connection to another port than the policy allows gives %q", line)
	}
	limit(8080, pipeline.PeerAddress(s.vip, class))
	err := n.hosts[portA].Do(func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(s.vip, 80).String(), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	if err == nil {
		t.Error("the policy took the Service for its endpoint")
	}
}

// restart: an agent that starts again with the same Services has nothing to send.
func (n *realNode) restart(t *testing.T) {
	svc := webService(slices.Concat(many(40), ready("[fd10:0:0:1::3]:8080", "[fd10:0:0:1::4]:8080", "[fd10:0:0:2::9]:8080"))...)
	n.set(t, svc)
	n.connect(t, svc)
	if s := n.flows.Stats(); s.Bundles != 0 || s.Groups != groupCount(40)+1 {
		t.Errorf("%d groups, sent at the start: %+v", s.Groups, s)
	}
}

// distribution: 1,000 connections to three endpoints are shared out evenly, also
// those over UDP.
func (n *realNode) distribution(t *testing.T, s stack) {
	svc := at(s, TCP, netip.AddrPortFrom(s.outside, 8080), netip.AddrPortFrom(s.podB, 8080), netip.AddrPortFrom(s.podC, 8080))
	svc.Ports = append(svc.Ports, Port{Protocol: UDP, Port: 80, Endpoints: svc.Ports[0].Endpoints})
	n.set(t, svc)
	for _, network := range []string{"tcp", "udp"} {
		n.spread(t, s, network)
	}
}

func (n *realNode) spread(t *testing.T, s stack, network string) {
	t.Helper()
	const connections = 1000
	got := map[string]int{}
	for range connections {
		c := n.dial(t, portA, network, netip.AddrPortFrom(s.vip, 80))
		server, _ := ask(t, c)
		got[server]++
		_ = c.Close()
	}
	// Above 18.4 is one time in 10,000 with two degrees of freedom.
	const mean = connections / 3.0
	chi := 0.0
	for _, host := range []uint32{0, portB, portC} {
		off := float64(got[fmt.Sprint(host)]) - mean
		chi += off * off / mean
	}
	if chi > 18.4 {
		t.Errorf("connections by server over %s: %v, chi-square %.1f", network, got, chi)
	}
	t.Logf("connections by server over %s: %v, chi-square %.1f", network, got, chi)
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package refuse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

const (
	bridge                      = "br-int"
	portGateway, portPod uint32 = 1, 11
	servicePort                 = 80
	nodePort                    = 30080
	patience                    = 20 * time.Second
)

var podMAC = net.HardwareAddr{0x0e, 0, 0, 0, 0, 11}

// network is what differs between the families.
type network struct {
	name                         string
	gateway, pod, node, outside  netip.Addr
	service, nodePort            netip.Addr
	subnet, single, ip, protocol string
}

func networks() []network {
	a := netip.MustParseAddr
	return []network{
		{"IPv4", a("10.10.1.1"), a("10.10.1.2"), a("203.0.113.1"), a("203.0.113.7"), a("10.96.0.10"), pipeline.NodePort4, "24", "32", "ip -4", "ip"},
		{"IPv6", a("fd10:0:0:1::1"), a("fd10:0:0:1::2"), a("2001:db8::1"), a("2001:db8::7"), a("fd96::a"), pipeline.NodePort6, "64", "128", "ip -6", "ip6"},
	}
}

// world is a node whose Service has no endpoints, a Pod of it, and a machine
// outside.
type world struct {
	refuser            *Refuser
	node, pod, outside *testnet.Namespace
}

func newWorld(t *testing.T, root *testnet.Namespace) *world {
	t.Helper()
	w := &world{node: root, pod: testnet.New(t, "pod"), outside: testnet.New(t, "outside")}
	o := ovstest.StartOVS(t)
	o.AddBridge(bridge, ovstest.DatapathNetdev)
	o.AddPort(bridge, "wm-gw0", "internal", portGateway, fmt.Sprintf(`mac="%s"`, pipeline.GatewayMAC()))
	var pod, node, outside []string
	for _, n := range networks() {
		pod = append(pod, n.pod.String()+"/"+n.single)
		node, outside = append(node, n.node.String()+"/"+n.subnet), append(outside, n.outside.String()+"/"+n.subnet)
	}
	testnet.Veth(t, testnet.End{NS: root, Name: "pod11"}, testnet.End{NS: w.pod, Name: "eth0", MAC: podMAC.String(), Addrs: pod})
	testnet.Veth(t, testnet.End{NS: root, Name: "uplink", Addrs: node}, testnet.End{NS: w.outside, Name: "eth0", Addrs: outside})
	w.routes(t)
	o.AddPort(bridge, "pod11", "system", portPod)
	w.run(t, o)
	return w
}

// routes lead to the Service by the gateway, on every host, as on a node.
func (w *world) routes(t *testing.T) {
	t.Helper()
	lines := func(ns *testnet.Namespace, all ...string) {
		for _, line := range all {
			ns.Exec(t, line)
		}
	}
	lines(w.node, "ip link set wm-gw0 up", "ethtool -K wm-gw0 tx off",
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1", "nft add table netdev waymark", "nft add table inet ports")
	lines(w.pod, "ethtool -K eth0 tx off")
	w.nft(t, "add chain netdev waymark pod { type filter hook ingress device pod11 priority 0; policy drop; }")
	for _, hook := range []string{"prerouting", "output"} {
		w.nft(t, fmt.Sprintf("add chain inet ports %s { type nat hook %s priority -100; }", hook, hook))
	}
	for _, n := range networks() {
		lines(w.node,
			fmt.Sprintf("%s address add %s/%s dev wm-gw0 %s", n.ip, n.gateway, n.subnet, map[string]string{"ip6": "nodad"}[n.protocol]),
			fmt.Sprintf("%s neighbour replace %s lladdr %s dev wm-gw0 nud permanent", n.ip, n.nodePort, pipeline.GatewayMAC()),
			fmt.Sprintf("%s route add %s dev wm-gw0", n.ip, n.nodePort),
			fmt.Sprintf("%s route add %s via %s dev wm-gw0 onlink", n.ip, n.service, n.nodePort),
		)
		for _, hook := range []string{"prerouting", "output"} {
			w.nft(t, fmt.Sprintf("add rule inet ports %s %s daddr %s meta l4proto { tcp, udp } th dport %d dnat %s to %s",
				hook, n.protocol, n.node, nodePort, n.protocol, n.nodePort))
		}
		lines(w.pod, fmt.Sprintf("%s route add %s dev eth0", n.ip, n.gateway), fmt.Sprintf("%s route add default via %s dev eth0", n.ip, n.gateway))
		lines(w.outside, fmt.Sprintf("%s route add default via %s", n.ip, n.node))
	}
}

func (w *world) nft(t *testing.T, command string) {
	t.Helper()
	if out, err := w.node.Command(t.Context(), "nft", command).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v\n%s", command, err, out)
	}
}

// run programs the switch and answers what it reports.
func (w *world) run(t *testing.T, o *ovstest.OVS) {
	t.Helper()
	gateway, pod := pipeline.GatewayParams{Port: portGateway, Services: true}, pipeline.PodPort{Port: portPod, MAC: podMAC}
	flows := pipeline.Base()
	for _, n := range networks() {
		gateway.Addrs, gateway.NodeAddrs, pod.Addrs = append(gateway.Addrs, n.gateway), append(gateway.NodeAddrs, n.node), append(pod.Addrs, n.pod)
		flows = append(flows, pipeline.ClusterIP(n.service))
		for _, protocol := range []uint8{flow.ProtoTCP, flow.ProtoUDP} {
			flows = append(flows, pipeline.Frontend{Addr: n.nodePort, Protocol: protocol, Port: nodePort}.Flow(pipeline.Refuse()))
		}
	}
	flows = append(append(flows, pipeline.Gateway(gateway)...), pipeline.Pod(pod)...)
	target := openflow.New(openflow.Params{Socket: o.Socket(bridge), Meters: []flow.Meter{Meter()}})
	if err := target.Update("node", flows, nil); err != nil {
		t.Fatal(err)
	}
	target.Complete()
	queue := openflow.NewPacketQueue(openflow.PacketQueueParams{Tables: []uint8{pipeline.TableRefuse}, Size: int(Meter().Burst)})
	in := openflow.NewPacketIns(openflow.PacketInsParams{Socket: o.Socket(bridge), Queues: []*openflow.PacketQueue{queue}})
	w.refuser = New(Params{Switch: target})
	for _, part := range []func(context.Context) error{
		target.Run, in.Run, func(ctx context.Context) error { return w.refuser.Run(ctx, queue.Packets()) },
	} {
		ctx, ended := t.Context(), make(chan struct{})
		go func() {
			defer close(ended)
			_ = part(ctx)
		}()
		t.Cleanup(func() { <-ended })
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := target.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	// The listener connects at some time.
	testnet.WaitFor(t, patience, func() error {
		c := w.dialUDP(t, w.pod, netip.AddrPortFrom(networks()[0].service, servicePort))
		defer func() { _ = c.Close() }()
		return w.write(c, 100*time.Millisecond)
	})
}

func (w *world) dialUDP(t *testing.T, from *testnet.Namespace, to netip.AddrPort) net.Conn {
	t.Helper()
	var c net.Conn
	if err := from.Do(func() (err error) {
		c, err = net.Dial("udp", to.String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// write sends a datagram and returns nil when it is refused.
func (w *world) write(c net.Conn, within time.Duration) error {
	if _, err := c.Write(make([]byte, 1200)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("a datagram is not refused: %w", err)
	}
	return nil
}

// connect returns nil when a connection is refused.
func (w *world) connect(from *testnet.Namespace, to netip.AddrPort) error {
	return from.Do(func() error {
		c, err := net.DialTimeout("tcp", to.String(), patience)
		if err == nil {
			_ = c.Close()
			return errors.New("somebody answers")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("not refused: %w", err)
		}
		return nil
	})
}

// TestClientsAreRefused: whoever asks is told by the address that was asked.
func TestClientsAreRefused(t *testing.T) {
	testnet.Run(t, func(t *testing.T, root *testnet.Namespace) {
		w := newWorld(t, root)
		for _, n := range networks() {
			service, port := netip.AddrPortFrom(n.service, servicePort), netip.AddrPortFrom(n.node, nodePort)
			for _, tc := range []struct {
				name string
				from *testnet.Namespace
				to   netip.AddrPort
			}{
				{"a Pod asks a Service", w.pod, service},
				{"the node asks a Service", w.node, service},
				{"a machine outside asks a Service", w.outside, service},
				{"a machine outside asks a NodePort", w.outside, port},
				{"the node asks a NodePort", w.node, port},
			} {
				t.Run(n.name+"/"+tc.name, func(t *testing.T) {
					before, began := w.refuser.Stats(), time.Now()
					if err := w.connect(tc.from, tc.to); err != nil {
						t.Error(err)
					}
					tcp := time.Since(began)
					c := w.dialUDP(t, tc.from, tc.to)
					defer func() { _ = c.Close() }()
					if err := w.write(c, patience); err != nil {
						t.Error(err)
					}
					t.Logf("TCP %v, UDP %v", tcp, time.Since(began)-tcp)
					// They are counted when the switch has sent them.
					testnet.WaitFor(t, patience, func() error {
						if after := w.refuser.Stats(); after.Resets <= before.Resets || after.Unreachables <= before.Unreachables {
							return fmt.Errorf("counted %+v, before %+v", after, before)
						}
						return nil
					})
				})
			}
			t.Run(n.name+"/ping", func(t *testing.T) {
				out, err := w.pod.Command(t.Context(), "ping", "-n", "-c1", "-W5", n.service.String()).CombinedOutput()
				if err == nil || !strings.Contains(string(out), "Port") {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		t.Run("many", w.many)
	})
}

// many clients are refused, one after the other and at the same time.
func (w *world) many(t *testing.T) {
	service := netip.AddrPortFrom(networks()[0].service, servicePort)
	for _, clients := range []int{1, 8} {
		began, results := time.Now(), make(chan error)
		const each = 50
		for range clients {
			go func() {
				var err error
				for i := 0; i < each && err == nil; i++ {
					err = w.connect(w.pod, service)
				}
				results <- err
			}()
		}
		for range clients {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		took := time.Since(began)
		t.Logf("%d clients: %v a connection", clients, took/time.Duration(clients*each))
	}
	if s := w.refuser.Stats(); s.Failed != 0 || s.Unanswered != 0 {
		t.Errorf("counted %+v", s)
	}
}

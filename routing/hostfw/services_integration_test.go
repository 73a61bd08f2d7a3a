// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hostfw

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
)

// serviceWorld is a world whose switch has Services: behind it is another Pod
// as client, and answers of Services go back through the node.
func serviceWorld(t *testing.T, node *testnet.Namespace) (w world, client *testnet.Namespace) {
	w, client = newWorld(t, node), testnet.New(t, "client")
	testnet.Veth(t,
		testnet.End{NS: w.pods, Name: "c0", Addrs: []string{"10.10.9.1/24", "fd10:0:0:9::1/64"}},
		testnet.End{NS: client, Name: "eth0", Addrs: []string{"10.10.9.9/24", "fd10:0:0:9::9/64"}})
	for _, line := range []string{
		"sysctl -q -w net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1",
		"ip address add 169.254.87.78/32 dev lo", "ip address add 169.254.96.1/32 dev lo",
		"ip address add 100::574e/128 dev lo nodad", "ip address add 100::574e:0:1/128 dev lo nodad",
		"ip route add 169.254.87.79 via 10.10.9.9", "ip route add 100::574f via fd10:0:0:9::9",
		"ip rule add from 169.254.0.0/16 lookup 100", "ip -6 rule add from 100::/64 lookup 100",
		"ip route add default via 10.10.1.1 table 100", "ip -6 route add default via fd10:0:0:1::1 table 100",
	} {
		w.pods.Exec(t, line)
	}
	for _, line := range []string{
		"ip route add 169.254.87.78 via 10.10.1.2", "ip route add 169.254.96.1 via 10.10.1.2", "ip route add 10.10.9.0/24 via 10.10.1.2",
		"ip route add 169.254.87.79 via 10.10.1.2", "ip route add 100::574f via fd10:0:0:1::2",
		"ip route add 100::574e via fd10:0:0:1::2", "ip route add 100::574e:0:1 via fd10:0:0:1::2", "ip route add fd10:0:0:9::/64 via fd10:0:0:1::2",
	} {
		node.Exec(t, line)
	}
	client.Exec(t, "ip address add 169.254.87.79/32 dev lo")
	client.Exec(t, "ip address add 100::574f/128 dev lo nodad")
	client.Exec(t, "ip route add default via 10.10.9.1")
	client.Exec(t, "ip route add default via fd10:0:0:9::1")
	for _, port := range []int{30080, 443} {
		w.report(t, w.pods, port)
	}
	for _, ns := range []*testnet.Namespace{node, w.pods, w.outside, client} {
		testnet.WaitFor(t, 10*time.Second, func() error {
			if got := ns.Exec(t, "ip -6 address show tentative"); got != "" {
				return fmt.Errorf("tentative addresses:\n%s", got)
			}
			return nil
		})
	}
	return w, client
}

// report tells every client by TCP and UDP who is asked and who asks.
func (w world) report(t *testing.T, ns *testnet.Namespace, port int) {
	t.Helper()
	var l net.Listener
	var conns []net.PacketConn
	if err := ns.Do(func() (err error) {
		if l, err = net.Listen("tcp", fmt.Sprint(":", port)); err != nil {
			return err
		}
		for _, a := range []string{"169.254.87.78", "169.254.96.1", "100::574e", "100::574e:0:1"} {
			c, err := net.ListenPacket("udp", net.JoinHostPort(a, fmt.Sprint(port)))
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	text := func(local, remote net.Addr) string {
		host := func(a net.Addr) string { return netip.MustParseAddrPort(a.String()).Addr().Unmap().String() }
		return host(local) + " asked by " + host(remote)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text(c.LocalAddr(), c.RemoteAddr()))
			_ = c.Close()
		}
	}()
	for _, c := range conns {
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			b := make([]byte, 16)
			for {
				_, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte(text(c.LocalAddr(), from)), from)
			}
		}()
	}
}

// answer is what report says through a NodePort or an alias, empty if nothing.
// The source may be left to the kernel.
func answer(ns *testnet.Namespace, network, from, to string, port int) string {
	var got string
	_ = ns.Do(func() error {
		d := net.Dialer{Timeout: time.Second}
		switch source := net.ParseIP(from); {
		case from == "":
		case network == "udp":
			d.LocalAddr = &net.UDPAddr{IP: source}
		default:
			d.LocalAddr = &net.TCPAddr{IP: source}
		}
		c, err := d.Dial(network, net.JoinHostPort(to, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if network == "udp" {
			_, _ = io.WriteString(c, "?")
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		got = string(b[:n])
		return err
	})
	return got
}

func nodePorts(ports ...ServicePort) ServiceRules {
	return ServiceRules{
		Gateway: "wm-gw0", NodePorts: ports, To4: netip.MustParseAddr("169.254.87.78"), To6: netip.MustParseAddr("100::574e"),
	}
}

func withAliases(r ServiceRules) ServiceRules {
	for _, p := range []uint8{tcp, udp} {
		r.Aliases = append(r.Aliases, alias("172.30.0.11:443", p, "169.254.96.1"), alias("[fd30::11]:443", p, "100::574e:0:1"))
	}
	return r
}

// TestServicePackets looks at where packets to addresses of the node go, and
// which source they have there, on a host that masquerades Pods and forwards
// nothing by itself.
func TestServicePackets(t *testing.T) {
	everywhere := withAliases(nodePorts(ServicePort{tcp, 30080}, ServicePort{udp, 30080}))
	everywhere.NodeClients = nodeClients()
	chosen := everywhere
	chosen.NodePortAddrs = prefixes("172.30.0.0/24", "fd30::/64")
	const v4, v6, a4, a6 = "169.254.87.78", "100::574e", "169.254.96.1", "100::574e:0:1"
	probes := []struct {
		from, to           string
		port               int
		everywhere, chosen string // "" if nobody answers
	}{
		{"outside", "172.30.0.11", 30080, v4 + " asked by 172.30.0.99", v4 + " asked by 172.30.0.99"},
		{"outside", "fd30::11", 30080, v6 + " asked by fd30::99", v6 + " asked by fd30::99"},
		{"outside", "172.30.0.11", 443, a4 + " asked by 172.30.0.99", a4 + " asked by 172.30.0.99"},
		{"outside", "fd30::11", 443, a6 + " asked by fd30::99", a6 + " asked by fd30::99"},
		{"outside", "172.30.0.11", 30081, "", ""},
		{"outside", "10.10.1.1", 30080, v4 + " asked by 172.30.0.99", ""},
		{"outside", "fd10:0:0:1::1", 30080, v6 + " asked by fd30::99", ""},
		{"client", "172.30.0.11", 30080, v4 + " asked by 10.10.9.9", v4 + " asked by 10.10.9.9"},
		{"client", "fd30::11", 30080, v6 + " asked by fd10:0:0:9::9", v6 + " asked by fd10:0:0:9::9"},
		{"client", "172.30.0.11", 443, a4 + " asked by 10.10.9.9", a4 + " asked by 10.10.9.9"},
		{"node", "172.30.0.11", 30080, v4 + " asked by 169.254.87.79", v4 + " asked by 169.254.87.79"},
		{"node", "fd30::11", 30080, v6 + " asked by 100::574f", v6 + " asked by 100::574f"},
		{"node", "172.30.0.11", 443, a4 + " asked by 172.30.0.11", a4 + " asked by 172.30.0.11"},
		{"node", "fd30::11", 443, a6 + " asked by fd30::11", a6 + " asked by fd30::11"},
		{"node", "127.0.0.1", 30080, "", ""},
		{"node", "::1", 30080, "", ""},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				usePrograms(t, kind.program)
				w, client := serviceWorld(t, node)
				from := map[string]*testnet.Namespace{"outside": w.outside, "client": client, "node": node}
				for _, name := range []string{"iptables", "ip6tables"} {
					node.Exec(t, name+" -P FORWARD DROP")
				}
				pods := packetRules(SNATAlways)
				pods.LocalPodCIDRs = prefixes("10.10.0.0/16", "fd10::/32")
				mustApply(t, New(Params{Backend: kind.backend}), pods, Result{Backend: kind.backend, Changed: true})
				fw := NewServices(Params{Backend: kind.backend})
				check := func(what string, want func(i int) string) {
					t.Helper()
					for i, p := range probes {
						for _, network := range []string{"tcp", "udp"} {
							source := ""
							if p.from == "outside" { // which has several
								source = "172.30.0.99"
								if strings.Contains(p.to, ":") {
									source = "fd30::99"
								}
							}
							if got := answer(from[p.from], network, source, p.to, p.port); got != want(i) {
								t.Errorf("%s: %s asks %s port %d by %s: %q, want %q", what, p.from, p.to, p.port, network, got, want(i))
							}
						}
					}
				}
				mustApply(t, fw, everywhere, Result{Backend: kind.backend, Changed: true})
				check("everywhere", func(i int) string { return probes[i].everywhere })
				for _, p := range []struct{ from, to, want string }{
					{"169.254.87.79", "172.30.0.99", "172.30.0.11"}, {"100::574f", "fd30::99", "fd30::11"},
					{"169.254.87.79", "10.10.3.3", "172.30.0.11"}, {"100::574f", "fd10:0:0:3::3", "fd30::11"},
				} {
					if got, err := seenFrom(client, p.from, p.to, 80); err != nil || got != p.want {
						t.Errorf("what %s sends to %s is seen as %q, %v, want %s", p.from, p.to, got, err, p.want)
					}
				}
				mustApply(t, fw, chosen, Result{Backend: kind.backend, Changed: true})
				check("chosen addresses", func(i int) string { return probes[i].chosen })
				mustApply(t, fw, ServiceRules{}, Result{Backend: kind.backend, Changed: true})
				check("removed", func(int) string { return "" })
				if left := serviceRulesOf(t, node); len(left) > 0 {
					t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
				}
			})
		})
	}
}

// serviceRulesOf lists the rules of Services in every packet filter.
func serviceRulesOf(t *testing.T, node *testnet.Namespace) []string {
	t.Helper()
	var out []string
	dumps := node.Exec(t, "iptables-save") + node.Exec(t, "ip6tables-save")
	for _, line := range strings.Split(dumps, "\n") {
		if strings.HasPrefix(line, "-A") && (strings.Contains(line, "WAYMARK-SERVICES") || strings.Contains(line, "WAYMARK-NODE-PORTS")) {
			out = append(out, line)
		}
	}
	if node.Try("nft list table inet waymark-services") == nil {
		for _, line := range strings.Split(node.Exec(t, "nft -s list table inet waymark-services"), "\n") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// TestServicesDrift damages the rules and looks whether they are repaired.
func TestServicesDrift(t *testing.T) {
	damages := map[Backend][]string{
		NFTables: {
			"nft delete table inet waymark-services",
			"nft flush chain inet waymark-services prerouting",
			"nft insert rule inet waymark-services services accept",
			"nft delete element inet waymark-services node-ports { 6 . 30080 }",
			"nft add element inet waymark-services node-ports { 6 . 22 }",
			"nft delete element inet waymark-services aliases-v6 { fd30::11 . 6 . 443 }",
			"nft flush set inet waymark-services node-port-addrs-v4",
		},
		IPTables: {
			"iptables -t nat -F WAYMARK-NODE-PORTS",
			"iptables -t nat -D WAYMARK-NODE-PORTS-DNAT 1",
			"ip6tables -t nat -I WAYMARK-SERVICES -j RETURN",
			"iptables -t nat -F OUTPUT",
			"ip6tables -t nat -F PREROUTING",
			"iptables -t nat -I PREROUTING -j WAYMARK-SERVICES",
			"iptables -t nat -F WAYMARK-SERVICES-OUT",
		},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				usePrograms(t, kind.program)
				node.Exec(t, "nft add table inet foreign")
				fw, r := NewServices(Params{Backend: kind.backend}), fullServices()
				r.NodePortAddrs = prefixes("172.30.0.0/24", "10.0.0.1/32", "fd30::/64")
				mustApply(t, fw, ServiceRules{}, Result{Backend: kind.backend})
				mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
				want := serviceRulesOf(t, node)
				mustApply(t, fw, r, Result{Backend: kind.backend})
				for _, line := range damages[kind.backend] {
					node.Exec(t, line)
					mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true, Drift: true})
					mustApply(t, fw, r, Result{Backend: kind.backend})
					if diff := cmp.Diff(want, serviceRulesOf(t, node)); diff != "" {
						t.Errorf("after %q (-want +got):\n%s", line, diff)
					}
				}
				mustApply(t, fw, ServiceRules{}, Result{Backend: kind.backend, Changed: true})
				mustApply(t, fw, ServiceRules{}, Result{Backend: kind.backend})
				if left := serviceRulesOf(t, node); len(left) > 0 {
					t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
				}
				node.Exec(t, "nft list table inet foreign")
			})
		})
	}
}

// TestServicesKnown: what this firewall alone changed need not be listed, and
// what others change is still seen.
func TestServicesKnown(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		fw, r := NewServices(Params{}), nodePorts(ServicePort{tcp, 30000})
		changed, same := Result{Backend: NFTables, Changed: true}, Result{Backend: NFTables}
		mustApply(t, fw, r, changed)
		mustApply(t, fw, r, same)
		for i := range uint16(3) {
			r = nodePorts(ServicePort{tcp, 30001 + i})
			mustApply(t, fw, r, changed)
			if fw.keeper.generation == 0 {
				t.Error("an own change makes the table unknown")
			}
			if got := node.Exec(t, "nft list set inet waymark-services node-ports"); !strings.Contains(got, fmt.Sprintf("{ tcp . %d }", 30001+i)) {
				t.Errorf("set:\n%s", got)
			}
			mustApply(t, fw, r, same)
		}
		node.Exec(t, "nft flush set inet waymark-services node-ports")
		mustApply(t, fw, r, Result{Backend: NFTables, Changed: true, Drift: true})
		mustApply(t, fw, r, same)
		node.Exec(t, "nft delete table inet waymark-services")
		r = nodePorts(ServicePort{tcp, 30009})
		mustApply(t, fw, r, changed)
		mustApply(t, fw, r, same)
		mustApply(t, fw, ServiceRules{}, changed)
		mustApply(t, fw, ServiceRules{}, same)
	})
}

// TestManyNodePorts says what 2,000 NodePorts cost.
func TestManyNodePorts(t *testing.T) {
	for _, kind := range kinds[:2] {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
				usePrograms(t, kind.program)
				fw := NewServices(Params{Backend: kind.backend})
				for _, step := range []struct {
					ports   int
					changed bool
				}{{2000, true}, {2000, false}, {2000, false}, {2001, true}, {2001, false}} {
					start := time.Now()
					mustApply(t, fw, nodePorts(manyPorts(step.ports)...), Result{Backend: kind.backend, Changed: step.changed})
					t.Logf("%d ports, changed %v: %v", step.ports, step.changed, time.Since(start))
				}
			})
		})
	}
}

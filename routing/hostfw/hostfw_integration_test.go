// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hostfw

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
)

// kinds are the packet filters of this machine. setup makes the programs of
// that kind the ones that are found.
var kinds = []struct {
	name    string
	backend Backend
	program string // prefix of the programs of iptables
}{
	{"nftables", NFTables, "nft"},
	{"iptables-nft", IPTables, "nft"},
	{"iptables-legacy", IPTables, "legacy"},
}

// usePrograms makes "iptables" mean the program of a kind.
func usePrograms(t *testing.T, kind string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-restore", "-save"} {
			path, err := exec.LookPath(name + "-" + kind + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, name+suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// world is a node with a network on each side of it:
//
//	pods --- wm-gw0 node eth0 --- outside
//
// In pods live the local Pod and, as if behind a tunnel, a remote one; outside
// are another node, a Pod routed without a tunnel and hosts of two kinds. All
// know the way back to the Pod, so that a source decides nothing but itself.
type world struct{ node, pods, outside *testnet.Namespace }

func newWorld(t *testing.T, node *testnet.Namespace) world {
	w := world{node, testnet.New(t, "pods"), testnet.New(t, "outside")}
	testnet.Veth(t,
		testnet.End{NS: node, Name: "wm-gw0", Addrs: []string{"10.10.1.1/24", "fd10:0:0:1::1/64"}},
		testnet.End{NS: w.pods, Name: "eth0", Addrs: []string{"10.10.1.2/24", "fd10:0:0:1::2/64"}})
	testnet.Veth(t,
		testnet.End{NS: node, Name: "eth0", Addrs: []string{"172.30.0.11/24", "fd30::11/64"}},
		testnet.End{NS: w.outside, Name: "eth0", Addrs: []string{
			"172.30.0.99/24", "fd30::99/64", "172.30.0.12/24", "fd30::12/64",
			"192.168.5.1/32", "fd99::1/128", "10.10.3.3/32", "fd10:0:0:3::3/128",
		}})
	for _, line := range []string{
		"sysctl -q -w net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1",
		"ip route add 192.168.0.0/16 via 172.30.0.99", "ip route add fd99::/48 via fd30::99",
		"ip route add 10.10.3.0/24 via 172.30.0.12", "ip route add fd10:0:0:3::/64 via fd30::12",
		"ip route add 10.10.2.0/24 via 10.10.1.2", "ip route add fd10:0:0:2::/64 via fd10:0:0:1::2",
		"nft add table inet portmap",
		"nft add chain inet portmap pre { type nat hook prerouting priority dstnat ; }",
		"nft add rule inet portmap pre ip daddr 172.30.0.11 tcp dport 8080 dnat ip to 10.10.1.2:80",
		"nft add rule inet portmap pre ip6 daddr fd30::11 tcp dport 8080 dnat ip6 to [fd10:0:0:1::2]:80",
	} {
		node.Exec(t, line)
	}
	w.pods.Exec(t, "ip address add 10.10.2.7/32 dev lo")
	w.pods.Exec(t, "ip address add fd10:0:0:2::7/128 dev lo nodad")
	w.pods.Exec(t, "ip route add default via 10.10.1.1")
	w.pods.Exec(t, "ip route add default via fd10:0:0:1::1")
	w.outside.Exec(t, "ip route add 10.10.1.0/24 via 172.30.0.11")
	w.outside.Exec(t, "ip route add fd10:0:0:1::/64 via fd30::11")
	for _, ns := range []*testnet.Namespace{w.pods, w.outside} {
		w.serve(t, ns)
	}
	return w
}

// serve tells every client by TCP, port 80, the address that it is seen with.
func (w world) serve(t *testing.T, ns *testnet.Namespace) {
	t.Helper()
	var l net.Listener
	if err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp", ":80")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().Unmap().String())
			_ = c.Close()
		}
	}()
}

// seenFrom connects and returns the client's address as the server sees it.
func seenFrom(ns *testnet.Namespace, from, to string, port int) (string, error) {
	var seen string
	err := ns.Do(func() error {
		d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", net.JoinHostPort(to, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		seen = string(b)
		return err
	})
	return seen, err
}

// TestSources looks at what sources connections have, for each backend, mode
// and family.
func TestSources(t *testing.T) {
	type probe struct {
		what     string
		fromPods bool
		from, to string
		port     int
		want     map[SNAT]string
	}
	always := func(s string) map[SNAT]string { return map[SNAT]string{SNATAuto: s, SNATAlways: s, SNATNever: s} }
	families := [][]probe{
		{
			{"Pod to host", true, "10.10.1.2", "172.30.0.99", 80, map[SNAT]string{SNATAuto: "172.30.0.11", SNATAlways: "172.30.0.11", SNATNever: "10.10.1.2"}},
			{"Pod to spared host", true, "10.10.1.2", "192.168.5.1", 80, map[SNAT]string{SNATAuto: "10.10.1.2", SNATAlways: "172.30.0.11", SNATNever: "10.10.1.2"}},
			{"Pod to node", true, "10.10.1.2", "172.30.0.12", 80, always("10.10.1.2")},
			{"Pod to routed Pod", true, "10.10.1.2", "10.10.3.3", 80, always("10.10.1.2")},
			{"host to hostPort", false, "172.30.0.99", "172.30.0.11", 8080, always("172.30.0.99")},
		}, {
			{"Pod to host", true, "fd10:0:0:1::2", "fd30::99", 80, map[SNAT]string{SNATAuto: "fd30::11", SNATAlways: "fd30::11", SNATNever: "fd10:0:0:1::2"}},
			{"Pod to spared host", true, "fd10:0:0:1::2", "fd99::1", 80, map[SNAT]string{SNATAuto: "fd10:0:0:1::2", SNATAlways: "fd30::11", SNATNever: "fd10:0:0:1::2"}},
			{"Pod to node", true, "fd10:0:0:1::2", "fd30::12", 80, always("fd10:0:0:1::2")},
			{"Pod to routed Pod", true, "fd10:0:0:1::2", "fd10:0:0:3::3", 80, always("fd10:0:0:1::2")},
			{"host to hostPort", false, "fd30::99", "fd30::11", 8080, always("fd30::99")},
		},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				usePrograms(t, kind.program)
				w := newWorld(t, node)
				fw := New(Params{Backend: kind.backend})
				for _, mode := range []SNAT{SNATAuto, SNATAlways, SNATNever} {
					r := packetRules(mode)
					mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
					mustApply(t, fw, r, Result{Backend: kind.backend})
					for i, probes := range families {
						for _, p := range probes {
							from := w.outside
							if p.fromPods {
								from = w.pods
							}
							got, err := seenFrom(from, p.from, p.to, p.port)
							if err != nil || got != p.want[mode] {
								t.Errorf("%s, IPv%d, %s: seen as %q, %v; want %s", mode, 4+2*i, p.what, got, err, p.want[mode])
							}
						}
					}
				}
			})
		})
	}
}

func packetRules(mode SNAT) Ruleset {
	r := full(mode)
	r.SwitchedNICs = nil
	r.NonMasqueradeCIDRs = prefixes("192.168.0.0/16", "fd99::/48")
	r.ClusterPodCIDRs = prefixes("10.10.0.0/16", "fd10::/48", "fd10:0:0:3::/64")
	return r
}

// firewall is a Firewall or a ServiceFirewall.
type firewall[R any] interface {
	Apply(ctx context.Context, rules R) (Result, error)
}

func mustApply[R any](t *testing.T, fw firewall[R], rules R, want Result) {
	t.Helper()
	got, err := fw.Apply(t.Context(), rules)
	if err != nil || got != want {
		t.Fatalf("Apply: %+v, %v; want %+v", got, err, want)
	}
}

// ourRules lists what is ours in every packet filter, table by table; iptables
// name their tables in no fixed order.
func ourRules(t *testing.T, node *testnet.Namespace) string {
	t.Helper()
	var out []string
	dumps := ""
	for _, cmd := range []string{"iptables-save -t ", "ip6tables-save -t "} {
		for _, p := range places {
			dumps += node.Exec(t, cmd+p.table)
		}
	}
	if node.Try("nft list table inet waymark") == nil {
		dumps += node.Exec(t, "nft list table inet waymark")
	}
	for _, line := range strings.Split(dumps, "\n") {
		if strings.Contains(strings.ToLower(line), "waymark") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// TestDrift damages the rules and looks whether they are repaired, and that
// nobody else's are.
func TestDrift(t *testing.T) {
	damages := map[Backend][]string{
		NFTables: {
			"nft delete table inet waymark",
			"nft flush chain inet waymark postrouting",
			"nft insert rule inet waymark postrouting accept",
			"nft delete element inet waymark no-masquerade-v4 { 172.30.0.12 }",
			"nft delete element inet waymark local-pods-v6 { fd10:0:0:1::/64 }",
		},
		IPTables: {
			"iptables -t nat -F WAYMARK-SNAT",
			"iptables -t nat -D WAYMARK-SNAT 1",
			"ip6tables -t nat -I WAYMARK-POSTROUTING -j RETURN",
			"iptables -t nat -F POSTROUTING",
			"ip6tables -t filter -F FORWARD",
			"iptables -t filter -I FORWARD -j WAYMARK-FORWARD",
		},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				usePrograms(t, kind.program)
				node.Exec(t, "nft add table inet foreign")
				fw, r := New(Params{Backend: kind.backend}), full(SNATAuto)
				mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
				want := ourRules(t, node)
				mustApply(t, fw, r, Result{Backend: kind.backend})
				if legacy := kind.program == "legacy"; (fw.keeper.generation != 0) == legacy {
					t.Errorf("generation %d: with nftables alone it saves the listing, otherwise not", fw.keeper.generation)
				}
				for _, line := range damages[kind.backend] {
					node.Exec(t, line)
					mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true, Drift: true})
					mustApply(t, fw, r, Result{Backend: kind.backend})
					if diff := cmp.Diff(rulesOnly(want), rulesOnly(ourRules(t, node))); diff != "" {
						t.Errorf("after %q (-want +got):\n%s", line, diff)
					}
				}
				node.Exec(t, "nft list table inet foreign")
			})
		})
	}
}

// rulesOnly leaves out the declarations of chains, which come in any order.
func rulesOnly(s string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(s, "\n"), func(line string) bool {
		return strings.HasPrefix(line, ":")
	}), "\n")
}

// TestForwardDrop looks whether Pods are forwarded on a host whose iptables
// drop, and whether iptables are left alone where they do not.
func TestForwardDrop(t *testing.T) {
	for _, program := range []string{"nft", "legacy"} {
		t.Run(program, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				w := newWorld(t, node)
				fw, r := New(Params{}), packetRules(SNATNever)
				mustApply(t, fw, r, Result{Backend: NFTables, Changed: true})
				if got := node.Exec(t, "iptables-save"); strings.Contains(got, "WAYMARK") {
					t.Errorf("iptables was touched for nothing:\n%s", got)
				}
				for _, name := range []string{"iptables-", "ip6tables-"} {
					node.Exec(t, name+program+" -P FORWARD DROP")
				}
				if _, err := seenFrom(w.pods, "10.10.1.2", "172.30.0.99", 80); err == nil {
					t.Fatal("forwarded although FORWARD drops: the test tests nothing")
				}
				mustApply(t, fw, r, Result{Backend: NFTables, Changed: true, Drift: true})
				mustApply(t, fw, r, Result{Backend: NFTables})
				for from, to := range map[string]string{"10.10.1.2": "172.30.0.99", "fd10:0:0:1::2": "fd30::99"} {
					if got, err := seenFrom(w.pods, from, to, 80); err != nil || got != from {
						t.Errorf("from %s: seen as %q, %v", from, got, err)
					}
				}
				for _, name := range []string{"iptables-", "ip6tables-"} {
					node.Exec(t, name+program+" -P FORWARD ACCEPT")
				}
				mustApply(t, fw, r, Result{Backend: NFTables, Changed: true, Drift: true})
				if got := node.Exec(t, "iptables-"+program+"-save"); strings.Contains(got, "WAYMARK") {
					t.Errorf("left behind:\n%s", got)
				}
			})
		})
	}
}

// TestSwitchedNIC looks whether the kernel is deaf on a NIC of the switch.
func TestSwitchedNIC(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				usePrograms(t, kind.program)
				w := newWorld(t, node)
				fw, r := New(Params{Backend: kind.backend}), packetRules(SNATAuto)
				mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
				w.outside.Exec(t, "ping -c1 -W2 172.30.0.11")
				w.outside.Exec(t, "ping -c1 -W2 fd30::11")
				r.SwitchedNICs = []string{"eth0"}
				mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
				for _, a := range []string{"172.30.0.11", "fd30::11", "10.10.1.2", "fd10:0:0:1::2"} {
					if err := w.outside.Try("ping -c1 -W1 " + a); err == nil {
						t.Errorf("%s answers through the NIC", a)
					}
				}
				r.SwitchedNICs = nil
				mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
				w.outside.Exec(t, "ping -c1 -W2 172.30.0.11")
			})
		})
	}
}

// TestChangeOfBackend looks whether a backend takes away what the other left.
func TestChangeOfBackend(t *testing.T) {
	t.Run("Pods", func(t *testing.T) { changeOfBackend(t, New, full(SNATAuto), tableName) })
	t.Run("Services", func(t *testing.T) { changeOfBackend(t, NewServices, fullServices(), serviceTableName) })
}

func changeOfBackend[F firewall[R], R any](t *testing.T, firewall func(Params) F, r R, table string) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		mustApply(t, firewall(Params{Backend: NFTables}), r, Result{Backend: NFTables, Changed: true})
		mustApply(t, firewall(Params{Backend: IPTables}), r, Result{Backend: IPTables, Changed: true})
		if err := node.Try("nft list table inet " + table); err == nil {
			t.Error("the table of nftables is still there")
		}
		mustApply(t, firewall(Params{}), r, Result{Backend: NFTables, Changed: true})
		if got := node.Exec(t, "iptables-save") + node.Exec(t, "ip6tables-save"); strings.Contains(got, "WAYMARK") {
			t.Errorf("rules of iptables are still there:\n%s", got)
		}
	})
}

// TestChoice looks at what is chosen where a program is missing.
func TestChoice(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		usePrograms(t, "nft")
		only := strings.Split(os.Getenv("PATH"), ":")[0]
		t.Setenv("PATH", only)
		mustApply(t, New(Params{Backend: Auto}), full(SNATAuto), Result{Backend: IPTables, Changed: true})
		_, err := New(Params{Backend: NFTables}).Apply(context.Background(), full(SNATAuto))
		if err == nil || !strings.Contains(err.Error(), "nft") {
			t.Errorf("without nft: %v", err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kernel

import (
	"context"
	"errors"

	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// uplinkWorld is a node with a NIC full of configuration, and a router.
type uplinkWorld struct {
	node, tor *testnet.Namespace
	sw        *vswitch
	mover     *UplinkMover
	state     string
}

func newUplinkWorld(t *testing.T, node *testnet.Namespace) uplinkWorld {
	t.Helper()
	w := uplinkWorld{node: node, tor: testnet.New(t, "tor"), state: filepath.Join(t.TempDir(), "uplink.json")}
	testnet.Veth(t,
		testnet.End{NS: node, Name: "eth0", MAC: "02:00:00:00:00:0b", MTU: 1450, Addrs: []string{"172.30.0.11/24", "172.30.0.12/24", "172.40.0.1/32", "fd30::11/64"}},
		testnet.End{NS: w.tor, Name: "eth0", MAC: "02:00:00:00:00:01", MTU: 1450, Addrs: []string{"172.30.0.1/24", "fd30::1/64", "fe80::1/64"}})
	testnet.Veth(t,
		testnet.End{NS: node, Name: "eth1", Addrs: []string{"172.31.0.11/24"}},
		testnet.End{NS: w.tor, Name: "eth1", Addrs: []string{"172.31.0.1/24"}})
	for _, line := range []string{
		"ip route add default via 172.30.0.1", "ip route add default via fe80::1 dev eth0",
		"ip route add 10.99.0.0/16 via 172.30.0.1 src 172.30.0.12 metric 7 proto static mtu 1400",
		"ip route add 10.98.0.0/16 metric 9 nexthop via 172.30.0.1 nexthop via 172.31.0.1 weight 3",
		"ip route add 169.254.9.9/32 dev eth0", "ip route add 10.97.0.0/16 via 169.254.9.9 dev eth0 onlink",
		"ip route add 10.96.0.0/16 via 172.30.0.1 table 100", "ip route add fd99::/48 via fd30::1 metric 50 mtu 1400",
		"ip route add 10.10.2.0/24 via 172.30.0.1 metric 100 proto 87", "ip route add 10.95.0.0/16 via 172.31.0.1",
	} {
		node.Exec(t, line)
	}
	w.tor.Exec(t, "ip route add 10.10.2.0/24 dev lo")
	w.sw = newSwitch(t)
	w.sw.vsctl(t, "add-br", "br-ext", "--", "set", "bridge", "br-ext", "datapath_type=netdev", "other-config:hwaddr=02:00:00:00:00:0b")
	w.mover = NewUplinkMover(UplinkMoverParams{NIC: "eth0", Bridge: "br-ext", StateFile: w.state})
	return w
}

func (w uplinkWorld) attach(t *testing.T) {
	t.Helper()
	w.sw.vsctl(t, "add-port", "br-ext", "eth0")
}

func (w uplinkWorld) move(t *testing.T, wantChange bool) {
	t.Helper()
	if got, err := w.mover.Move(t.Context()); err != nil || got.Changed != wantChange {
		t.Fatalf("Move: %+v, %v; want change %v", got, err, wantChange)
	}
}

// config is all that iproute2 shows of an interface that is to move, in terms
// that do not name it. What the kernel adds to IPv6 link-local addresses is
// left out.
func (w uplinkWorld) config(t *testing.T, dev string) string {
	t.Helper()
	var out []string
	for _, line := range strings.Split(w.node.Exec(t, "ip -o address show dev "+dev+" scope global"), "\n") {
		if f := strings.Fields(line); len(f) > 3 {
			out = append(out, f[2]+" "+f[3])
		}
	}
	for _, family := range []string{"-4", "-6"} {
		for _, table := range []string{"main", "100"} {
			text, err := w.node.Command(t.Context(), "ip", "-o", family, "route", "show", "table", table).Output()
			if err != nil && table == "main" {
				t.Fatal(err)
			}
			for _, line := range strings.Split(string(text), "\n") {
				if strings.Contains(line, "dev "+dev+" ") && !strings.Contains(line, "fe80::/64") {
					line = strings.ReplaceAll(line, "dev "+dev+" ", "dev UPLINK ")
					out = append(out, table+": "+strings.Join(strings.Fields(line), " "))
				}
			}
		}
	}
	return strings.Join(out, "\n")
}

func (w uplinkWorld) reachable() error {
	return errors.Join(w.tor.Try("ping -c1 -W1 172.30.0.11"), w.tor.Try("ping -c1 -W1 fd30::11"), w.tor.Try("ping -c1 -W1 172.30.0.12"))
}

// ping pings the node until stop is called, which returns how many packets were lost.
func (w uplinkWorld) ping(t *testing.T, addr string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := w.tor.Command(ctx, "ping", "-i", "0.01", "-q", addr)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() int {
		cancel()
		_ = cmd.Wait()
		m := regexp.MustCompile(`(\d+) packets transmitted, (\d+) received(, \+(\d+) duplicates)?`).FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("ping said %q", out.String())
		}
		sent, _ := strconv.Atoi(m[1])
		got, _ := strconv.Atoi(m[2])
		t.Logf("%s: %s", addr, m[0])
		return sent - got
	}
}

// TestMoveAndReturn moves the uplink there and back under a ping.
func TestMoveAndReturn(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		w := newUplinkWorld(t, node)
		before := w.config(t, "eth0")
		testnet.WaitFor(t, 10*time.Second, w.reachable)
		stop4, stop6 := w.ping(t, "172.30.0.11"), w.ping(t, "fd30::11")
		w.attach(t)
		w.move(t, true)
		if diff := cmp.Diff(before, w.config(t, "br-ext")); diff != "" {
			t.Errorf("moved (-NIC before +bridge after):\n%s", diff)
		}
		if left := w.config(t, "eth0"); left != "" {
			t.Errorf("left on the NIC:\n%s", left)
		}
		testnet.WaitFor(t, 5*time.Second, w.reachable)
		w.move(t, false)
		link := node.Exec(t, "ip link show br-ext")
		if !strings.Contains(link, "02:00:00:00:00:0b") || !strings.Contains(link, "mtu 1450") {
			t.Errorf("bridge: %s", link)
		}
		u, err := DiscoverUplink(t.Context(), UplinkParams{
			Interface: "eth0", Bridge: "br-ext", NodeAddresses: []netip.Addr{netip.MustParseAddr("172.30.0.11")},
		})
		if err != nil || u.Name != "br-ext" {
			t.Errorf("uplink: %+v, %v", u, err)
		}
		if nic, err := SavedNIC(w.state); nic != "eth0" || err != nil {
			t.Errorf("saved: %q, %v", nic, err)
		}

		if changed, err := w.mover.Return(t.Context()); err != nil || !changed {
			t.Fatalf("Return: %v, %v", changed, err)
		}
		w.sw.vsctl(t, "del-br", "br-ext")
		if diff := cmp.Diff(before, w.config(t, "eth0")); diff != "" {
			t.Errorf("returned (-before +after):\n%s", diff)
		}
		testnet.WaitFor(t, 5*time.Second, w.reachable)
		if changed, err := w.mover.Return(t.Context()); err != nil || changed {
			t.Errorf("second Return: %v, %v", changed, err)
		}
		for addr, lost := range map[string]int{"IPv4": stop4(), "IPv6": stop6()} {
			if lost > 300 {
				t.Errorf("%s: %d packets of 10 ms lost", addr, lost)
			}
		}
	})
}

// TestSwitchRestart kills the switch, which takes the bridge and all that is on
// it along, and looks for it on the new one.
func TestSwitchRestart(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		w := newUplinkWorld(t, node)
		w.attach(t)
		w.move(t, true)
		node.Exec(t, "ip address add 172.30.0.13/24 dev br-ext")
		node.Exec(t, "ip route add 10.94.0.0/16 via 172.30.0.1 dev br-ext proto static")
		w.move(t, true) // what people change is saved
		w.move(t, false)
		want := w.config(t, "br-ext")
		for _, made := range []string{"kept", "made anew"} {
			w.sw.kill(t)
			if made == "made anew" { // the switch leaves its devices when it crashes, not when it is told to clean up
				node.Exec(t, "ip link del br-ext")
				if _, err := w.mover.Move(t.Context()); err == nil {
					t.Fatal("Move without a bridge: no error")
				}
			}
			w.sw.start(t)
			if _, err := WaitLink(t.Context(), "br-ext"); err != nil {
				t.Fatal(err)
			}
			w.move(t, made == "made anew")
			// Our own routes come back with the agent's next round.
			mustApplyRoutes(t, []routing.Route{route("10.10.2.0/24", 100, "172.30.0.1%br-ext")}, RouteOptions{})
			testnet.WaitFor(t, 10*time.Second, w.reachable)
			if diff := cmp.Diff(want, w.config(t, "br-ext")); diff != "" {
				t.Errorf("%s (-before +after):\n%s", made, diff)
			}
		}
		// Without any switch the way back is the NIC.
		w.sw.kill(t)
		node.Exec(t, "ip link del br-ext")
		if changed, err := w.mover.Return(t.Context()); err != nil || !changed {
			t.Fatalf("Return: %v, %v", changed, err)
		}
		mustApplyRoutes(t, []routing.Route{route("10.10.2.0/24", 100, "172.30.0.1%eth0")}, RouteOptions{})
		if diff := cmp.Diff(want, w.config(t, "eth0")); diff != "" {
			t.Errorf("returned (-before +after):\n%s", diff)
		}
		testnet.WaitFor(t, 5*time.Second, w.reachable)
	})
}

// TestInterruptedMove stops a move in each place where it can stop, and looks
// whether the next one completes it.
func TestInterruptedMove(t *testing.T) {
	interruptions := map[string]func(t *testing.T, w uplinkWorld, st uplinkState){
		"after saving": func(*testing.T, uplinkWorld, uplinkState) {},
		"bridge up": func(t *testing.T, w uplinkWorld, _ uplinkState) {
			w.node.Exec(t, "ip link set br-ext up")
		},
		"some addresses there": func(t *testing.T, w uplinkWorld, _ uplinkState) {
			w.node.Exec(t, "ip link set br-ext up")
			w.node.Exec(t, "ip address add 172.30.0.11/24 dev br-ext")
		},
		"some routes there": func(t *testing.T, w uplinkWorld, _ uplinkState) {
			w.node.Exec(t, "ip link set br-ext up")
			w.node.Exec(t, "ip address add 172.30.0.11/24 dev br-ext")
			w.node.Exec(t, "ip route replace default via 172.30.0.1 dev br-ext")
		},
		"some addresses gone": func(t *testing.T, w uplinkWorld, _ uplinkState) {
			w.node.Exec(t, "ip link set br-ext up")
			w.node.Exec(t, "ip address add 172.30.0.11/24 dev br-ext")
			w.node.Exec(t, "ip address del 172.30.0.11/24 dev eth0")
		},
		"all gone": func(t *testing.T, w uplinkWorld, _ uplinkState) {
			w.node.Exec(t, "ip address flush dev eth0")
		},
	}
	for name, interrupt := range interruptions {
		t.Run(name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				w := newUplinkWorld(t, node)
				before := w.config(t, "eth0")
				w.attach(t)
				nic, bridge, err := w.mover.links()
				if err != nil {
					t.Fatal(err)
				}
				config, _, boot, err := w.mover.read(nic, bridge)
				if err != nil {
					t.Fatal(err)
				}
				sysctls, off, err := readNIC("eth0")
				if err != nil {
					t.Fatal(err)
				}
				st := uplinkState{
					Version: stateVersion, NIC: "eth0", Bridge: "br-ext", BootID: boot, Config: config.durable(),
					NICSysctls: sysctls, NICOffloads: off,
				}
				if err := saveState(w.state, st); err != nil {
					t.Fatal(err)
				}
				interrupt(t, w, st)
				w.move(t, true)
				mustApplyRoutes(t, []routing.Route{route("10.10.2.0/24", 100, "172.30.0.1%br-ext")}, RouteOptions{})
				if diff := cmp.Diff(before, w.config(t, "br-ext")); diff != "" {
					t.Errorf("(-before +after):\n%s", diff)
				}
				testnet.WaitFor(t, 10*time.Second, w.reachable)
				w.move(t, false)
			})
		})
	}
}

// TestDeafNIC counts answers: a packet that NIC and bridge both hand to the
// kernel is answered twice.
func TestDeafNIC(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		w := newUplinkWorld(t, node)
		node.Exec(t, "sysctl -q -w net.ipv6.conf.all.forwarding=1 net.ipv4.conf.eth0.forwarding=1")
		node.Exec(t, "ip route add unreachable 10.10.0.0/16 proto 87")
		w.attach(t)
		w.move(t, true)
		if v, err := readSysctl(sysctlRoot, "net/ipv4/conf/br-ext/forwarding"); v != "1" || err != nil {
			t.Errorf("forwarding on the bridge: %q, %v", v, err)
		}
		testnet.WaitFor(t, 10*time.Second, w.reachable)
		for _, addr := range []string{"172.30.0.11", "fd30::11"} {
			out := w.tor.Exec(t, "ping -c3 -i 0.2 -W2 "+addr)
			if strings.Contains(out, "DUP") {
				t.Errorf("answered twice:\n%s", out)
			}
		}
		if out := node.Exec(t, "ethtool -k eth0"); !strings.Contains(out, "generic-receive-offload: off") {
			t.Error("the NIC still joins packets")
		}
		if _, err := w.mover.Return(t.Context()); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			"net/ipv4/conf/eth0/forwarding": "1", "net/ipv4/conf/eth0/arp_ignore": "0", "net/ipv6/conf/eth0/disable_ipv6": "0",
		} {
			if v, err := readSysctl(sysctlRoot, path); v != want || err != nil {
				t.Errorf("%s after the return: %q, %v", path, v, err)
			}
		}
	})
}

// TestRouterAdvertisements moves an uplink that learned its default route and
// address from a router.
func TestRouterAdvertisements(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		w := newUplinkWorld(t, node)
		node.Exec(t, "ip -6 route del default via fe80::1 dev eth0")
		node.Exec(t, "ip -6 route add default via fe80::1 dev eth0 proto ra metric 1024 expires 1800")
		node.Exec(t, "ip address add fd30::abcd/64 dev eth0 valid_lft 3600 preferred_lft 1800 nodad")
		w.attach(t)
		w.move(t, true)
		got := w.config(t, "br-ext")
		for _, want := range []string{"inet6 fd30::abcd/64", "default via fe80::1 dev UPLINK proto static metric 1025"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s is missing:\n%s", want, got)
			}
		}
		if v, err := readSysctl(sysctlRoot, "net/ipv6/conf/br-ext/accept_ra"); v != "1" || err != nil {
			t.Errorf("accept_ra: %q, %v", v, err)
		}
		// What the router then says on the bridge changes nothing for the mover.
		node.Exec(t, "ip -6 route add default via fe80::1 dev br-ext proto ra metric 1024 expires 1800")
		w.move(t, false)
	})
}

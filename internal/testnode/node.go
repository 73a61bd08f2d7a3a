// SPDX-License-Identifier: Apache-2.0

//go:build integration

package testnode

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/vsdb"
)

// Node is a node of the cluster in a network namespace: a userspace Open
// vSwitch, the kernel's side of the gateway, and Pods in namespaces of their
// own.
type Node struct {
	NS     *testnet.Namespace
	n      int // its number, part of its addresses
	dir    string
	db     *vsdb.Client
	status vsdb.Status
	pods   int
	// tunnels are those of the layout.
	tunnels []vsdb.Tunnel
}

// New starts a node whose uplink eth0 exists in ns and has addresses.
func New(t *testing.T, ns *testnet.Namespace, n int, layout vsdb.Layout) *Node {
	t.Helper()
	dir, err := os.MkdirTemp("", "wm-node") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &Node{NS: ns, n: n, dir: dir, tunnels: layout.Tunnels}
	db := filepath.Join(dir, "conf.db")
	r.run(t, "ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema")
	r.daemon(t, "ovsdb-server", db, "--remote=punix:"+dir+"/db.sock")
	r.db = vsdb.New(vsdb.Params{Endpoint: "unix:" + dir + "/db.sock"})
	ended := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(ended)
		_ = r.db.Run(ctx)
	}()
	t.Cleanup(func() { <-ended })
	testnet.WaitFor(t, 20*time.Second, func() error {
		if !r.db.Connected() {
			return vsdb.ErrNotConnected
		}
		return nil
	})
	r.daemon(t, "ovs-vswitchd", "unix:"+dir+"/db.sock")
	testnet.WaitFor(t, 20*time.Second, func() error {
		r.status, err = r.db.Apply(ctx, layout.Switch())
		return err
	})
	return r
}

func (r *Node) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := r.NS.Command(ctx, name, args...)
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+r.dir, "OVS_DBDIR="+r.dir, "OVS_LOGDIR="+r.dir)
	return cmd
}

func (r *Node) daemon(t *testing.T, name string, args ...string) {
	t.Helper()
	log := filepath.Join(r.dir, name+".log")
	cmd := r.command(t.Context(), name, append(args, "--unixctl="+r.dir+"/"+name+".ctl", "--log-file="+log, "-vconsole:off")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
		if t.Failed() {
			text, err := os.ReadFile(log)
			t.Logf("log of %s of node %d (%v):\n%s", name, r.n, err, text)
		}
	})
}

func (r *Node) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := r.command(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// exec runs command lines in the node's namespace.
func (r *Node) exec(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		r.NS.Exec(t, l)
	}
}

// Patch changes flows of br-int in one bundle.
func (r *Node) Patch(t *testing.T, changes ...flow.Change) {
	t.Helper()
	var b strings.Builder
	for _, c := range changes {
		for _, k := range c.Remove {
			b.WriteString("delete_strict " + k.String() + "\n")
		}
		for _, f := range c.Set {
			b.WriteString("add " + f.String() + "\n")
		}
	}
	r.install(t, b.String())
}

// Appctl runs a command of ovs-vswitchd.
func (r *Node) Appctl(t *testing.T, args ...string) string {
	t.Helper()
	return r.run(t, "ovs-appctl", append([]string{"-t", r.dir + "/ovs-vswitchd.ctl"}, args...)...)
}

// AddFlows installs flows in br-int.
func (r *Node) AddFlows(t *testing.T, flows []flow.Flow) {
	t.Helper()
	var b strings.Builder
	for _, f := range flows {
		b.WriteString(f.String() + "\n")
	}
	r.install(t, b.String())
}

func (r *Node) install(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(r.dir, "flows")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run(t, "ovs-ofctl", "-O", "OpenFlow14", "--bundle", "add-flows", r.dir+"/br-int.mgmt", path)
}

// Gateway4 is the IPv4 address of the gateway.
func (r *Node) Gateway4() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.10.%d.1", r.n)) }

// Gateway6 is the IPv6 address of the gateway.
func (r *Node) Gateway6() netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd10:0:0:%d::1", r.n))
}

// Addr4 is the IPv4 address of the node.
func (r *Node) Addr4() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", r.n)) }

// Addr6 is the IPv6 address of the node.
func (r *Node) Addr6() netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00::%d", r.n)) }

// SetUp does the kernel's side of the node: addresses move to br-ext, the
// gateway gets its own, forwarding is on, and what the switch takes off the
// wire does not also reach the kernel directly.
func (r *Node) SetUp(t *testing.T) {
	t.Helper()
	r.exec(t,
		"ip address flush dev eth0",
		fmt.Sprintf("ip address add %s/24 dev br-ext", r.Addr4()),
		fmt.Sprintf("ip address add %s/64 dev br-ext nodad", r.Addr6()),
		"ip link set br-ext up",
		fmt.Sprintf("ip address add %s/24 dev wm-gw0", r.Gateway4()),
		fmt.Sprintf("ip address add %s/64 dev wm-gw0 nodad", r.Gateway6()),
		"ip link set wm-gw0 up",
		"sysctl -qw net.ipv4.conf.wm-gw0.forwarding=1 net.ipv4.conf.br-ext.forwarding=1 net.ipv6.conf.all.forwarding=1",
		"nft add table netdev waymark",
	)
	r.fence(t, "eth0")
	r.run(t, "ovs-ofctl", "-O", "OpenFlow13", "set-frags", r.dir+"/br-int.mgmt", "nx-match") // as package openflow does
	r.AddFlows(t, append(pipeline.Base(), pipeline.Gateway(r.GatewayParams())...))
}

// GatewayParams describe the node's gateway to package pipeline.
func (r *Node) GatewayParams() pipeline.GatewayParams {
	return pipeline.GatewayParams{
		Port:        r.status.Ports[vsdb.GatewayPort].OFPort,
		TunnelPorts: r.tunnelPorts(),
		Addrs:       []netip.Addr{r.Gateway4(), r.Gateway6()},
		NodeAddrs:   []netip.Addr{r.Addr4(), r.Addr6()},
	}
}

// tunnelPorts are the OpenFlow ports of the node's tunnels.
func (r *Node) tunnelPorts() []uint32 {
	var ports []uint32
	for _, t := range r.tunnels {
		ports = append(ports, r.status.Ports[t.PortName()].OFPort)
	}
	return ports
}

// fence keeps the kernel from handling what arrives at a device that is a
// port of the userspace switch, which sees a copy.
func (r *Node) fence(t *testing.T, dev string) {
	t.Helper()
	r.run(t, "nft", "add chain netdev waymark "+dev+" { type filter hook ingress device "+dev+" priority 0; policy drop; }")
}

// Join makes the other node known: flows, and the kernel's routes into the tunnel.
func (r *Node) Join(t *testing.T, other *Node, underlay encap.Underlay, tunnel vsdb.Tunnel) {
	t.Helper()
	e, err := encap.SelectEndpoint(underlay, []netip.Addr{r.Addr4(), r.Addr6()}, []netip.Addr{other.Addr4(), other.Addr6()})
	if err != nil {
		t.Fatal(err)
	}
	cidr4, cidr6 := netip.PrefixFrom(other.Gateway4(), 24).Masked(), netip.PrefixFrom(other.Gateway6(), 64).Masked()
	r.AddFlows(t, pipeline.Node(pipeline.NodeParams{
		Sources: []netip.Addr{e.Remote}, TunnelPort: r.status.Ports[tunnel.PortName()].OFPort, Endpoint: e,
		PodCIDRs: []netip.Prefix{cidr4, cidr6},
		Addrs:    []netip.Addr{other.Addr4(), other.Addr6()},
	}))
	r.exec(t,
		fmt.Sprintf("ip neighbour replace %s lladdr %s dev wm-gw0 nud permanent", other.Gateway4(), pipeline.GatewayMAC()),
		fmt.Sprintf("ip neighbour replace %s lladdr %s dev wm-gw0 nud permanent", other.Gateway6(), pipeline.GatewayMAC()),
		fmt.Sprintf("ip route add %s via %s dev wm-gw0 onlink src %s", cidr4, other.Gateway4(), r.Gateway4()),
		fmt.Sprintf("ip -6 route add %s via %s dev wm-gw0 onlink src %s", cidr6, other.Gateway6(), r.Gateway6()),
	)
}

// Pod is a Pod in a namespace.
type Pod struct {
	NS   *testnet.Namespace
	Addr map[int]netip.Addr // by family, 4 and 6
	// Port is the OpenFlow port.
	Port uint32
	mac  net.HardwareAddr
}

// AddPod connects a Pod with an address of each family.
func (r *Node) AddPod(t *testing.T, mtu int) *Pod {
	t.Helper()
	r.pods++
	host := r.pods + 1
	p := &Pod{
		NS: testnet.New(t, fmt.Sprintf("pod%d-%d", r.n, host)),
		Addr: map[int]netip.Addr{
			4: netip.MustParseAddr(fmt.Sprintf("10.10.%d.%d", r.n, host)),
			6: netip.MustParseAddr(fmt.Sprintf("fd10:0:0:%d::%d", r.n, host)),
		},
		mac: net.HardwareAddr{0x0e, 0, 0, 0, byte(r.n), byte(host)},
	}
	dev := fmt.Sprintf("wm%d", host)
	testnet.Veth(t,
		testnet.End{NS: r.NS, Name: dev, MTU: mtu},
		testnet.End{NS: p.NS, Name: "eth0", MAC: p.mac.String(), MTU: mtu, Addrs: []string{
			p.Addr[4].String() + "/32", p.Addr[6].String() + "/128",
		}})
	for _, line := range []string{
		"ethtool -K eth0 tx off",
		fmt.Sprintf("ip route add %s dev eth0 scope link", r.Gateway4()),
		fmt.Sprintf("ip route add default via %s dev eth0", r.Gateway4()),
		fmt.Sprintf("ip -6 route add %s dev eth0", r.Gateway6()),
		fmt.Sprintf("ip -6 route add default via %s dev eth0", r.Gateway6()),
	} {
		p.NS.Exec(t, line)
	}
	r.fence(t, dev)
	port, err := r.db.AddPort(t.Context(), vsdb.PodPort{Name: dev})
	if err != nil {
		t.Fatal(err)
	}
	p.Port = port
	r.AddFlows(t, pipeline.Pod(pipeline.PodPort{Port: port, MAC: p.mac, Addrs: []netip.Addr{p.Addr[4], p.Addr[6]}}))
	return p
}

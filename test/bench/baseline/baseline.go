// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Pod is a network namespace on a node.
type Pod struct {
	Node, NetNS string
	Addr        netip.Addr
}

//go:embed pods.sh
var podsScript string

//go:embed openvswitch.sh
var openvswitchScript string

//go:embed bridge.sh
var bridgeScript string

// LinuxBridge makes the nodes ones of a Linux bridge and returns their Pods.
func LinuxBridge(ctx context.Context, lab *cluster.Lab) ([]Pod, error) {
	return forNodes(ctx, lab, func(h *host.Host, env []string) error {
		return runScript(ctx, h, bridgeScript, env)
	})
}

// OpenVSwitch makes the nodes ones of a userspace Open vSwitch and returns
// their Pods.
func OpenVSwitch(ctx context.Context, lab *cluster.Lab) ([]Pod, error) {
	return forNodes(ctx, lab, func(h *host.Host, env []string) error {
		if err := startOpenVSwitch(ctx, h); err != nil {
			return err
		}
		return runScript(ctx, h, openvswitchScript, env)
	})
}

const (
	ovsDir      = "/run/openvswitch"
	ovsSchema   = "/usr/share/openvswitch/vswitch.ovsschema"
	ovsDatabase = ovsDir + "/conf.db"
)

// startOpenVSwitch starts the daemons, with the weight for the CPU that a
// kubelet gives to all Pods together, the product's switch among them.
func startOpenVSwitch(ctx context.Context, h *host.Host) error {
	if _, err := h.Output(ctx, nil, "sh", "-euc", `
		mkdir -p "$1" /sys/fs/cgroup/cpu/pods
		echo $((1024 * $(nproc))) > /sys/fs/cgroup/cpu/pods/cpu.shares
		ovsdb-tool create "$2" "$3"`, "sh", ovsDir, ovsDatabase, ovsSchema); err != nil {
		return err
	}
	if err := h.StartProcess(ctx, host.Process{
		Name: "ovsdb-server", Log: "/var/log/lab/ovsdb-server.log", Socket: ovsDir + "/db.sock",
		Argv: []string{"ovsdb-server", ovsDatabase, "--remote=punix:" + ovsDir + "/db.sock", "--no-chdir",
			"--unixctl=" + ovsDir + "/ovsdb-server.ctl", "--pidfile=" + ovsDir + "/ovsdb-server.pid", "-vsyslog:off"},
	}); err != nil {
		return err
	}
	if _, err := h.Output(ctx, nil, "ovs-vsctl", "--no-wait", "init"); err != nil {
		return err
	}
	return h.StartProcess(ctx, host.Process{
		Name: "ovs-vswitchd", Log: "/var/log/lab/ovs-vswitchd.log", Socket: ovsDir + "/ovs-vswitchd.ctl",
		Argv: []string{"sh", "-euc", `echo $$ > /sys/fs/cgroup/cpu/pods/tasks; exec "$@"`, "sh",
			"ovs-vswitchd", "unix:" + ovsDir + "/db.sock", "--no-chdir",
			"--unixctl=" + ovsDir + "/ovs-vswitchd.ctl", "--pidfile=" + ovsDir + "/ovs-vswitchd.pid", "-vsyslog:off"},
	})
}

// forNodes makes Pods on every node, lets run make the rest of it, and then
// makes the routes.
func forNodes(ctx context.Context, lab *cluster.Lab, run func(*host.Host, []string) error) ([]Pod, error) {
	var pods []Pod
	nodes := lab.Topology.WithRole(topology.RoleNode)
	for i, node := range nodes {
		h, err := lab.Host(node.Name)
		if err != nil {
			return nil, err
		}
		n, err := layOut(lab.Topology, node, i)
		if err != nil {
			return nil, err
		}
		if err := runScript(ctx, h, podsScript, n.environment()); err != nil {
			return nil, fmt.Errorf("Pods of %s: %w", node.Name, err)
		}
		if err := run(h, n.environment()); err != nil {
			return nil, fmt.Errorf("network of %s: %w", node.Name, err)
		}
		pods = append(pods, Pod{node.Name, "a", n.pods[0]}, Pod{node.Name, "b", n.pods[1]})
		for _, r := range routesTo(lab.Topology, node, n) {
			if _, err := lab.Exec(ctx, r.host, "ip", "route", "replace", r.prefix.String(), "via", r.via.String()); err != nil {
				return nil, err
			}
		}
	}
	return pods, nil
}

func runScript(ctx context.Context, h *host.Host, script string, env []string) error {
	argv := append(append([]string{"env"}, env...), "sh", "-eu")
	_, err := h.Output(ctx, strings.NewReader(script), argv...)
	return err
}

// layout are the addresses of a node.
type layout struct {
	node    netip.Prefix
	router  netip.Addr
	gateway netip.Prefix
	pods    [2]netip.Addr
}

// layOut gives the node the Pod network of its number.
func layOut(t *topology.Topology, node topology.Host, number int) (layout, error) {
	l := layout{node: ipv4Of(node.Interfaces[0])}
	for _, a := range node.Gateways {
		if a.Is4() {
			l.router = a
		}
	}
	networks := t.Spec.Networks
	if !l.node.IsValid() || !l.router.IsValid() || networks.NodeMaskIPv4 != 24 {
		return l, errors.New("want IPv4, and Pod networks of 24 bits")
	}
	base := networks.PodIPv4.Addr().As4()
	addr := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{base[0], base[1], byte(number + 1), last}) }
	l.gateway = netip.PrefixFrom(addr(1), networks.NodeMaskIPv4)
	l.pods = [2]netip.Addr{addr(2), addr(3)}
	return l, nil
}

func (l layout) environment() []string {
	return []string{
		"GATEWAY=" + l.gateway.String(), "VIA=" + l.gateway.Addr().String(),
		"POD_A=" + netip.PrefixFrom(l.pods[0], l.gateway.Bits()).String(),
		"POD_B=" + netip.PrefixFrom(l.pods[1], l.gateway.Bits()).String(),
		"NODE=" + l.node.String(), "ROUTER=" + l.router.String(),
	}
}

func ipv4Of(i topology.Interface) netip.Prefix {
	for _, p := range i.Addresses {
		if p.Addr().Is4() {
			return p
		}
	}
	return netip.Prefix{}
}

// route is a route of a host.
type route struct {
	host   string
	prefix netip.Prefix
	via    netip.Addr
}

// routesTo are the routes that nodes of the same rack and routers need to the
// Pods of a node. Nodes elsewhere have their default route.
func routesTo(t *topology.Topology, node topology.Host, n layout) []route {
	var out []route
	toward := func(from, next topology.Host) netip.Addr {
		for _, i := range next.Interfaces {
			if i.Peer == from.Name {
				return ipv4Of(i).Addr()
			}
		}
		return netip.Addr{}
	}
	spine, _ := t.Host(topology.Spine)
	prefix := n.gateway.Masked()
	for _, h := range t.WithRole(topology.RoleNode, topology.RoleToR) {
		switch {
		case h.Name == node.Name:
		case h.Rack == node.Rack:
			out = append(out, route{h.Name, prefix, n.node.Addr()})
		case h.Role == topology.RoleToR:
			out = append(out, route{h.Name, prefix, toward(h, spine)})
		}
	}
	return append(out, route{spine.Name, prefix, toward(spine, t.ToRs(node.Rack)[0])})
}

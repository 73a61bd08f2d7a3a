// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/matrix"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// nodeObject renders a Node with Pod CIDRs of its own.
func nodeObject(name, rack string, cidrs ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `---
apiVersion: v1
kind: Node
metadata: {name: %[1]s, labels: {kubernetes.io/hostname: %[1]s, kubernetes.io/os: linux, %[2]s: %[3]s}}
`, name, cluster.RackLabel, cluster.RackLabelValue(rack))
	if len(cidrs) > 0 {
		fmt.Fprintf(&b, "spec: {podCIDR: %q, podCIDRs: [\"%s\"]}\n", cidrs[0], strings.Join(cidrs, `", "`))
	}
	return b.String()
}

// checkWrongNodes adds Node objects whose Pod CIDRs are missing, of one family
// only, those of n1, or a part of the rack's network. Nodes report them, and
// nothing changes for those that were there before.
func checkWrongNodes(t *testing.T, lab *cluster.Lab) {
	nodes, err := workload.PodCIDRs(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	taken := nodes[0].PodCIDRs[0]
	n1, _ := lab.Topology.Host("n1")
	network, err := n1.Interfaces[0].Addresses[0].Addr().Prefix(24)
	if err != nil {
		t.Fatal(err)
	}
	objects := nodeObject("bare", "A") + nodeObject("single", "A", "10.10.77.0/24") +
		nodeObject("twin", "A", taken.String(), "fd10:10:0:77::/64") +
		nodeObject("intruder", "A", upperHalf(network).String(), "fd10:10:0:78::/64")
	// The allocator of Pod CIDRs would give one to the first, and once the third
	// is gone take the CIDR of n1 for free: it stands still, and then forgets.
	exec(t, lab, topology.ControlPlane, "sh", "-ec", "kill -STOP $(pgrep -x kube-controller)")
	ctx := context.WithoutCancel(t.Context())
	defer func() {
		_, err := lab.Kubectl(ctx, "delete", "node", "bare", "single", "twin", "intruder", "--ignore-not-found")
		_, killErr := lab.Exec(ctx, topology.ControlPlane, "sh", "-ec", "kill -9 $(pgrep -x kube-controller)")
		if err := errors.Join(err, killErr); err != nil {
			t.Fatal(err)
		}
		for _, node := range nodeNames(lab) {
			eventually(t, 20*time.Second, func(ctx context.Context) error { return conditionSays(ctx, lab, node, "True") })
		}
		allocates(t, lab)
	}()
	if err := kubectlApply(t.Context(), lab, objects); err != nil {
		t.Fatal(err)
	}
	said := []string{
		"node bare has no Pod CIDR",
		"node single has no IPv6 Pod CIDR",
		fmt.Sprintf("Pod CIDR %[1]s of node twin overlaps Pod CIDR %[1]s of node %[2]s", taken, nodes[0].Name),
		fmt.Sprintf("Pod CIDR %s of node intruder overlaps network %s", upperHalf(network), network),
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		errs := []error{conditionSays(ctx, lab, "n2", "False", said...)}
		for i, reason := range []string{"NoPodCIDR", "PodCIDRFamilyMissing", "PodCIDROverlapsNode", "PodCIDROverlapsNetwork"} {
			errs = append(errs, eventSays(ctx, lab, "default", "Node/n2", reason, said[i]))
		}
		return errors.Join(errs...)
	})
	// Only nodes of the rack can know its network.
	routes, err := ownRoutes(t.Context(), lab, "n1", "n2")
	if err != nil || strings.Contains(routes, upperHalf(network).String()) {
		t.Errorf("a route into the rack's network: %v\n%s", err, routes)
	}
	checkQuickMatrix(t, lab, regained)
}

// allocates waits until the allocator of Pod CIDRs is at work: one that starts
// while a node has a Pod CIDR of another range ends itself.
func allocates(t *testing.T, lab *cluster.Lab) {
	const name = "allocated"
	if err := kubectlApply(t.Context(), lab, nodeObject(name, "A")); err != nil {
		t.Fatal(err)
	}
	var cidrs []string
	eventually(t, time.Minute, func(ctx context.Context) error {
		out, err := lab.Kubectl(ctx, "get", "node", name, "-o", "jsonpath={.spec.podCIDRs[*]}")
		if cidrs = strings.Fields(out); err == nil && len(cidrs) == 0 {
			return fmt.Errorf("node %s was given no Pod CIDR", name)
		}
		return err
	})
	if _, err := lab.Kubectl(context.WithoutCancel(t.Context()), "delete", "node", name); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		routes, err := ownRoutes(ctx, lab, nodeNames(lab)...)
		for _, cidr := range cidrs {
			if strings.Contains(routes, cidr) {
				err = errors.Join(err, fmt.Errorf("there is a route to %s of node %s, which is gone", cidr, name))
			}
		}
		return err
	})
}

func upperHalf(p netip.Prefix) netip.Prefix {
	a := p.Masked().Addr().As4()
	a[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	return netip.PrefixFrom(netip.AddrFrom4(a), p.Bits()+1)
}

// checkHalfGoodNodes lets nodes join whose IPv4 Pod CIDR is a part of their own
// network, and then n1's.
func checkHalfGoodNodes(t *testing.T, lab *cluster.Lab) {
	network, err := lab.Topology.ToRs("B")[0].Interfaces[0].Addresses[0].Addr().Prefix(24)
	if err != nil {
		t.Fatal(err)
	}
	wrong := upperHalf(network)
	checkHalfGoodNode(t, lab, "part", wrong, "PodCIDROverlapsNetwork",
		fmt.Sprintf("Pod CIDR %s of node part overlaps network %s", wrong, network))
	taken := podCIDRsOf(t, lab, "n1")[0]
	checkHalfGoodNode(t, lab, "twin", taken, "PodCIDROverlapsNode",
		fmt.Sprintf("Pod CIDR %[1]s of node twin overlaps Pod CIDR %[1]s of node n1", taken))
	// The allocator takes the Pod CIDR of n1 for free now. It looks again.
	exec(t, lab, topology.ControlPlane, "sh", "-ec", "kill -9 $(pgrep -x kube-controller)")
	allocates(t, lab)
}

// checkHalfGoodNode lets a node join whose IPv4 Pod CIDR is wrong: it says so,
// its Pods have no IPv4 address, and IPv6 works, as everything else does.
func checkHalfGoodNode(t *testing.T, lab *cluster.Lab, name string, wrong netip.Prefix, reason, said string) {
	const good = "fd10:10:0:79::/64"
	if err := kubectlApply(t.Context(), lab, nodeObject(name, "B", wrong.String(), good)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		// In order: a router keeps the routes of a node that is ended at once.
		kubectl(t, lab, "delete", "node", name, "--wait=false")
		for _, tor := range lab.Topology.ToRs("B") {
			eventually(t, 20*time.Second, func(ctx context.Context) error {
				out, err := lab.Vtysh(ctx, tor.Name, "show bgp ipv6 unicast")
				if strings.Contains(out, good) {
					err = errors.Join(err, fmt.Errorf("%s knows %s of node %s, which is gone", tor.Name, good, name))
				}
				return err
			})
		}
		if err := lab.RemoveNode(context.WithoutCancel(t.Context()), name); err != nil {
			t.Error(err)
		}
		checkQuickMatrix(t, lab, regained)
	}()
	if err := lab.AddNode(t.Context(), name, "B"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, func(ctx context.Context) error {
		return errors.Join(conditionSays(ctx, lab, name, "False", said),
			eventSays(ctx, lab, "default", "Node/"+name, reason, said))
	})
	deploy(t, lab)
	var pod matrix.Endpoint
	eventually(t, time.Minute, func(ctx context.Context) error {
		ends, err := endpointsByName(ctx, lab)
		if err != nil {
			return err
		}
		pod = ends["a@"+name]
		if len(pod.Addresses) == 0 {
			return errors.New("no Pod of the node has an address")
		}
		return quickMatrix(ctx, lab)
	})
	if len(pod.Addresses) != 1 || !pod.Addresses[0].Is6() {
		t.Errorf("a Pod of the node has addresses %v, want an IPv6 address only", pod.Addresses)
	}
	if out := exec(t, lab, name, "ip", "-4", "-brief", "address", "show", "dev", "wm-gw0"); strings.Contains(out, ".") {
		t.Errorf("the gateway has an IPv4 address: %s", out)
	}
}

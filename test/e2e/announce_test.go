// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/probe/connect"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/report"
)

const (
	// announceToR is the router of the rack with nodes n1 and n2.
	announceToR = "torA"
	// drainLimit bounds a drain: its time, and that of the routers.
	drainLimit = 20 * time.Second
)

// announced is a Service whose addresses nodes announce.
type announced struct {
	*made
	// balanced are its addresses to the outside.
	balanced []netip.Addr
}

// announceService makes a Service with externalTrafficPolicy Local, and has its
// addresses announced for as long as the test lasts.
func announceService(t *testing.T, s *services, name string, number byte, endpoints ...member) announced {
	t.Helper()
	lab := s.lab
	object := fmt.Sprintf(`apiVersion: waymark.io/v1alpha1
kind: BGPAdvertisement
metadata: {name: %s}
spec:
  services: [ClusterIP, LoadBalancerIP]
  serviceSelector: {matchLabels: {announce: %s}}
`, name, name)
	if err := lab.ApplyObjects(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := lab.Kubectl(context.WithoutCancel(t.Context()), "delete", "bgpadvertisement", name); err != nil {
			t.Error(err)
		}
	})
	// Nothing leads there but what is announced.
	balanced := ofLab(lab, netip.AddrFrom4([4]byte{198, 51, 100, number}), netip.MustParseAddr(fmt.Sprintf("2001:db8:77::%x", number)))
	service := serviceOf(name, greetPort, func(spec *corev1.ServiceSpec) {
		atNodes(corev1.ServiceTypeLoadBalancer, 30990+int32(number))(spec)
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	service.Labels = map[string]string{"announce": name}
	return announced{s.add(t, service, balanced, endpoints), balanced}
}

// checkAnnounce has the router of a rack lead to Services by the nodes that serve
// them, and by no others.
func checkAnnounce(t *testing.T, lab *cluster.Lab) {
	s := newServices(t, lab)
	a := announceService(t, s, "announced", 1, members("b@n1", "b@n2")...)
	client := client{hostPlace(lab, topology.Client), withPort(append(slices.Clone(a.balanced), a.clusterIPs(t)...), servicePort)}
	for _, c := range []struct {
		name      string
		endpoints []member
		nodes     []string
	}{
		{"by both nodes with endpoints", members("b@n1", "b@n2"), []string{"n1", "n2"}},
		{"by the one that still has some", members("b@n2"), []string{"n2"}},
		{"by none in the rack", members("b@n3"), nil},
		{"by both again", members("b@n1", "b@n2"), []string{"n1", "n2"}},
	} {
		check(t, c.name, func(t *testing.T) {
			a.serve(t, c.endpoints...)
			eventually(t, drainLimit, func(ctx context.Context) error { return leadsTo(ctx, lab, a.balanced, c.nodes...) })
			if len(c.nodes) > 0 {
				// ClusterIPs are any node's, as long as there is an endpoint.
				eventually(t, drainLimit, func(ctx context.Context) error { return leadsTo(ctx, lab, a.clusterIPs(t), "n1", "n2") })
			}
			eventually(t, drainLimit, func(ctx context.Context) error { return answersAll(ctx, t, client) })
		})
	}
	check(t, "no node learns them", func(t *testing.T) {
		for _, node := range nodeNames(lab) {
			for _, addr := range a.balanced {
				if out := exec(t, lab, node, "ip", "route", "show", addr.String(), "proto", "87"); strings.TrimSpace(out) != "" {
					t.Errorf("%s: %s", node, out)
				}
			}
		}
	})
}

// leadsTo complains unless the router of the first rack leads to addresses by these
// of its nodes alone. Those of other racks are behind another router.
func leadsTo(ctx context.Context, lab *cluster.Lab, addrs []netip.Addr, nodes ...string) error {
	for _, a := range addrs {
		p := netip.PrefixFrom(a, a.BitLen())
		out, err := lab.Exec(ctx, announceToR, "ip", family(p), "route", "show", a.String())
		if err != nil {
			return err
		}
		for _, node := range []string{"n1", "n2"} {
			h, _ := lab.Topology.Host(node)
			via := slices.ContainsFunc(h.Addresses(), func(at netip.Addr) bool { return strings.Contains(out+" ", " "+at.String()+" ") })
			if via != slices.Contains(nodes, node) {
				return fmt.Errorf("%s leads to %s by %q, want nodes %v", announceToR, a, out, nodes)
			}
		}
	}
	return nil
}

// pathsOf are the communities of the router's paths of an address by next hop.
func pathsOf(ctx context.Context, lab *cluster.Lab, a netip.Addr) (map[netip.Addr]string, error) {
	kind := "ipv6"
	if a.Is4() {
		kind = "ipv4"
	}
	out, err := lab.Vtysh(ctx, announceToR, fmt.Sprintf("show bgp %s unicast %s json", kind, netip.PrefixFrom(a, a.BitLen())))
	if err != nil {
		return nil, err
	}
	var shown struct {
		Paths []struct {
			Community struct{ String string }
			Nexthops  []struct{ IP netip.Addr }
		}
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	paths := map[netip.Addr]string{}
	for _, p := range shown.Paths {
		for _, n := range p.Nexthops {
			paths[n.IP] = p.Community.String
		}
	}
	return paths, nil
}

// checkDrain takes a node that serves a Service out from under the connections of a
// client behind the router: in order, and as it is without.
func checkDrain(t *testing.T, lab *cluster.Lab) {
	// patience of the client: less than until its kernel sends the first packet again,
	// by when a router may have found another node.
	const node, other, patience = "n1", "n2", "900ms"
	s := newServices(t, lab)
	hashPorts(t, lab)
	both, left := members("b@"+node, "b@"+other), members("b@"+other)
	a := announceService(t, s, "drained", 2, both...)
	outside := client{hostPlace(lab, topology.Client), withPort(a.balanced, servicePort)}
	there := func(t *testing.T, nodes ...string) {
		t.Helper()
		eventually(t, drainLimit, func(ctx context.Context) error { return leadsTo(ctx, lab, a.balanced, nodes...) })
	}
	stays := func() {
		if _, err := lab.Kubectl(context.WithoutCancel(t.Context()), "uncordon", node); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stays)
	there(t, node, other)
	underLoad := func(t *testing.T, drain func(t *testing.T)) map[string][]connect.Report {
		t.Helper()
		tr := startConnects(t, []client{outside}, 100, "-timeout", patience)
		drain(t)
		// What breaks late is seen, too.
		there(t, other)
		eventually(t, drainLimit, func(ctx context.Context) error { return answersAll(ctx, t, outside) })
		return tr.endConnects(t)
	}
	check(t, "in order", func(t *testing.T) {
		recordAnswered(t, underLoad(t, func(t *testing.T) {
			kubectl(t, lab, "cordon", node)
			there(t, other)
			awaitPaths(t, lab, a.balanced, node, "graceful-shutdown")
			awaitPaths(t, lab, a.balanced, node, "")
			checkPodCIDRsStay(t, lab, node)
			a.serve(t, left...)
		}))
	})
	check(t, "it stays after all", func(t *testing.T) {
		a.serve(t, both...)
		stays()
		there(t, node, other)
	})
	check(t, "without order", func(t *testing.T) {
		for from, reports := range underLoad(t, func(t *testing.T) { a.serve(t, left...) }) {
			for _, r := range reports {
				note := fmt.Sprintf("%d of %d failed, %d slow, the slowest took %.0f ms", r.Failed, r.Made, r.Slow, r.MaxMillis)
				t.Logf("naive: %s: %s", connectionsOf(from, r), note)
				record(t, report.Check("naive drain, for comparison: "+connectionsOf(from, r), true, note))
			}
		}
	})
}

// awaitPaths waits until the router has paths by a node with a community, or no path
// by it where that is empty.
func awaitPaths(t *testing.T, lab *cluster.Lab, addrs []netip.Addr, node, community string) {
	t.Helper()
	h, _ := lab.Topology.Host(node)
	eventually(t, drainLimit, func(ctx context.Context) error {
		for _, a := range addrs {
			paths, err := pathsOf(ctx, lab, a)
			if err != nil {
				return err
			}
			has, found := paths[likeOf(h.Addresses(), a)]
			if found != (community != "") || has != community {
				return fmt.Errorf("%s has for %s %v, want %q of %s", announceToR, a, paths, community, node)
			}
		}
		return nil
	})
}

// checkPodCIDRsStay: a drain is of Services alone.
func checkPodCIDRsStay(t *testing.T, lab *cluster.Lab, node string) {
	t.Helper()
	for _, p := range podCIDRsOf(t, lab, node) {
		if out := exec(t, lab, announceToR, "ip", family(p), "route", "show", p.String()); strings.TrimSpace(out) == "" {
			t.Errorf("%s has no route to %s any more", announceToR, p)
		}
	}
}

// hashPorts has the router spread the connections of one client, for as long as the
// test lasts.
func hashPorts(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	for _, family := range []string{"ipv4", "ipv6"} {
		key := "net." + family + ".fib_multipath_hash_policy"
		before := strings.TrimSpace(exec(t, lab, announceToR, "sysctl", "-n", key))
		exec(t, lab, announceToR, "sysctl", "-q", "-w", key+"=1")
		t.Cleanup(func() {
			if _, err := lab.Exec(context.WithoutCancel(t.Context()), announceToR, "sysctl", "-q", "-w", key+"="+before); err != nil {
				t.Error(err)
			}
		})
	}
}

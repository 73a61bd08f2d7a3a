// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	node := func(name string, age time.Duration, addr string, podCIDRs ...string) Node {
		return Node{Name: name, Created: t0.Add(-age), Addresses: addrList(addr), PodCIDRs: prefixes(podCIDRs...)}
	}
	tests := map[string]struct {
		local   Node
		remotes []Node
		links   []Link
		// want are the Pod CIDRs that stay, by node.
		want     map[string][]netip.Prefix
		problems []Problem
	}{
		"all is well": {
			local: n1, remotes: []Node{n2, n3}, links: uplinks,
			want: map[string][]netip.Prefix{"n1": n1.PodCIDRs, "n2": n2.PodCIDRs, "n3": n3.PodCIDRs},
		},
		"no Pod CIDR": {
			local: node("n1", 0, "10.1.0.1"), remotes: []Node{n2},
			want:     map[string][]netip.Prefix{"n2": n2.PodCIDRs},
			problems: []Problem{{Node: "n1", Reason: ProblemNoPodCIDR, Message: "node n1 has no Pod CIDR: is the controller manager run with --allocate-node-cidrs?"}},
		},
		"one family missing": {
			local: node("n1", 0, "10.1.0.1", "10.10.1.0/24"), remotes: []Node{n2},
			want:     map[string][]netip.Prefix{"n1": prefixes("10.10.1.0/24"), "n2": n2.PodCIDRs},
			problems: []Problem{{Node: "n1", Family: IPv6, Reason: ProblemFamilyMissing, Message: "node n1 has no IPv6 Pod CIDR although other nodes have one"}},
		},
		"two of a family, and host bits": {
			local: node("n1", 0, "10.1.0.1", "10.10.1.9/24", "10.10.9.0/24"),
			want:  map[string][]netip.Prefix{"n1": prefixes("10.10.1.0/24")},
			problems: []Problem{{Node: "n1", Family: IPv4, Reason: ProblemDuplicateFamily,
				Message: "node n1 has more than one IPv4 Pod CIDR: 10.10.1.0/24 is used, 10.10.9.0/24 is not"}},
		},
		"not a network for Pods": {
			local: node("n1", 0, "10.1.0.1", "10.10.1.0/30"), remotes: []Node{
				node("n2", 0, "10.1.0.2", "0.0.0.0/0"), node("n3", 0, "10.1.0.3", "224.1.0.0/24"), node("n4", 0, "10.1.0.4", "fe80::/64")},
			problems: []Problem{
				{Node: "n1", Family: IPv4, Reason: ProblemInvalidPodCIDR, Message: "Pod CIDR 10.10.1.0/30 of node n1 is not a unicast network of at least 8 addresses"},
				{Node: "n2", Family: IPv4, Reason: ProblemInvalidPodCIDR, Message: "Pod CIDR 0.0.0.0/0 of node n2 is not a unicast network of at least 8 addresses"},
				{Node: "n3", Family: IPv4, Reason: ProblemInvalidPodCIDR, Message: "Pod CIDR 224.1.0.0/24 of node n3 is not a unicast network of at least 8 addresses"},
				{Node: "n4", Family: IPv6, Reason: ProblemInvalidPodCIDR, Message: "Pod CIDR fe80::/64 of node n4 is not a unicast network of at least 8 addresses"},
			},
		},
		"overlap: the older node keeps it, the other family of the younger works": {
			local:   node("a", time.Hour, "10.1.0.1", "10.10.2.128/25", "fd10:0:0:1::/64"),
			remotes: []Node{node("b", 2*time.Hour, "10.1.0.2", "10.10.2.0/24", "fd10:0:0:2::/64")},
			want:    map[string][]netip.Prefix{"a": prefixes("fd10:0:0:1::/64"), "b": prefixes("10.10.2.0/24", "fd10:0:0:2::/64")},
			problems: []Problem{{Node: "a", Family: IPv4, Reason: ProblemOverlapsNode,
				Message: "Pod CIDR 10.10.2.128/25 of node a overlaps Pod CIDR 10.10.2.0/24 of node b"}},
		},
		"overlap of nodes of the same age: the smaller name keeps it": {
			local:   node("b", 0, "10.1.0.1", "10.10.2.0/24"),
			remotes: []Node{node("a", 0, "10.1.0.2", "10.10.2.0/24")},
			want:    map[string][]netip.Prefix{"a": prefixes("10.10.2.0/24")},
			problems: []Problem{{Node: "b", Family: IPv4, Reason: ProblemOverlapsNode,
				Message: "Pod CIDR 10.10.2.0/24 of node b overlaps Pod CIDR 10.10.2.0/24 of node a"}},
		},
		"the node's own network": {
			local: node("n1", 0, "10.1.0.1", "10.1.0.0/16"), links: uplinks,
			problems: []Problem{{Node: "n1", Family: IPv4, Reason: ProblemOverlapsNetwork,
				Message: "Pod CIDR 10.1.0.0/16 of node n1 overlaps network 10.1.0.0/24 of interface eth0"}},
		},
		"a remote Pod CIDR over our network or a node's address": {
			local: n1, links: uplinks, remotes: []Node{
				node("n4", 0, "10.2.0.4", "10.1.0.128/25", "fd10:0:0:4::/64"), node("n5", 0, "10.2.0.5", "10.2.0.0/24", "fd10:0:0:5::/64")},
			want: map[string][]netip.Prefix{"n1": n1.PodCIDRs, "n4": prefixes("fd10:0:0:4::/64"), "n5": prefixes("fd10:0:0:5::/64")},
			problems: []Problem{
				{Node: "n4", Family: IPv4, Reason: ProblemOverlapsNetwork, Message: "Pod CIDR 10.1.0.128/25 of node n4 overlaps network 10.1.0.0/24 of interface eth0"},
				{Node: "n5", Family: IPv4, Reason: ProblemOverlapsNetwork, Message: "Pod CIDR 10.2.0.0/24 of node n5 contains the address 10.2.0.4 of node n4"},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			v := Validate(tc.local, tc.remotes, tc.links)
			got := map[string][]netip.Prefix{}
			for _, n := range append([]Node{v.Local}, v.Remotes...) {
				if len(n.PodCIDRs) > 0 {
					got[n.Name] = n.PodCIDRs
				}
			}
			want := tc.want
			if want == nil {
				want = map[string][]netip.Prefix{}
			}
			if diff := cmp.Diff(want, got, compareValues); diff != "" {
				t.Errorf("Pod CIDRs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.problems, v.Problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRouterIDOf(t *testing.T) {
	if got := RouterIDOf(n1); got != ip("10.1.0.1") {
		t.Errorf("with an IPv4 address: %s", got)
	}
	seen := map[netip.Addr]string{}
	for _, name := range []string{"n1", "n2", "worker-0", "worker-1", ""} {
		id := RouterIDOf(Node{Name: name, Addresses: addrList("fd01::1")})
		if !id.Is4() || id.IsUnspecified() || id.IsLoopback() || id.IsMulticast() || id != RouterIDOf(Node{Name: name}) {
			t.Errorf("router ID of %q: %s", name, id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q share router ID %s", name, other, id)
		}
		seen[id] = name
	}
}

// FuzzValidate holds against any Pod CIDRs that what is left does not overlap.
func FuzzValidate(f *testing.F) {
	f.Add([]byte{10, 10, 1, 0, 24, 10, 10, 1, 128, 25, 10, 10, 0, 0, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		var nodes []Node
		for i := 0; i+5 <= len(data) && i < 100; i += 5 {
			a := netip.AddrFrom4([4]byte(data[i : i+4]))
			nodes = append(nodes, Node{
				Name: string(rune('a' + i/5)), Addresses: addrList("192.0.2.1"),
				PodCIDRs: []netip.Prefix{netip.PrefixFrom(a, int(data[i+4]%33))},
			})
		}
		if len(nodes) == 0 {
			t.Skip()
		}
		v := Validate(nodes[0], nodes[1:], nil)
		left := append([]Node{v.Local}, v.Remotes...)
		for i, n := range left {
			for _, p := range n.PodCIDRs {
				for _, o := range left[i+1:] {
					for _, q := range o.PodCIDRs {
						if p.Overlaps(q) {
							t.Fatalf("%s of %s overlaps %s of %s", p, n.Name, q, o.Name)
						}
					}
				}
			}
		}
	})
}

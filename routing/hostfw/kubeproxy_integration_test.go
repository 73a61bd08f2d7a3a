// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hostfw

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
)

// TestKubeProxyRules adds one trace of kube-proxy after the other.
func TestKubeProxyRules(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		var want []string
		check := func(after string) {
			t.Helper()
			got, err := KubeProxyRules()
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("after %q: %v (-want +got):\n%s", after, err, d)
			}
		}
		check("")
		// What the kubelet leaves, what we do, and what only has such a name.
		for _, line := range []string{
			"iptables-nft -t nat -N KUBE-KUBELET-CANARY", "iptables-legacy -t nat -N KUBE-KUBELET-CANARY",
			"iptables-nft -t filter -N KUBE-SERVICES", "nft add table inet kube-proxy",
		} {
			node.Exec(t, line)
		}
		check("the kubelet's")
		// In the order in which they are named.
		for _, trace := range []struct{ line, words string }{
			{"nft add table ip kube-proxy", "nftables table ip kube-proxy"},
			{"nft add table ip6 kube-proxy", "nftables table ip6 kube-proxy"},
			{"iptables-nft -t nat -N KUBE-SERVICES", "chain KUBE-SERVICES of iptables (nft), table nat"},
			{"iptables-legacy -t nat -N KUBE-SERVICES", "chain KUBE-SERVICES of iptables (legacy), table nat"},
			{"ip6tables-nft -t nat -N KUBE-SERVICES", "chain KUBE-SERVICES of ip6tables (nft), table nat"},
			{"ip6tables-legacy -t nat -N KUBE-SERVICES", "chain KUBE-SERVICES of ip6tables (legacy), table nat"},
			{"ip link add kube-ipvs0 type veth peer name other", "interface kube-ipvs0"},
		} {
			node.Exec(t, trace.line)
			want = append(want, trace.words)
			check(trace.line)
		}
	})
}

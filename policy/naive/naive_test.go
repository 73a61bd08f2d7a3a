// SPDX-License-Identifier: Apache-2.0

package naive

import (
	"net/netip"
	"testing"

	"github.com/waymark-net/waymark/policy"
)

// The examples of the documentation of NetworkPolicy, and the least of
// ClusterNetworkPolicy: what everything else relies on, by hand.
func TestVerdict(t *testing.T) {
	is := func(key, value string) policy.Selector {
		return policy.NewSelector([]policy.Requirement{{Key: key, Operator: policy.In, Values: []string{value}}})
	}
	cluster := func(policies ...policy.PolicyIntent) *Cluster {
		c := NewCluster()
		c.Namespaces["default"] = policy.NamespaceIntent{Name: "default"}
		c.Namespaces["my"] = policy.NamespaceIntent{Name: "my", Labels: map[string]string{"project": "myproject"}}
		add := func(namespace, name, address string, labels map[string]string, change func(*policy.PodIntent)) {
			p := policy.PodIntent{Key: policy.PodKey{Namespace: namespace, Name: name}, Labels: labels, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
			if change != nil {
				change(&p)
			}
			c.Pods[p.Key] = p
		}
		add("default", "db", "10.0.0.1", map[string]string{"role": "db"}, func(p *policy.PodIntent) {
			p.Ports = []policy.NamedPort{{Name: "redis", Protocol: policy.TCP, Number: 6379}}
		})
		add("default", "frontend", "10.0.0.2", map[string]string{"role": "frontend"}, nil)
		add("default", "other", "10.0.0.3", nil, nil)
		add("default", "done", "10.0.0.4", map[string]string{"role": "frontend"}, func(p *policy.PodIntent) { p.Finished = true })
		add("default", "host", "192.0.2.1", map[string]string{"role": "frontend"}, func(p *policy.PodIntent) { p.HostNetwork = true })
		add("my", "any", "10.0.1.1", nil, nil)
		for _, p := range policies {
			c.Policies[p.Key] = p
		}
		return c
	}
	db := policy.PodSet{Namespace: "default", Pods: is("role", "db")}
	np := policy.PolicyIntent{
		Key: policy.Key{Namespace: "default", Name: "test"}, Tier: policy.TierNamespace, Subject: db,
		Isolates: [policy.Directions]bool{true, true},
		Rules: []policy.RuleIntent{
			{
				Direction: policy.Ingress,
				Blocks:    []policy.Block{{CIDR: netip.MustParsePrefix("172.17.0.0/16"), Except: []netip.Prefix{netip.MustParsePrefix("172.17.1.0/24")}}},
				Pods:      []policy.PodSet{{Namespaces: is("project", "myproject")}, {Namespace: "default", Pods: is("role", "frontend")}},
				Ports:     []policy.PortIntent{{Name: "redis", PortRange: policy.PortRange{Protocol: policy.TCP}}},
			},
			{
				Direction: policy.Egress, Blocks: []policy.Block{{CIDR: netip.MustParsePrefix("10.0.0.0/24")}},
				Ports: []policy.PortIntent{{PortRange: policy.PortRange{Protocol: policy.TCP, First: 5978, Last: 5980}}},
			},
		},
	}
	admin := func(action policy.Action, tier policy.Tier) policy.PolicyIntent {
		return policy.PolicyIntent{
			Key: policy.Key{Kind: policy.ClusterNetworkPolicy, Name: "admin"}, Tier: tier,
			Rules: []policy.RuleIntent{{Action: action, AnyPort: true, Pods: []policy.PodSet{{}}}},
		}
	}
	for _, c := range []struct {
		name     string
		policies []policy.PolicyIntent
		peer     string
		out      bool
		port     uint16
		want     bool
	}{
		{"no policy", nil, "10.0.0.3", false, 1, true},
		{"from a block", []policy.PolicyIntent{np}, "172.17.0.1", false, 6379, true},
		{"from what it excepts", []policy.PolicyIntent{np}, "172.17.1.1", false, 6379, false},
		{"from a namespace", []policy.PolicyIntent{np}, "10.0.1.1", false, 6379, true},
		{"from a Pod", []policy.PolicyIntent{np}, "10.0.0.2", false, 6379, true},
		{"to another port", []policy.PolicyIntent{np}, "10.0.0.2", false, 6380, false},
		{"from another Pod", []policy.PolicyIntent{np}, "10.0.0.3", false, 6379, false},
		{"from a finished Pod's address", []policy.PolicyIntent{np}, "10.0.0.4", false, 6379, false},
		{"from a Pod of the host network", []policy.PolicyIntent{np}, "192.0.2.1", false, 6379, false},
		{"out to a block", []policy.PolicyIntent{np}, "10.0.0.3", true, 5978, true},
		{"out to another port", []policy.PolicyIntent{np}, "10.0.0.3", true, 5981, false},
		{"out of the block", []policy.PolicyIntent{np}, "10.0.1.1", true, 5978, false},
		{"an admin accepts first", []policy.PolicyIntent{np, admin(policy.Accept, policy.TierAdmin)}, "10.0.0.3", false, 6379, true},
		{"an admin denies first", []policy.PolicyIntent{np, admin(policy.Deny, policy.TierAdmin)}, "10.0.0.2", false, 6379, false},
		{"an admin passes", []policy.PolicyIntent{np, admin(policy.Pass, policy.TierAdmin)}, "10.0.0.2", false, 6379, true},
		{"the baseline is not asked", []policy.PolicyIntent{np, admin(policy.Deny, policy.TierBaseline)}, "10.0.0.2", false, 6379, true},
		{"the baseline is asked", []policy.PolicyIntent{admin(policy.Deny, policy.TierBaseline)}, "10.0.0.2", false, 6379, false},
		{"the baseline's Pods are no hosts", []policy.PolicyIntent{admin(policy.Deny, policy.TierBaseline)}, "192.0.2.1", false, 6379, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			own, peer := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr(c.peer)
			p := Packet{Source: peer, Destination: own, Protocol: policy.TCP, Port: c.port, Pod: policy.PodKey{Namespace: "default", Name: "db"}}
			if c.out {
				p.Source, p.Destination, p.Direction = own, peer, policy.Egress
			}
			if got, why := cluster(c.policies...).Verdict(p); got != c.want {
				t.Errorf("allowed %t: %s", got, why)
			}
		})
	}
}

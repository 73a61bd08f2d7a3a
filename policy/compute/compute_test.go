// SPDX-License-Identifier: Apache-2.0

package compute_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/compute"
)

func is(key, value string) policy.Selector {
	return policy.NewSelector([]policy.Requirement{{Key: key, Operator: policy.In, Values: []string{value}}})
}

func pod(name, node, address string, labels map[string]string) *policy.PodIntent {
	p := &policy.PodIntent{Key: policy.PodKey{Namespace: "ns", Name: name}, UID: name, Node: node, Labels: labels}
	if address != "" {
		p.Addresses = []netip.Addr{netip.MustParseAddr(address)}
	}
	return p
}

// accepting is a policy of namespace ns.
func accepting(name string, subject policy.Selector, rules ...policy.RuleIntent) *policy.PolicyIntent {
	return &policy.PolicyIntent{
		Key: policy.Key{Namespace: "ns", Name: name}, Tier: policy.TierNamespace,
		Subject: policy.PodSet{Namespace: "ns", Pods: subject}, Isolates: [policy.Directions]bool{true}, Rules: rules,
	}
}

// TestOneAddress checks that the address of a Pod is one change of a group for
// the nodes that have it, and that it is for nobody else.
func TestOneAddress(t *testing.T) {
	x := compute.New(compute.Params{})
	from := policy.RuleIntent{AnyPort: true, Pods: []policy.PodSet{{Namespace: "ns", Pods: is("app", "client")}}}
	for i := range 100 {
		x.UpsertPolicy(accepting(fmt.Sprint(i), is("app", "server"), from))
	}
	x.UpsertPod(pod("server", "n1", "10.0.0.1", map[string]string{"app": "server"}))
	x.UpsertPod(pod("client", "n2", "", map[string]string{"app": "client"}))
	if got := len(x.Flush().Update("n1").Policies); got != 100 {
		t.Errorf("n1 has %d policies", got)
	}
	x.UpsertPod(pod("client", "n2", "10.0.0.2", map[string]string{"app": "client"}))
	updates := x.Flush().Updates(nil)
	var group policy.ID
	for id := range x.View("n1").Groups {
		group = id
	}
	want := &policy.Update{Groups: []policy.GroupUpdate{{ID: group, Added: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}}
	if diff := cmp.Diff(want, updates["n1"], netipComparer); diff != "" {
		t.Errorf("n1 (-want +got):\n%s", diff)
	}
	client := policy.Pod{
		Key: policy.PodKey{Namespace: "ns", Name: "client"}, UID: "client",
		Identity: policy.IdentityOf("ns", map[string]string{"app": "client"}, nil),
	}
	if diff := cmp.Diff(&policy.Update{Pods: []policy.Pod{client}}, updates["n2"], netipComparer); diff != "" {
		t.Errorf("n2 (-want +got):\n%s", diff)
	}
}

// TestViewsShareGroups checks that a group is put together once for all nodes,
// and that a View stays what it is when the group changes.
func TestViewsShareGroups(t *testing.T) {
	x := compute.New(compute.Params{})
	x.UpsertPolicy(accepting("np", is("app", "server"), policy.RuleIntent{AnyPort: true, Pods: []policy.PodSet{{Namespace: "ns", Pods: is("app", "client")}}}))
	for i := range 100 {
		x.UpsertPod(pod(fmt.Sprint("client", i), "n3", fmt.Sprint("10.0.1.", i), map[string]string{"app": "client"}))
	}
	for _, node := range []string{"n1", "n2"} {
		x.UpsertPod(pod("server-"+node, node, "", map[string]string{"app": "server"}))
	}
	x.Flush()
	addresses := func(node string) (set policy.Addresses) {
		for _, set = range x.View(node).Groups {
		}
		return set
	}
	before := addresses("n1")
	if reflect.ValueOf(before).Pointer() != reflect.ValueOf(addresses("n2")).Pointer() {
		t.Error("n2 has a set of its own")
	}
	x.UpsertPod(pod("client7", "n3", "10.0.2.7", map[string]string{"app": "client"}))
	x.Flush()
	old, now := netip.MustParseAddr("10.0.1.7"), netip.MustParseAddr("10.0.2.7")
	has := func(set policy.Addresses, a netip.Addr) bool { _, found := set[a]; return found }
	if !has(before, old) || has(before, now) {
		t.Error("a View changed")
	}
	for _, node := range []string{"n1", "n2"} {
		if set := addresses(node); has(set, old) || !has(set, now) || len(set) != 100 {
			t.Errorf("%s has what was before: %v", node, set)
		}
	}
}

// TestToldTwice checks that what is known already changes nothing.
func TestToldTwice(t *testing.T) {
	x := compute.New(compute.Params{})
	tell := func() {
		x.UpsertNode(&policy.NodeIntent{Name: "n1"})
		x.UpsertNamespace(&policy.NamespaceIntent{Name: "ns"})
		x.UpsertPod(pod("p", "n1", "10.0.0.1", nil))
		x.UpsertPolicy(accepting("np", policy.Selector{}, policy.RuleIntent{AnyPeer: true, Ports: []policy.PortIntent{{Name: "http"}}}))
	}
	tell()
	if x.Flush().Empty() {
		t.Error("nothing changed at first")
	}
	tell()
	if c := x.Flush(); !c.Empty() {
		t.Errorf("changes of n1: %+v", c.Update("n1"))
	}
}

// TestOrderDoesNotMatter checks that lists which mean the same are the same.
func TestOrderDoesNotMatter(t *testing.T) {
	blocks := []policy.Block{{CIDR: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("10.1.0.0/16")}}, {CIDR: netip.MustParsePrefix("fd00::/8")}}
	pods := []policy.PodSet{{Namespace: "ns"}, {Pods: is("a", "b")}, {Namespaces: is("a", "b")}}
	port := func(n uint16) policy.PortIntent {
		return policy.PortIntent{PortRange: policy.PortRange{Protocol: policy.TCP, First: n, Last: n}}
	}
	ports := []policy.PortIntent{port(80), port(81), port(443)}
	rule := policy.RuleIntent{Blocks: slices.Clone(blocks), Pods: slices.Clone(pods), Ports: slices.Clone(ports)}
	slices.Reverse(blocks)
	blocks[1].Except = []netip.Prefix{blocks[1].Except[1], blocks[1].Except[0], blocks[1].Except[0]}
	slices.Reverse(pods)
	slices.Reverse(ports)
	back := policy.RuleIntent{Blocks: append(blocks, blocks[0]), Pods: append(pods, pods[0]), Ports: append(ports, ports[0])}
	x := compute.New(compute.Params{})
	x.UpsertPod(pod("p", "n1", "10.0.0.1", nil))
	x.UpsertPolicy(accepting("a", policy.Selector{}, rule))
	x.UpsertPolicy(accepting("b", policy.Selector{}, back))
	x.Flush()
	view := x.View("n1")
	a, b := view.Policies[policy.Key{Namespace: "ns", Name: "a"}], view.Policies[policy.Key{Namespace: "ns", Name: "b"}]
	if diff := cmp.Diff(a.Rules, b.Rules, netipComparer); diff != "" {
		t.Errorf("(-one +other):\n%s", diff)
	}
}

// TestLarge checks that large policies stay as large as they are.
func TestLarge(t *testing.T) {
	var rule policy.RuleIntent
	rule.Ports = []policy.PortIntent{{PortRange: policy.PortRange{Protocol: policy.TCP, First: 1, Last: 65535}}}
	for i := range 10000 {
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		rule.Blocks = append(rule.Blocks, policy.Block{CIDR: cidr})
	}
	var rules []policy.RuleIntent
	for i := range 1000 {
		rules = append(rules, policy.RuleIntent{Index: i, AnyPort: true, Pods: []policy.PodSet{{Namespace: "ns", Pods: is("app", fmt.Sprint(i))}}})
	}
	x := compute.New(compute.Params{})
	x.UpsertPod(pod("p", "n1", "10.0.0.1", map[string]string{"app": "7"}))
	x.UpsertPolicy(accepting("blocks", policy.Selector{}, rule))
	x.UpsertPolicy(accepting("rules", policy.Selector{}, rules...))
	u := x.Flush().Update("n1")
	sizes := map[string][3]int{}
	for _, p := range u.Policies {
		sizes[p.Key.Name] = [3]int{len(p.Rules), len(p.Rules[0].Blocks), len(p.Rules[0].Ports)}
	}
	want := map[string][3]int{"blocks": {1, 10000, 1}, "rules": {1000, 0, 0}}
	if diff := cmp.Diff(want, sizes); diff != "" || len(u.Groups) != 1000 {
		t.Errorf("%d groups (-want +got):\n%s", len(u.Groups), diff)
	}
}

// TestGrowth checks that memory grows no faster than the objects; time follows.
func TestGrowth(t *testing.T) {
	for name, load := range map[string]func(x *compute.Index, n int){
		"a policy a Pod": func(x *compute.Index, n int) {
			for i := range n {
				label := func(i int) string { return fmt.Sprint(i % n) }
				x.UpsertPod(pod(fmt.Sprint(i), fmt.Sprintf("n%d", i%100), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), map[string]string{"pod": label(i)}))
				x.UpsertPolicy(accepting(fmt.Sprint(i), is("pod", label(i)), policy.RuleIntent{AnyPort: true, Pods: []policy.PodSet{{Namespace: "ns", Pods: is("pod", label(i+1))}}}))
			}
		},
		"all to all": func(x *compute.Index, n int) {
			for i := range n {
				x.UpsertPod(pod(fmt.Sprint(i), fmt.Sprintf("n%d", i%100), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), nil))
				x.UpsertPolicy(accepting(fmt.Sprint(i), policy.Selector{}, policy.RuleIntent{AnyPort: true, Pods: []policy.PodSet{{Namespace: "ns"}}}))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			measure := func(n int) float64 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				x := compute.New(compute.Params{Pods: n, Policies: n})
				load(x, n)
				x.Flush()
				runtime.ReadMemStats(&after)
				return float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
			}
			small, large := measure(1000), measure(8000)
			if large > 1.5*small {
				t.Errorf("%.0f bytes for each of 8000, %.0f for each of 1000", large, small)
			}
		})
	}
}

func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1000, 2000, 4000, 8000, 16000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				x := compute.New(compute.Params{Pods: n, Policies: n})
				for i := range n {
					label := fmt.Sprint(i)
					x.UpsertPod(pod(label, fmt.Sprintf("n%d", i%100), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), map[string]string{"pod": label}))
					x.UpsertPolicy(accepting(label, is("pod", label), policy.RuleIntent{AnyPort: true, Pods: []policy.PodSet{{Namespace: "ns", Pods: is("pod", label)}}}))
				}
				x.Flush()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/object")
		})
	}
}

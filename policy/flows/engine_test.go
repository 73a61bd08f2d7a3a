// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testgolden"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/policy"
)

// known makes Pod n of the node known with subjects 0 to subjects-1.
func known(n, subjects int) (policy.Pod, *policy.Identity) {
	p := podAt(n)
	return policy.Pod{Key: p.local.Pod, UID: p.local.UID, Identity: id('i', n)},
		&policy.Identity{ID: id('i', n), Subjects: count(subjects, subject)}
}

// accept is a NetworkPolicy with one ingress rule.
func accept(name string, s policy.ID, change func(*policy.Rule)) *policy.Policy {
	r := policy.Rule{Subject: s}
	change(&r)
	return &policy.Policy{
		Key: policy.Key{Namespace: "ns", Name: name}, Tier: policy.TierNamespace, Subject: s,
		Isolates: [policy.Directions]bool{policy.Ingress: true}, Rules: []policy.Rule{r},
	}
}

func from(groups ...int) func(*policy.Rule) {
	return func(r *policy.Rule) {
		for _, g := range groups {
			r.Peers = append(r.Peers, group(g))
		}
	}
}

func onPort(r *policy.Rule, proto policy.Protocol, first, last uint16) {
	r.Ports = append(r.Ports, policy.PortRange{Protocol: proto, First: first, Last: last})
}

// example is a Pod that the groups 1 and 2 may reach at TCP ports 80 and 8000 to
// 8099, and that connects to 203.0.113.0/24 but for its second half.
func example() Change {
	pod, identity := known(0, 2)
	web := accept("web", subject(0), func(r *policy.Rule) {
		from(1, 2)(r)
		onPort(r, policy.TCP, 80, 80)
		onPort(r, policy.TCP, 8000, 8099)
	})
	out := &policy.Policy{
		Key: policy.Key{Namespace: "ns", Name: "out"}, Tier: policy.TierNamespace, Subject: subject(1),
		Isolates: [policy.Directions]bool{policy.Egress: true},
		Rules: []policy.Rule{{Direction: policy.Egress, Subject: subject(1), Blocks: []policy.Block{{
			CIDR: netip.MustParsePrefix("203.0.113.0/24"), Except: []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")},
		}}}},
	}
	admin := &policy.Policy{
		Key: policy.Key{Kind: policy.ClusterNetworkPolicy, Name: "admin"}, Tier: policy.TierAdmin, Priority: 10, Subject: subject(0),
		Rules: []policy.Rule{
			{Action: policy.Pass, Index: 0, Subject: subject(0), Peers: []policy.ID{group(2)}},
			{Action: policy.Deny, Index: 1, Subject: subject(0), AnyPeer: true},
		},
	}
	return Change{
		Update: &policy.Update{
			Policies: []*policy.Policy{web, out, admin},
			Groups: []policy.GroupUpdate{
				{ID: group(1), Whole: true, Added: addresses("10.0.2.2", "fd00:0:0:2::2")},
				{ID: group(2), Whole: true, Added: addresses("10.0.2.2", "10.0.2.3")},
			},
			Pods: []policy.Pod{pod}, Identities: []*policy.Identity{identity},
		},
		Attached: []LocalPod{podAt(0).local},
	}
}

func patchText(p Patch) string {
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "# %s\n", c.Owner)
		for _, k := range c.Remove {
			fmt.Fprintf(&b, "remove %s\n", k)
		}
		flows := slices.Clone(c.Set)
		flow.Sort(flows)
		for _, f := range flows {
			b.WriteString(f.String() + "\n")
		}
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	held := podAt(1).local
	held.HoldUnknown = true
	for name, c := range map[string]Change{
		"Nothing": {}, "Example": example(), "Held": {Attached: []LocalPod{held}}, "Unknown": {Attached: []LocalPod{podAt(1).local}},
	} {
		t.Run(name, func(t *testing.T) {
			testgolden.Compare(t, name, patchText(New(Params{}).Apply(c)))
		})
	}
}

func TestDenied(t *testing.T) {
	quiet := []string{
		"table=44, priority=200,ct_state=+est+trk,tcp actions=controller(max_len=256,meter_id=3)",
		"table=44, priority=200,ct_state=+est+trk,tcp6 actions=controller(max_len=256,meter_id=3)",
	}
	for name, tc := range map[string]struct {
		denied Denied
		want   []string
	}{
		"quiet":  {Denied{Meter: 3}, quiet},
		"logged": {Denied{Log: true, Meter: 3}, append(slices.Clone(quiet), "table=44, priority=100 actions=controller(max_len=256,meter_id=3)")},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range tc.denied.Flows() {
				got = append(got, f.String())
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("flows (-want +got):\n%s", d)
			}
		})
	}
}

// TestPatchesAreSmall changes one thing of the example at a time.
func TestPatchesAreSmall(t *testing.T) {
	web := example().Update.Policies[0]
	renamed := *web
	renamed.Key.Name = "copy"
	reordered := *web
	reordered.Rules = slices.Clone(web.Rules)
	reordered.Rules[0].Peers = []policy.ID{group(2), group(1), group(2)}
	reordered.Rules[0].Ports = []policy.PortRange{
		{Protocol: policy.TCP, First: 8050, Last: 8099}, {Protocol: policy.TCP, First: 80, Last: 80}, {Protocol: policy.TCP, First: 8000, Last: 8060},
	}
	for name, tc := range map[string]struct {
		change       Change
		set, removed int
		owners       []string
	}{
		"the same":           {change: example()},
		"a copy of a policy": {change: Change{Update: &policy.Update{Policies: []*policy.Policy{&renamed}}}},
		"another order":      {change: Change{Update: &policy.Update{Policies: []*policy.Policy{&reordered}}}},
		"an address of a class": {
			change: Change{Update: &policy.Update{Groups: []policy.GroupUpdate{{ID: group(2), Added: addresses("10.0.2.9")}}}},
			set:    1, owners: []string{OwnerAddresses},
		},
		"an address less": {
			change: Change{Update: &policy.Update{Groups: []policy.GroupUpdate{
				{ID: group(1), Added: addresses("fd00:0:0:2::3"), Removed: addresses("fd00:0:0:2::2")},
			}}},
			set: 1, removed: 1, owners: []string{OwnerAddresses},
		},
		"an interface without policies": {change: Change{Attached: []LocalPod{podAt(2).local}}},
		"an interface less": {
			change: Change{Detached: []uint32{podAt(0).local.Port}}, removed: 12, owners: []string{OwnerPort(10)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := New(Params{})
			e.Apply(example())
			patch := e.Apply(tc.change)
			set, removed := 0, 0
			for _, c := range patch.Changes {
				set, removed = set+len(c.Set), removed+len(c.Remove)
			}
			if set != tc.set || removed != tc.removed || !slices.Equal(patch.Owners(), tc.owners) {
				t.Errorf("%d flows set, %d removed of %v; want %d and %d of %v:\n%s",
					set, removed, patch.Owners(), tc.set, tc.removed, tc.owners, patchText(patch))
			}
		})
	}
}

func TestPortMatches(t *testing.T) {
	for _, tc := range []struct {
		first, last uint16
		flows       int
	}{
		{0, 65535, 1}, {1, 65535, 16}, {0, 0, 1}, {65535, 65535, 1}, {80, 80, 1}, {1, 65534, 30}, {1024, 65535, 6}, {32768, 65535, 1},
		{30000, 32767, 5}, {5, 4, 0},
	} {
		got := portMatches([]policy.PortRange{{Protocol: policy.TCP, First: tc.first, Last: tc.last}})
		if len(got) != tc.flows {
			t.Errorf("%d to %d: %d matches, want %d: %v", tc.first, tc.last, len(got), tc.flows, got)
		}
		for port := range 1 << 16 {
			n := 0
			for _, m := range got {
				if uint16(port)&m.mask == m.port {
					n++
				}
			}
			if in := uint16(port) >= tc.first && uint16(port) <= tc.last; in != (n == 1) || n > 1 {
				t.Fatalf("%d to %d: port %d is in %d matches", tc.first, tc.last, port, n)
			}
		}
	}
}

// wantLimits checks what the switch can take: actions of a flow, and the number
// of flows of a patch.
func wantLimits(t *testing.T, p Patch, most int) {
	t.Helper()
	n := 0
	for _, c := range p.Changes {
		n += len(c.Set)
		for _, f := range c.Set {
			if len(f.Actions) > 4000 {
				t.Errorf("%d actions: %s", len(f.Actions), f.Key())
			}
		}
	}
	if n > most {
		t.Errorf("%d flows, want at most %d", n, most)
	}
}

// TestManyBlocks: ten thousand blocks in one policy, each with an exception.
func TestManyBlocks(t *testing.T) {
	n := newNode(t, Params{})
	pod, identity := known(0, 1)
	p := accept("blocks", subject(0), func(r *policy.Rule) {
		for i := range 10000 {
			r.Blocks = append(r.Blocks, policy.Block{
				CIDR:   netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 0}), 24),
				Except: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 7}), 32)},
			})
		}
	})
	patch := n.apply(Change{
		Update:   &policy.Update{Policies: []*policy.Policy{p}, Pods: []policy.Pod{pod}, Identities: []*policy.Identity{identity}},
		Attached: []LocalPod{n.attach(podAt(0))},
	})
	wantLimits(t, patch, 20100)
	for text, want := range map[string]string{"100.0.1.6": "output:10", "100.0.1.7": "drop", "100.39.15.8": "output:10", "100.39.16.8": "drop"} {
		v := n.send(packet{src: netip.MustParseAddr(text), dst: podAt(0).addrs[0], proto: flow.ProtoTCP, sport: 40000, dport: 80}, false)
		if v.String() != want {
			t.Errorf("from %s: %v, want %s", text, v, want)
		}
	}
}

// TestManyRules: a thousand rules in one policy, and more conjunctions with one
// clause than a flow mod can carry.
func TestManyRules(t *testing.T) {
	n := newNode(t, Params{})
	pod, identity := known(0, 1)
	c := Change{
		Update:   &policy.Update{Pods: []policy.Pod{pod}, Identities: []*policy.Identity{identity}},
		Attached: []LocalPod{n.attach(podAt(0))},
	}
	for i := range 10 {
		p := accept(fmt.Sprintf("p%d", i), subject(0), func(*policy.Rule) {})
		p.Rules = nil
		for j := range 1000 {
			r := policy.Rule{Subject: subject(0), Index: j, Peers: []policy.ID{group(1000*i + j)}}
			onPort(&r, policy.TCP, 80, 80)
			p.Rules = append(p.Rules, r)
			c.Update.Groups = append(c.Update.Groups, policy.GroupUpdate{ID: group(1000*i + j), Whole: true, Added: []netip.Addr{
				manyRulesPeer(1000*i + j),
			}})
		}
		c.Update.Policies = append(c.Update.Policies, p)
	}
	first := *c.Update
	c.Update.Policies = c.Update.Policies[:1]
	wantLimits(t, n.apply(c), 13500)
	check := func(policies int) {
		t.Helper()
		for i := range 10 {
			p := packet{src: manyRulesPeer(1000*i + 5), dst: podAt(0).addrs[0], proto: flow.ProtoTCP, sport: 4000, dport: 80}
			want := "drop"
			if i < policies {
				want = "output:10"
			}
			if v := n.send(p, false); becomes(v) != want {
				t.Errorf("%d policies: %v: %v, want %s; it met:\n%s", policies, p, v, want, v.Met())
			}
		}
	}
	check(1)
	wantLimits(t, n.apply(Change{Update: &policy.Update{Policies: first.Policies[1:]}}), 31000)
	check(10)
	var gone []policy.Key
	for _, p := range first.Policies[3:] {
		gone = append(gone, p.Key)
	}
	n.apply(Change{Update: &policy.Update{GonePolicies: gone}})
	check(3)
}

func manyRulesPeer(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, byte(n >> 8), byte(n)}) }

func TestCounts(t *testing.T) {
	e := New(Params{})
	var counts []FlowCount
	for _, c := range e.Apply(example()).Changes {
		for _, f := range c.Set {
			counts = append(counts, FlowCount{Key: f.Key(), Packets: 10, Bytes: 1000})
		}
	}
	got := e.Count(counts)
	if len(got.Rules) != 4 || len(e.Rules()) != 4 {
		t.Fatalf("%d rules are counted, %d known, want 4", len(got.Rules), len(e.Rules()))
	}
	names := map[string]RuleCount{}
	for number, c := range got.Rules {
		r, ok := e.Rule(number)
		if !ok {
			t.Fatalf("rule %d has no name", number)
		}
		names[fmt.Sprintf("%v %v %v %v %d", r.Tier, r.Direction, r.Action, r.Refs[0].Policy, r.Refs[0].Index)] = c
	}
	each := RuleCount{Packets: 20, Bytes: 2000, Sessions: 10}
	want := map[string]RuleCount{
		"NetworkPolicy Ingress Accept NetworkPolicy ns/web 0": each, "NetworkPolicy Egress Accept NetworkPolicy ns/out 0": each,
		"Admin Ingress Pass ClusterNetworkPolicy admin 0": each, "Admin Ingress Deny ClusterNetworkPolicy admin 1": each,
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
	pod := podAt(0).local.Pod
	denied := map[PodDirection]DeniedCount{{pod, policy.Ingress}: {10, 1000}, {pod, policy.Egress}: {10, 1000}}
	if d := cmp.Diff(denied, got.Denied); d != "" {
		t.Errorf("denied (-want +got):\n%s", d)
	}
}

func TestPods(t *testing.T) {
	e := New(Params{})
	c := example()
	held, unknown := podAt(2).local, podAt(1).local
	held.HoldUnknown = true
	c.Attached = append(c.Attached, held, unknown)
	e.Apply(c)
	want := []PodStatus{
		{LocalPod: c.Attached[0], Isolated: [policy.Directions]bool{true, true}}, {LocalPod: unknown}, {LocalPod: held, Held: true},
	}
	if d := cmp.Diff(want, e.Pods()); d != "" {
		t.Errorf("interfaces (-want +got):\n%s", d)
	}
	if n := e.RuleCount(); n != 4 {
		t.Errorf("%d rules, want 4", n)
	}
}

func TestRuleOfSeveralPolicies(t *testing.T) {
	e := New(Params{})
	c := example()
	renamed := *c.Update.Policies[0]
	renamed.Key.Name = "copy"
	c.Update.Policies = append(c.Update.Policies, &renamed)
	e.Apply(c)
	shared := 0
	for _, r := range e.Rules() {
		if len(r.Refs) == 2 && r.Refs[0].Policy.Name == "copy" && r.Refs[1].Policy.Name == "web" {
			shared++
		}
	}
	if shared != 1 {
		t.Errorf("%d rules belong to both policies, want 1: %v", shared, e.Rules())
	}
	e.Apply(Change{Update: &policy.Update{GonePolicies: []policy.Key{renamed.Key}}})
	for _, r := range e.Rules() {
		if len(r.Refs) != 1 {
			t.Errorf("%v belongs to more than one rule", r)
		}
	}
}

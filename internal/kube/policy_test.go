// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"github.com/waymark-net/waymark/policy"
)

// intentText writes an intent in one line for the policy and one for each rule.
func intentText(in *policy.PolicyIntent) string {
	set := func(s policy.PodSet) string {
		if s.Namespace != "" {
			return fmt.Sprintf("%s{%s}", s.Namespace, s.Pods)
		}
		return fmt.Sprintf("[%s]{%s}", s.Namespaces, s.Pods)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %s", in.Tier, in.Priority, set(in.Subject))
	for d := range policy.Directions {
		if in.Isolates[d] {
			fmt.Fprintf(&b, " isolates %s", d)
		}
	}
	for _, r := range in.Rules {
		fmt.Fprintf(&b, "\n%s %d %s", r.Direction, r.Index, r.Action)
		if r.AnyPeer {
			b.WriteString(" any")
		}
		for _, s := range r.Pods {
			b.WriteString(" " + set(s))
		}
		for _, n := range r.Nodes {
			fmt.Fprintf(&b, " nodes{%s}", n)
		}
		for _, block := range r.Blocks {
			fmt.Fprintf(&b, " %s-%s", block.CIDR, block.Except)
		}
		b.WriteString(" ports")
		if r.AnyPort {
			b.WriteString(" any")
		}
		for _, p := range r.Ports {
			if p.Name != "" {
				fmt.Fprintf(&b, " %d/%s", p.Protocol, p.Name)
			} else {
				fmt.Fprintf(&b, " %d/%d-%d", p.Protocol, p.First, p.Last)
			}
		}
	}
	return b.String()
}

type policyCase struct {
	name, spec string
	want       string
	problems   []string // the beginning of each
}

func checkPolicy(t *testing.T, c policyCase, in *policy.PolicyIntent, problems []PolicyProblem) {
	t.Helper()
	if diff := cmp.Diff(c.want, intentText(in)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(problems) != len(c.problems) {
		t.Fatalf("%d problems, want %d: %v", len(problems), len(c.problems), problems)
	}
	for i, p := range problems {
		if !strings.HasPrefix(p.String(), in.Key.String()+": "+c.problems[i]) || p.Allowed == "" {
			t.Errorf("problem %q, want one of %q", p, c.problems[i])
		}
	}
}

func TestNetworkPolicy(t *testing.T) {
	const all = "NetworkPolicy 0 ns{} isolates Ingress"
	for _, c := range []policyCase{
		{"nothing", `{}`, all, nil},
		{"types are those of the rules", `egress: [{}]`, all + " isolates Egress\nEgress 0 Accept any ports any", nil},
		{"egress alone", `{policyTypes: [Egress], egress: [{}], ingress: [{}]}`,
			"NetworkPolicy 0 ns{} isolates Egress\nEgress 0 Accept any ports any", nil},
		{"a type of a newer version", `{policyTypes: [Ingress, Sideways], ingress: [{}], egress: [{}]}`,
			all + " isolates Egress\nIngress 0 Accept any ports any", []string{`spec.policyTypes[1]: "Sideways"`}},
		{"selectors", `podSelector: {matchLabels: {b: c}, matchExpressions: [{key: a, operator: NotIn, values: [z, w, z]}, {key: d, operator: Exists}, {key: e, operator: DoesNotExist}]}`,
			"NetworkPolicy 0 ns{a!=(w|z),b=(c),d,!e} isolates Ingress", nil},
		{"an unknown operator in the subject", `{podSelector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: Like, values: [z]}]}, ingress: [{}]}`,
			"NetworkPolicy 0 ns{a=(b)} isolates Ingress", []string{`spec.podSelector.matchExpressions[0].operator: "Like"`}},
		{"peers", `ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}}, {namespaceSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {c: d}}}, {ipBlock: {cidr: 10.1.2.3/8, except: [10.1.0.0/16]}}, {ipBlock: {cidr: "fd00::/8"}}]}]`,
			all + "\nIngress 0 Accept ns{} []{} [a=(b)]{c=(d)} 10.0.0.0/8-[10.1.0.0/16] fd00::/8-[] ports any", nil},
		{"a peer of no known field", `ingress: [{from: [{}, {podSelector: {}}]}]`,
			all + "\nIngress 0 Accept ns{} ports any", []string{`spec.ingress[0].from[0]: ""`}},
		{"a peer of too many fields", `ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]`,
			all + "\nIngress 0 Accept ports any", []string{`spec.ingress[0].from[0]: "ipBlock with a selector"`}},
		{"In without values", `ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]}]`,
			all + "\nIngress 0 Accept ports any", []string{`spec.ingress[0].from[0].podSelector.matchExpressions[0].values: "[]"`}},
		{"Exists with values", `ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}]`,
			all + "\nIngress 0 Accept ports any", []string{`spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values: "[b]"`}},
		{"a label that none can be", `ingress: [{from: [{podSelector: {matchLabels: {"a b": c}}}]}]`,
			all + "\nIngress 0 Accept ports any", []string{`spec.ingress[0].from[0].podSelector: "a b In c"`}},
		{"a block that is none", `ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}, {ipBlock: {cidr: "::ffff:10.0.0.0/104"}}]}]`,
			all + "\nIngress 0 Accept ports any", []string{`spec.ingress[0].from[0].ipBlock.cidr: "10.0.0.0/33"`, `spec.ingress[0].from[1].ipBlock.cidr: "::ffff`}},
		{"except outside its block", `ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.1.0.0/24]}}, {ipBlock: {cidr: 10.0.0.0/16, except: [10.0.0.0/16]}}, {ipBlock: {cidr: 10.0.0.0/16, except: [x]}}]}]`,
			all + "\nIngress 0 Accept ports any", []string{`spec.ingress[0].from[0].ipBlock.except[0]: "10.1.0.0/24"`, `spec.ingress[0].from[1].ipBlock.except[0]: "10.0.0.0/16"`, `spec.ingress[0].from[2].ipBlock.except[0]: "x"`}},
		{"ports", `ingress: [{ports: [{}, {port: 80}, {port: http}, {protocol: UDP, port: 1, endPort: 65535}, {protocol: SCTP}, {port: 5, endPort: 5}]}]`,
			all + "\nIngress 0 Accept any ports 6/0-65535 6/80-80 6/http 17/1-65535 132/0-65535 6/5-5", nil},
		{"wrong ports leave none", `ingress: [{ports: [{port: 80, endPort: 79}, {port: http, endPort: 90}, {endPort: 90}, {port: 0}, {port: 65536}, {port: 80, endPort: 65536}, {protocol: ICMP}, {port: "Not a name"}]}]`,
			all + "\nIngress 0 Accept any ports", []string{
				`spec.ingress[0].ports[0].endPort: "79": port, which is 80, or more`, `spec.ingress[0].ports[1].endPort: "90"`,
				`spec.ingress[0].ports[2].endPort: "90"`, `spec.ingress[0].ports[3].port: "0": 1 to 65535`, `spec.ingress[0].ports[4].port: "65536"`,
				`spec.ingress[0].ports[5].endPort: "65536"`, `spec.ingress[0].ports[6].protocol: "ICMP": TCP, UDP or SCTP`, `spec.ingress[0].ports[7].port: "Not a name"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			object := &networkingv1.NetworkPolicy{}
			object.Namespace, object.Name, object.UID = "ns", "np", "u"
			if err := yaml.UnmarshalStrict([]byte(c.spec), &object.Spec); err != nil {
				t.Fatal(err)
			}
			in, problems := NetworkPolicy(object)
			if want := (policy.Key{Kind: policy.NetworkPolicy, Namespace: "ns", Name: "np"}); in.Key != want || in.UID != "u" {
				t.Errorf("key %v, UID %s", in.Key, in.UID)
			}
			checkPolicy(t, c, in, problems)
		})
	}
}

func TestClusterNetworkPolicy(t *testing.T) {
	head := `{tier: Admin, priority: 5, subject: {namespaces: {}}, `
	const admin = "Admin 5 []{}"
	for _, c := range []policyCase{
		{"all that there is", head + `ingress: [{action: Accept, from: [{pods: {namespaceSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {c: d}}}}], protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 1, end: 65535}}}}, {destinationNamedPort: http}]}],
			egress: [{action: Pass, to: [{nodes: {matchLabels: {e: f}}}, {networks: [10.0.0.0/8, "fd00::/8"]}, {namespaces: {}}]}]}`,
			admin + "\nIngress 0 Accept [a=(b)]{c=(d)} ports 6/80-80 17/1-65535 0/http" +
				"\nEgress 0 Pass []{} nodes{e=(f)} 10.0.0.0/8-[] fd00::/8-[] ports any", nil},
		{"baseline", `{tier: Baseline, priority: 1000, subject: {pods: {podSelector: {matchLabels: {a: b}}}}}`, "Baseline 1000 []{a=(b)}", nil},
		{"a tier of a newer version", `{tier: Late, priority: 5, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}, {action: Pass, from: [{namespaces: {}}]}]}`,
			admin + "\nIngress 1 Deny any ports any", []string{`spec.tier: "Late": Admin or Baseline`}},
		{"a priority that none can be", `{tier: Admin, priority: 1001, subject: {namespaces: {}}}`, "Admin 1000 []{}", []string{`spec.priority: "1001": 0 to 1000`}},
		{"a subject of no known field", `{tier: Admin, priority: 5, subject: {}, egress: [{action: Accept, to: [{namespaces: {}}]}, {action: Deny, to: [{networks: [10.0.0.0/8]}]}]}`,
			admin + "\nEgress 1 Deny any ports any", []string{`spec.subject: ""`}},
		{"an unknown action", head + `ingress: [{action: Log, from: [{namespaces: {}}]}]}`, admin + "\nIngress 0 Deny any ports any", []string{`spec.ingress[0].action: "Log"`}},
		{"peers of no known field", head + `ingress: [{action: Accept, from: [{namespaces: {}}, {}]}, {action: Deny, from: [{}]}, {action: Pass, from: [{}]}]}`,
			admin + "\nIngress 1 Deny any ports any\nIngress 2 Deny any ports any",
			[]string{`spec.ingress[0].from[1]: ""`, `spec.ingress[1].from[0]`, `spec.ingress[2].from[0]`}},
		{"no peers", head + `egress: [{action: Deny, to: []}]}`, admin + "\nEgress 0 Deny any ports any", []string{`spec.egress[0].to: "0"`}},
		{"domain names are not supported", head + `egress: [{action: Accept, to: [{domainNames: ["example.org"]}]}, {action: Deny, to: [{domainNames: ["example.org"]}]}]}`,
			admin + "\nEgress 1 Deny any ports any", []string{`spec.egress[0].to[0].domainNames: "example.org": not supported`, `spec.egress[1].to[0].domainNames`}},
		{"two fields of a peer", head + `egress: [{action: Accept, to: [{nodes: {}, networks: [10.0.0.0/8]}]}]}`, admin, []string{`spec.egress[0].to[0]: "2"`}},
		{"a network that is none", head + `egress: [{action: Pass, to: [{networks: [10.0.0.0/8, "10.0.0.1"]}]}]}`,
			admin + "\nEgress 0 Deny any ports any", []string{`spec.egress[0].to[0].networks[1]: "10.0.0.1"`}},
		{"a name of a port of nodes", head + `egress: [{action: Accept, to: [{nodes: {}}], protocols: [{destinationNamedPort: http}]}]}`, admin, []string{`spec.egress[0].protocols: "http"`}},
		{"protocols that were not understood", head + `ingress: [{action: Accept, from: [{namespaces: {}}], protocols: [{}]}, {action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {}}]},
			{action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {}}}]}, {action: Accept, from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 70000}}}]},
			{action: Accept, from: [{namespaces: {}}], protocols: [{sctp: {destinationPort: {range: {start: 9, end: 8}}}}]}]}`,
			admin + "\nIngress 1 Deny any ports any", []string{`spec.ingress[0].protocols[0]: "0"`, `spec.ingress[1].protocols[0].tcp: ""`, `spec.ingress[2].protocols[0].tcp.destinationPort: "0"`,
				`spec.ingress[3].protocols[0].udp.destinationPort.number: "70000"`, `spec.ingress[4].protocols[0].sctp.destinationPort.range.end: "8"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			object := &policyv1alpha2.ClusterNetworkPolicy{}
			object.Name = "cnp"
			if err := yaml.UnmarshalStrict([]byte(c.spec), &object.Spec); err != nil {
				t.Fatal(err)
			}
			in, problems := ClusterNetworkPolicy(object)
			checkPolicy(t, c, in, problems)
		})
	}
}

func TestClusterNetworkPolicyOfManyRules(t *testing.T) {
	object := &policyv1alpha2.ClusterNetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(`{tier: Admin, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}]}`), &object.Spec); err != nil {
		t.Fatal(err)
	}
	for len(object.Spec.Ingress) < 27 {
		object.Spec.Ingress = append(object.Spec.Ingress, object.Spec.Ingress[0])
	}
	object.Spec.Ingress[26].Action = policyv1alpha2.ClusterNetworkPolicyRuleActionPass
	in, problems := ClusterNetworkPolicy(object)
	if len(problems) != 2 || len(in.Rules) != 26 || in.Rules[25].Index != 26 || in.Rules[25].Action != policy.Deny || !in.Rules[25].AnyPeer {
		t.Errorf("%v\n%s", problems, intentText(in))
	}
}

func TestPolicyPod(t *testing.T) {
	labels := map[string]string{"a": "b"}
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{}
		p.Namespace, p.Name, p.UID, p.Labels = "ns", "p", "u", labels
		p.Spec.NodeName = "n1"
		p.Status.Phase = corev1.PodRunning
		change(p)
		return p
	}
	base := policy.PodIntent{Key: policy.PodKey{Namespace: "ns", Name: "p"}, UID: "u", Node: "n1", Labels: labels}
	with := func(change func(*policy.PodIntent)) policy.PodIntent {
		in := base
		change(&in)
		return in
	}
	always := corev1.ContainerRestartPolicyAlways
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
		want policy.PodIntent
	}{
		{"without address", pod(func(*corev1.Pod) {}), base},
		{"addresses", pod(func(p *corev1.Pod) {
			p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}, {IP: "10.0.0.1"}, {IP: "x"}}
			p.Status.PodIP = "10.0.0.1"
		}), with(func(in *policy.PodIntent) {
			in.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
		})},
		{"the old field of the address", pod(func(p *corev1.Pod) { p.Status.PodIP = "10.0.0.1" }),
			with(func(in *policy.PodIntent) { in.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.1")} })},
		{"host network", pod(func(p *corev1.Pod) { p.Spec.HostNetwork = true; p.Status.PodIP = "10.0.0.1" }),
			with(func(in *policy.PodIntent) { in.HostNetwork = true })},
		{"succeeded", pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), with(func(in *policy.PodIntent) { in.Finished = true })},
		{"failed", pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), with(func(in *policy.PodIntent) { in.Finished = true })},
		{"named ports", pod(func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 81}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}},
				{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "x", ContainerPort: 0}, {Name: "y", ContainerPort: 1, Protocol: "ICMP"}}},
			}
			p.Spec.InitContainers = []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "once", ContainerPort: 90}}},
				{Ports: []corev1.ContainerPort{{Name: "beside", ContainerPort: 91}}, RestartPolicy: &always},
			}
		}), with(func(in *policy.PodIntent) {
			in.Ports = []policy.NamedPort{
				{Name: "http", Protocol: policy.TCP, Number: 80}, {Name: "dns", Protocol: policy.UDP, Number: 53}, {Name: "beside", Protocol: policy.TCP, Number: 91},
			}
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, PolicyPod(c.pod), compareNet); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPolicyNode(t *testing.T) {
	n := &corev1.Node{}
	n.Name = "n1"
	n.Spec.PodCIDRs = []string{"10.1.0.0/24", "fd00:1::/64", "x"}
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeExternalIP, Address: "198.51.100.1"},
		{Type: corev1.NodeHostName, Address: "203.0.113.1"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
	}
	var want []netip.Addr
	for _, a := range []string{"192.0.2.1", "198.51.100.1", "2001:db8::1", "10.1.0.1", "10.1.0.2", "fd00:1::1", "fd00:1::2"} {
		want = append(want, netip.MustParseAddr(a))
	}
	if diff := cmp.Diff(want, PolicyNode(n).Addresses, compareNet); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

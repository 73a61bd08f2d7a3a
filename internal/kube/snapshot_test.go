// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

func TestParseNode(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	address := func(kind corev1.NodeAddressType, a string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: kind, Address: a}
	}
	tests := []struct {
		name   string
		spec   corev1.NodeSpec
		status corev1.NodeStatus
		want   Node
	}{
		{"dual stack",
			corev1.NodeSpec{PodCIDR: "10.10.1.0/24", PodCIDRs: []string{"10.10.1.0/24", "fd10:0:0:1::/64"}},
			corev1.NodeStatus{
				Addresses: []corev1.NodeAddress{
					address(corev1.NodeHostName, "n1"), address(corev1.NodeExternalIP, "198.51.100.1"),
					address(corev1.NodeInternalIP, "192.0.2.1"), address(corev1.NodeInternalIP, "192.0.2.2"), address(corev1.NodeInternalIP, "2001:db8::1"),
				},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
			Node{
				Node: routing.Node{
					Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
					PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.10.1.0/24"), netip.MustParsePrefix("fd10:0:0:1::/64")},
				},
				Ready: true,
			}},
		{"old field only", corev1.NodeSpec{PodCIDR: "10.10.1.0/24"},
			corev1.NodeStatus{Addresses: []corev1.NodeAddress{address(corev1.NodeInternalIP, "192.0.2.1")}},
			Node{Node: routing.Node{
				Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
				PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.10.1.0/24")},
			}}},
		{"nothing good", corev1.NodeSpec{PodCIDRs: []string{"10.10.1.0"}},
			corev1.NodeStatus{Addresses: []corev1.NodeAddress{address(corev1.NodeInternalIP, "n1.example.com")}},
			Node{Problems: []string{
				"InternalIP n1.example.com is not an IP address", "the node has no InternalIP", "Pod CIDR 10.10.1.0 is not a CIDR",
			}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			meta := metav1.ObjectMeta{
				Name: "n1", UID: "uid", CreationTimestamp: metav1.NewTime(created),
				Labels: map[string]string{"rack": "a"}, Annotations: map[string]string{"k": "v"},
			}
			got := parseNode(&corev1.Node{ObjectMeta: meta, Spec: test.spec, Status: test.status})
			test.want.Name, test.want.UID, test.want.Created = "n1", "uid", created
			test.want.Labels = meta.Labels
			if diff := cmp.Diff(test.want, got, compareNet); diff != "" {
				t.Errorf("parseNode (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLeaving also has the objects as the Watcher keeps them.
func TestLeaving(t *testing.T) {
	now := metav1.Now()
	for _, test := range []struct {
		name    string
		deleted *metav1.Time
		taints  []corev1.Taint
		want    bool
	}{
		{"stays", nil, []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}, false},
		{"deleted", &now, nil, true},
		{"tainted", nil, []corev1.Taint{{Key: "a"}, {Key: "ToBeDeletedByClusterAutoscaler", Value: "1", Effect: corev1.TaintEffectNoSchedule}}, true},
		{"may be removed one day", nil, []corev1.Taint{{Key: "DeletionCandidateOfClusterAutoscaler", Effect: corev1.TaintEffectPreferNoSchedule}}, false},
	} {
		kept, err := slim(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", DeletionTimestamp: test.deleted}, Spec: corev1.NodeSpec{Taints: test.taints}})
		if got := parseNode(kept.(*corev1.Node)).Leaving; err != nil || got != test.want {
			t.Errorf("%s: leaving is %t (%v), want %t", test.name, got, err, test.want)
		}
	}
}

func TestZone(t *testing.T) {
	for zone, n := range map[string]*Node{"": node("n1", nil), "rack-a": node("n2", map[string]string{"topology.kubernetes.io/zone": "rack-a"})} {
		if got := n.Zone(); got != zone {
			t.Errorf("zone of %s is %q, want %q", n.Name, got, zone)
		}
	}
}

func TestSnapshotLookups(t *testing.T) {
	s := &Snapshot{Nodes: []Node{*node("n1", nil, "10.10.1.0/24"), *node("n2", nil, "fd10::/64"), *node("n3", nil)}}
	if n := s.Node("n2"); n == nil || n.Name != "n2" {
		t.Errorf("Node(n2) = %v", n)
	}
	if n := s.Node("n9"); n != nil {
		t.Errorf("Node(n9) = %v", n)
	}
	if diff := cmp.Diff([]routing.Family{routing.IPv4, routing.IPv6}, s.Families()); diff != "" {
		t.Errorf("Families (-want +got):\n%s", diff)
	}
}

// TestNodeUpdatesWithoutNews: every agent writes to its own node, and each
// update that is not left out makes every other agent look at everything.
func TestNodeUpdatesWithoutNews(t *testing.T) {
	w := &Watcher{}
	for _, test := range []struct {
		name   string
		change func(*corev1.Node)
		same   bool
	}{
		{"heartbeat", func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() }, true},
		{"configuration carried out", func(n *corev1.Node) { n.Annotations = map[string]string{AnnotationConfiguration: "7"} }, true},
		{"label", func(n *corev1.Node) { n.Labels = map[string]string{"rack": "b"} }, false},
		{"not ready", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }, false},
		{"about to be removed", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}} }, false},
		{"Pod CIDR", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.10.2.0/24"} }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: "n1"},
				Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.10.1.0/24"}},
				Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
			}
			after := before.DeepCopy()
			test.change(after)
			if got := w.same(before, after); got != test.same {
				t.Errorf("same = %t, want %t", got, test.same)
			}
		})
	}
}

func TestFit(t *testing.T) {
	long := strings.Repeat("x", 600)
	tests := []struct{ name, message, want string }{
		{"short", "one\ntwo\n", "one; two"},
		{"too many lines", long + "\n" + strings.Repeat("y", 500) + "\nz", long + "; and 2 more"},
		{"one long line", strings.Repeat("é", 600), strings.Repeat("é", 510) + "…"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := fit(test.message, maxMessage)
			if diff := cmp.Diff(test.want, got); diff != "" || len(got) > maxMessage {
				t.Errorf("fit, %d bytes (-want +got):\n%s", len(got), diff)
			}
		})
	}
}

func TestSessionObjects(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	earlier := metav1.NewTime(now.Add(-time.Hour).Truncate(time.Second))
	n1 := node("n1", nil)
	n1.UID = "uid"
	report := Report{
		Node: n1,
		Sessions: []routing.SessionStatus{
			{
				Peer: "up", Address: netip.MustParseAddr("192.0.2.1"), ASN: 64512, State: routing.SessionEstablished, Since: earlier.Time,
				LastError: "hold timer expired", LastErrorAt: earlier.Time, Warnings: []string{"maxPrefixes reached"},
				Families: []routing.FamilyStatus{
					{Family: routing.IPv4, Negotiated: true, Received: 7, Accepted: 4, Advertised: 1,
						Filtered: map[routing.FilterReason]int{routing.FilterOutside: 2, routing.FilterDefault: 1, routing.FilterNextHop: 0}},
					{Family: routing.IPv6, Received: 1, Accepted: 1, Advertised: 1},
				},
			},
			{Peer: "down", Address: netip.MustParseAddr("192.0.2.2"), ASN: 64512, State: routing.SessionActive, LastError: "connection refused"},
			{
				Peer: "lost", ASN: 64512, State: routing.SessionEstablished, Since: earlier.Time,
				Families: []routing.FamilyStatus{{Family: routing.IPv4, Negotiated: true}},
				BFD: &routing.BFDStatus{
					State: "Down", RemoteState: "Up", Diagnostic: "control detection time expired", Since: earlier.Time,
					Interval: time.Second, DetectionTime: 150 * time.Millisecond, Suspended: true, Error: "no route",
				},
			},
		},
		Problems: []PeerProblem{{Peer: "bad", Reason: ReasonSecretMissing, Message: "Secret kube-system/x does not exist"}},
	}
	have := map[string]*v1alpha1.BGPSession{"n1.down": {
		ObjectMeta: metav1.ObjectMeta{ResourceVersion: "7"},
		Status: v1alpha1.BGPSessionStatus{Conditions: []metav1.Condition{
			{Type: "Ready", Status: metav1.ConditionFalse, LastTransitionTime: earlier},
		}},
	}}
	at := metav1.NewTime(now.Truncate(time.Second))
	meta := func(name, version string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, ResourceVersion: version, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "uid"}}}
	}
	condition := func(kind, is, reason, message string, since metav1.Time) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(is), Reason: reason, Message: message, LastTransitionTime: since}
	}
	want := []*v1alpha1.BGPSession{
		{ObjectMeta: meta("n1.bad", ""), Status: v1alpha1.BGPSessionStatus{
			Node: "n1", Peer: "bad", State: "Invalid", Since: &at, LastError: "Secret kube-system/x does not exist",
			Conditions: []metav1.Condition{condition("Ready", "False", "SecretMissing", "Secret kube-system/x does not exist", at)},
		}},
		{ObjectMeta: meta("n1.down", "7"), Status: v1alpha1.BGPSessionStatus{
			Node: "n1", Peer: "down", Address: "192.0.2.2", ASN: 64512, State: "Active", LastError: "connection refused",
			Conditions: []metav1.Condition{
				condition("Ready", "False", "Active", "connection refused", earlier),
				condition("ImportAccepted", "True", "AllAccepted", "every route of the router is accepted", at),
			},
		}},
		{ObjectMeta: meta("n1.lost", ""), Status: v1alpha1.BGPSessionStatus{
			Node: "n1", Peer: "lost", ASN: 64512, State: "Established", Since: &earlier, LastError: suspendedWords,
			BFD: &v1alpha1.BFDStatus{
				State: "Down", RemoteState: "Up", Diagnostic: "control detection time expired", Since: &earlier,
				TransmitInterval: "1s", DetectionTime: "150ms", RoutesSuspended: true, Error: "no route",
			},
			Conditions: []metav1.Condition{
				condition("Ready", "False", "BFDDown", suspendedWords, at),
				condition("ImportAccepted", "True", "AllAccepted", "every route of the router is accepted", at),
			},
		}},
		{ObjectMeta: meta("n1.up", ""), Status: v1alpha1.BGPSessionStatus{
			Node: "n1", Peer: "up", Address: "192.0.2.1", ASN: 64512, State: "Established", Since: &earlier, Received: 8, Accepted: 5, Advertised: 2,
			Conditions: []metav1.Condition{
				condition("Ready", "True", "Established",
					"the session carries IPv4; the router does not offer IPv6; last error at 2026-01-02T02:04:05Z: hold timer expired", at),
				condition("ImportAccepted", "False", "OutsideCluster",
					"maxPrefixes reached; IPv4: 1 left out (DefaultRoute); IPv4: 2 left out (OutsideCluster)", at),
			},
		}},
	}
	if diff := cmp.Diff(want, report.sessions(have, now)); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
}

func TestWhyLeaving(t *testing.T) {
	ready := func(status corev1.ConditionStatus, reason, message string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Reason: reason, Message: message}}
		}
	}
	taint := func(key string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoExecute}} }
	}
	const shutDown, removed, cordoned = "the node is shutting down", "the node is about to be removed", "the node is cordoned"
	for _, test := range []struct {
		name           string
		change         func(*corev1.Node)
		want, onCordon string
	}{
		{"ready", ready(corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"), "", ""},
		{"not ready", ready(corev1.ConditionFalse, "KubeletNotReady", "container runtime is down"), "", ""},
		{"shut down", ready(corev1.ConditionFalse, "KubeletNotReady", "node is shutting down"), shutDown, shutDown},
		{"shut down, and more", ready(corev1.ConditionFalse, "KubeletNotReady", "[container runtime is down, node is shutting down]"), shutDown, shutDown},
		{"it says so no more", ready(corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."), "", ""},
		{"cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, "", cordoned},
		{"deleted", func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, removed, removed},
		{"autoscaler", taint("ToBeDeletedByClusterAutoscaler"), removed, removed},
		{"out of service", taint("node.kubernetes.io/out-of-service"), removed, removed},
		{"another taint", taint("node.kubernetes.io/disk-pressure"), "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
			test.change(object)
			n := parseNode(object)
			if diff := cmp.Diff([]string{test.want, test.onCordon}, []string{n.WhyLeaving(false), n.WhyLeaving(true)}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

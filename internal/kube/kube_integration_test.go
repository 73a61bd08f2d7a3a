// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/kubetest"
	"github.com/waymark-net/waymark/routing"
)

const (
	agentUser = "system:serviceaccount:kube-system:waymark-agent"
	deadline  = 30 * time.Second
)

// TestAgent does all that an agent does at the API server, with the rights that
// the manifests give to it.
func TestAgent(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, cluster *kubetest.Cluster) {
		apply(t, cluster, "-f", "../../manifests/waymark-noencap.yaml")
		admin := clients(t, cluster, "", "")
		for name, cidrs := range map[string][]string{"n1": {"10.10.1.0/24", "fd10:0:0:1::/64"}, "n2": {"10.10.2.0/24"}} {
			createNode(t, admin, name, cidrs)
		}
		agent := clients(t, cluster, agentUser, "n1")
		f := follow(t, kube.WatcherParams{Clients: agent, NodeName: "n1"})
		t.Run("snapshot", func(t *testing.T) { testSnapshot(t, f) })
		t.Run("peer with Secret", func(t *testing.T) { testPeerSecret(t, cluster, f) })
		t.Run("Secret not permitted", func(t *testing.T) { testSecretForbidden(t, cluster) })
		t.Run("ConfigMap", func(t *testing.T) { testConfigMap(t, cluster, f) })
		t.Run("node condition", func(t *testing.T) { testNodeCondition(t, admin, agent) })
		t.Run("sessions", func(t *testing.T) { testSessions(t, cluster, f, agent) })
		t.Run("paths", func(t *testing.T) { testPaths(t, cluster, f, agent) })
		t.Run("own node only", func(t *testing.T) { testOwnNodeOnly(t, cluster, f, agent) })
		t.Run("services", func(t *testing.T) { testServices(t, admin, agent) })
		t.Run("events", func(t *testing.T) { testEvents(t, admin, agent, f) })
	})
}

func apply(t *testing.T, cluster *kubetest.Cluster, args ...string) {
	t.Helper()
	if out, err := cluster.Kubectl(t, "", append([]string{"apply", "--server-side"}, args...)...); err != nil {
		t.Fatalf("apply %v: %v\n%s", args, err, out)
	}
}

func applyText(t *testing.T, cluster *kubetest.Cluster, objects string) {
	t.Helper()
	if out, err := cluster.Kubectl(t, objects, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		t.Fatalf("apply: %v\n%s\n%s", err, objects, out)
	}
}

// clients are those of a user, of the administrator without one.
func clients(t *testing.T, cluster *kubetest.Cluster, user, node string) *kube.Clients {
	t.Helper()
	c := cluster.Config
	if user != "" {
		c = cluster.As(user, node)
	}
	clients, err := kube.NewClients(c)
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

func createNode(t *testing.T, admin *kube.Clients, name string, cidrs []string) {
	t.Helper()
	node, err := admin.Core.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}},
		Spec:       corev1.NodeSpec{PodCIDR: cidrs[0], PodCIDRs: cidrs},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1" + name[1:]}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	if _, err := admin.Core.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// follower runs a Watcher and waits for states of it.
type follower struct {
	watcher *kube.Watcher
	changed chan struct{}
}

func follow(t *testing.T, params kube.WatcherParams) *follower {
	t.Helper()
	f := &follower{changed: make(chan struct{}, 1)}
	params.OnChange = func() {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
	f.watcher = kube.NewWatcher(params)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.watcher.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// until waits for a snapshot in which check finds nothing wrong.
func (f *follower) until(t *testing.T, check func(*kube.Snapshot) error) *kube.Snapshot {
	t.Helper()
	timeout := time.After(deadline)
	err := errors.New("no snapshot")
	for {
		if s := f.watcher.Snapshot(); s != nil {
			if err = check(s); err == nil {
				return s
			}
		}
		select {
		case <-f.changed:
		case <-timeout:
			t.Fatalf("after %s: %v", deadline, err)
		}
	}
}

func testSnapshot(t *testing.T, f *follower) {
	s := f.until(t, func(s *kube.Snapshot) error {
		if len(s.Nodes) != 2 || len(s.Nodes[0].Addresses) == 0 || !s.Document.Found {
			return errors.New("incomplete")
		}
		return nil
	})
	if got := s.Node("n2").Address(routing.IPv4); got != netip.MustParseAddr("192.0.2.12") {
		t.Errorf("address of n2: %s", got)
	}
	if got := s.Families(); !slices.Equal(got, routing.Families()) {
		t.Errorf("families %v", got)
	}
	if _, err := config.Load(s.Document.Text, s.Families()...); err != nil {
		t.Error(err)
	}
}

const peerObject = `
apiVersion: waymark.io/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec: {nodeSelector: {matchLabels: {name: n1}}, address: 192.0.2.254, asn: 64512, passwordSecretRef: {name: tor}}
---
apiVersion: waymark.io/v1alpha1
kind: BGPPeer
metadata: {name: open}
spec: {address: 192.0.2.253, asn: 64512}
`

func testPeerSecret(t *testing.T, cluster *kubetest.Cluster, f *follower) {
	bgp := config.Default().BGP
	applyText(t, cluster, peerObject)
	f.until(t, func(s *kube.Snapshot) error {
		peers, problems := s.Peers(s.Node("n1"), bgp)
		if len(peers) != 1 || len(problems) != 1 || problems[0].Message != "Secret kube-system/tor does not exist" {
			return errors.New("want one peer and one without its Secret")
		}
		return nil
	})
	for _, password := range []string{"one", "two"} {
		applyText(t, cluster, "apiVersion: v1\nkind: Secret\nmetadata: {name: tor, namespace: kube-system}\nstringData: {password: "+password+"}\n")
		f.until(t, func(s *kube.Snapshot) error {
			peers, problems := s.Peers(s.Node("n1"), bgp)
			if len(peers) != 2 || len(problems) != 0 || peers[1].Password != password {
				return errors.New("want the password " + password)
			}
			return nil
		})
	}
	if out, err := cluster.Kubectl(t, "", "delete", "bgppeer", "tor"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.until(t, func(s *kube.Snapshot) error {
		if peers, problems := s.Peers(s.Node("n1"), bgp); len(peers) != 1 || len(problems) != 0 {
			return errors.New("the peer is still there")
		}
		return nil
	})
}

// testSecretForbidden watches as somebody who may read everything else.
func testSecretForbidden(t *testing.T, cluster *kubetest.Cluster) {
	applyText(t, cluster, peerObject)
	f := follow(t, kube.WatcherParams{
		Clients:  clients(t, cluster, "system:serviceaccount:kube-system:waymark-controller", ""),
		NodeName: "n1",
	})
	f.until(t, func(s *kube.Snapshot) error {
		peers, problems := s.Peers(s.Node("n1"), config.Default().BGP)
		if len(peers) != 1 || len(problems) != 1 {
			return fmt.Errorf("peers %v, problems %v; want one of each", peers, problems)
		}
		p := problems[0]
		if p.Peer != "tor" || p.Reason != kube.ReasonSecretMissing || !strings.Contains(p.Message, "Secret kube-system/tor cannot be read") || !strings.Contains(p.Message, "forbidden") {
			return fmt.Errorf("problem %+v", p)
		}
		return nil
	})
	if out, err := cluster.Kubectl(t, "", "delete", "bgppeer", "tor"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func testConfigMap(t *testing.T, cluster *kubetest.Cluster, f *follower) {
	apply(t, cluster, "--force-conflicts", "-f", "../../manifests/waymark-encap.yaml")
	s := f.until(t, func(s *kube.Snapshot) error {
		if !strings.Contains(string(s.Document.Text), "mode: encap") {
			return errors.New("the document did not change")
		}
		return nil
	})
	if s.Document.UID == "" || s.Document.Version == "" {
		t.Errorf("document without identity: %+v", s.Document)
	}
}

func testNodeCondition(t *testing.T, admin, agent *kube.Clients) {
	now := time.Now()
	w := kube.NewNodeWriter(kube.NodeWriterParams{Clients: agent, NodeName: "n1", Now: func() time.Time { return now }})
	set := func(c kube.NetworkCondition) *corev1.Node {
		t.Helper()
		if err := w.SetNetwork(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		node, err := admin.Core.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	bad := kube.NetworkCondition{Reason: "ConfigInvalid", Message: "mode: must be one of"}
	node := set(bad)
	conditions := map[corev1.NodeConditionType]corev1.NodeCondition{}
	for _, c := range node.Status.Conditions {
		conditions[c.Type] = c
	}
	if c := conditions[kube.ConditionNetworkReady]; c.Status != corev1.ConditionFalse || c.Reason != "ConfigInvalid" || c.Message != "mode: must be one of" {
		t.Errorf("WaymarkNetworkReady: %+v", c)
	}
	if c := conditions[corev1.NodeNetworkUnavailable]; c.Status != corev1.ConditionTrue {
		t.Errorf("NetworkUnavailable: %+v", c)
	}
	if c := conditions[corev1.NodeReady]; c.Reason != "KubeletReady" {
		t.Errorf("the kubelet's condition was changed: %+v", c)
	}
	if again := set(bad); again.ResourceVersion != node.ResourceVersion {
		t.Error("the same condition was written twice")
	}
	now = now.Add(time.Hour)
	for _, c := range set(kube.NetworkCondition{Serving: true, Ready: true, Reason: "Ready"}).Status.Conditions {
		if c.Type == kube.ConditionNetworkReady && (c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Time.Equal(now.Truncate(time.Second))) {
			t.Errorf("WaymarkNetworkReady: %+v", c)
		}
	}
}

// since is what kubectl makes of a time a moment ago.
var since = regexp.MustCompile(`\b[0-9]+s\b`)

func testSessions(t *testing.T, cluster *kubetest.Cluster, f *follower, agent *kube.Clients) {
	now := time.Now()
	w := kube.NewSessionWriter(kube.SessionWriterParams{Clients: agent, Now: func() time.Time { return now }})
	report := kube.Report{
		Node:     f.watcher.Snapshot().Node("n1"),
		Sessions: []routing.SessionStatus{{Peer: "open", Address: netip.MustParseAddr("192.0.2.253"), ASN: 64512, State: routing.SessionActive, LastError: "connection refused"}},
		Problems: []kube.PeerProblem{{Peer: "tor", Reason: kube.ReasonSecretMissing, Message: "no Secret"}},
	}
	write := func(step string, want ...string) {
		t.Helper()
		if err := w.Write(t.Context(), report); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		out, err := cluster.Kubectl(t, "", "get", "bgpsessions", "--no-headers")
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		var got []string
		for line := range strings.Lines(out) {
			got = append(got, since.ReplaceAllString(strings.Join(strings.Fields(line), " "), "SINCE"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: kubectl get bgpsessions (-want +got):\n%s", step, diff)
		}
	}
	down := "n1.open n1 open 192.0.2.253 64512 Active 0 0 connection refused"
	write("create", down, "n1.tor n1 tor Invalid SINCE 0 0 no Secret")
	report.Problems = nil
	write("delete", down)

	report.Sessions[0].State, report.Sessions[0].LastError = routing.SessionEstablished, ""
	report.Sessions[0].Families = []routing.FamilyStatus{{Family: routing.IPv4, Negotiated: true, Received: 3, Accepted: 2, Advertised: 1}}
	up := "n1.open n1 open 192.0.2.253 64512 Established 3 1"
	write("update", up)

	if out, err := cluster.Kubectl(t, "", "delete", "bgpsession", "--all"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	now = now.Add(time.Hour)
	write("deleted by somebody", up)

	if out, err := cluster.Kubectl(t, "", "label", "bgpsession", "n1.open", "somebody=was-here"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	report.Sessions[0].Families[0].Received = 4
	if err := w.Write(t.Context(), report); !apierrors.IsConflict(err) {
		t.Errorf("write over another version: %v, want a conflict", err)
	}
	write("after a conflict", "n1.open n1 open 192.0.2.253 64512 Established 4 1")
}

func testPaths(t *testing.T, cluster *kubetest.Cluster, f *follower, agent *kube.Clients) {
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	now := start
	newWriter := func() *kube.PathWriter {
		return kube.NewPathWriter(kube.PathWriterParams{Clients: agent, Now: func() time.Time { return now }})
	}
	w := newWriter()
	path := func(family routing.Family, cidr string, kind routing.PathKind) kube.PathState {
		return kube.PathState{Since: now, Path: routing.Path{
			Node: "n2", Family: family, PodCIDR: netip.MustParsePrefix(cidr), Kind: kind,
			NextHops: []netip.Addr{netip.MustParseAddr("192.0.2.12")}, Reason: "because",
		}}
	}
	report := kube.PathReport{Node: f.watcher.Snapshot().Node("n1"), Mode: routing.ModeAuto, Paths: []kube.PathState{
		path(routing.IPv4, "10.10.2.0/24", routing.PathBGP), path(routing.IPv6, "fd10:0:0:2::/64", routing.PathTunnel),
	}}
	write := func(step string, args []string, want ...string) {
		t.Helper()
		if err := w.Write(t.Context(), report); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		out, err := cluster.Kubectl(t, "", append([]string{"get", "nodepaths"}, args...)...)
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		var got []string
		for line := range strings.Lines(out) {
			got = append(got, since.ReplaceAllString(strings.Join(strings.Fields(line), " "), "AGE"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: kubectl get nodepaths (-want +got):\n%s", step, diff)
		}
	}
	write("create", nil, "NAME MODE DIRECT BGP TUNNEL NONE AGE", "n1 auto 0 1 1 0 AGE")
	write("with a tunnel", []string{"--no-headers", "--field-selector=status.tunnel!=0"}, "n1 auto 0 1 1 0 AGE")
	write("with nothing", []string{"--no-headers", "--field-selector=status.none!=0"}, "No resources found")

	// Another run of the agent, which finds one path as it was.
	now = now.Add(time.Minute)
	w = newWriter()
	report.Paths = []kube.PathState{
		path(routing.IPv4, "10.10.2.0/24", routing.PathBGP), path(routing.IPv6, "fd10:0:0:2::/64", routing.PathDirect),
	}
	for i := range report.Paths {
		report.Paths[i].Found = true
	}
	write("since when", []string{"-o", `jsonpath={range .items[0].status.paths[*]}{.family} {.path} {.since}{"\n"}{end}`},
		"ipv4 bgp "+start.UTC().Format(time.RFC3339), "ipv6 direct "+now.UTC().Format(time.RFC3339))

	// More than the object takes.
	now = now.Add(time.Minute)
	report.Paths = nil
	for i := range 300 {
		p := path(routing.IPv4, "10.10.2.0/24", routing.PathTunnel)
		p.Node = fmt.Sprintf("n%d", i)
		report.Paths = append(report.Paths, p)
	}
	write("many", []string{"-o", `jsonpath={.items[0].status.tunnel} {.items[0].status.omitted}{"\n"}`}, "300 44")
}

func testOwnNodeOnly(t *testing.T, cluster *kubetest.Cluster, f *follower, agent *kube.Clients) {
	other := kube.NewSessionWriter(kube.SessionWriterParams{Clients: agent, Now: time.Now})
	err := other.Write(t.Context(), kube.Report{
		Node:     f.watcher.Snapshot().Node("n2"),
		Problems: []kube.PeerProblem{{Peer: "tor", Reason: "x", Message: "x"}},
	})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "the agent of node n1 may only report about its own node") {
		t.Errorf("BGPSession of another node: %v", err)
	}
	paths := kube.NewPathWriter(kube.PathWriterParams{Clients: agent, Now: time.Now})
	err = paths.Write(t.Context(), kube.PathReport{Node: f.watcher.Snapshot().Node("n2"), Mode: routing.ModeEncap})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "the agent of node n1 may only report about its own node") {
		t.Errorf("NodePaths of another node: %v", err)
	}
	err = kube.NewNodeWriter(kube.NodeWriterParams{Clients: agent, NodeName: "n2", Now: time.Now}).SetNetwork(t.Context(), kube.NetworkCondition{Reason: "x"})
	if !apierrors.IsForbidden(err) {
		t.Errorf("condition of another node: %v", err)
	}
	unbound := clients(t, cluster, agentUser, "")
	err = kube.NewNodeWriter(kube.NodeWriterParams{Clients: unbound, NodeName: "n1", Now: time.Now}).SetNetwork(t.Context(), kube.NetworkCondition{Reason: "x"})
	if !apierrors.IsForbidden(err) {
		t.Errorf("condition by a token that is bound to no node: %v", err)
	}
}

func testEvents(t *testing.T, admin, agent *kube.Clients, f *follower) {
	r := kube.NewRecorder(kube.RecorderParams{Clients: agent, Component: "waymark-agent", NodeName: "n1"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	seen, err := admin.Core.CoreV1().Events("default").Watch(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Node"})
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Stop()
	r.OnNode(f.watcher.Snapshot().Node("n1"), kube.Warning, "PodCIDROverlapsNode", "one\ntwo")
	select {
	case e := <-seen.ResultChan():
		event, ok := e.Object.(*corev1.Event)
		if !ok || event.Message != "one; two" || event.InvolvedObject.Name != "n1" || event.Source.Component != "waymark-agent" {
			t.Errorf("event %+v", e.Object)
		}
	case <-time.After(deadline):
		t.Fatal("no event")
	}
}

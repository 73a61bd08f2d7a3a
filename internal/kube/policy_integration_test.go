// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kube_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/kubetest"
	"github.com/waymark-net/waymark/policy/stream"
	"github.com/waymark-net/waymark/policy/stream/ca"
)

// TestPolicyStreamAdapters has controllers and an agent with the rights that
// the manifests give them.
func TestPolicyStreamAdapters(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, cluster *kubetest.Cluster) {
		if out, err := cluster.Kubectl(t, "", "apply", "--server-side", "-f", "../../manifests/waymark-noencap.yaml"); err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
		as := func(name, node string) *kube.Clients {
			config := cluster.Config
			if name != "" {
				config = cluster.As("system:serviceaccount:kube-system:"+name, node)
			}
			c, err := kube.NewClients(config)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		admin, controller, agent := as("", ""), as("waymark-controller", ""), as("waymark-agent", "n1")
		t.Run("tokens", func(t *testing.T) { testTokens(t, admin, controller) })
		t.Run("authority", func(t *testing.T) { testAuthority(t, admin, controller, agent) })
		t.Run("late API", func(t *testing.T) { testLateAPI(t, cluster, controller) })
		t.Run("finder", func(t *testing.T) { testFinder(t, admin, agent) })
	})
}

func testTokens(t *testing.T, admin, controller *kube.Clients) {
	ctx := t.Context()
	core := admin.Core.CoreV1()
	if _, err := core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token := func(account, pod, audience string) string {
		t.Helper()
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
		if pod != "" {
			p, err := core.Pods("kube-system").Create(ctx, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: pod},
				Spec: corev1.PodSpec{
					NodeName: "n1", ServiceAccountName: account, Containers: []corev1.Container{{Name: "c", Image: "i"}},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod, UID: p.UID}
		}
		answer, err := core.ServiceAccounts("kube-system").CreateToken(ctx, account, request, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status.Token
	}
	now := time.Now()
	reviewer := kube.NewTokenReviewer(kube.TokenParams{Clients: controller, Now: func() time.Time { return now }})
	good := token("waymark-agent", "agent", stream.Audience)
	node, err := reviewer.Authenticate(ctx, good)
	if node != "n1" || err != nil {
		t.Fatalf("node %q, %v", node, err)
	}
	for name, test := range map[string]struct{ token, want string }{
		"other audience": {token("waymark-agent", "agent2", "https://kubernetes.default.svc"), "not valid for audience"},
		"not bound":      {token("waymark-agent", "", stream.Audience), "not bound"},
		"other account":  {token("waymark-controller", "c", stream.Audience), "waymark-controller, must be"},
		"changed":        {good[:len(good)-4] + "AAAA", "not valid"},
		"nonsense":       {"x", "not valid"},
	} {
		if _, err := reviewer.Authenticate(ctx, test.token); !errors.Is(err, stream.ErrUnauthenticated) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
	// The Pod goes: the answer counts for a moment longer.
	if err := core.Pods("kube-system").Delete(ctx, "agent", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	if _, err := reviewer.Authenticate(ctx, good); err != nil {
		t.Errorf("not remembered: %v", err)
	}
	// The API server itself remembers for some seconds.
	timeout := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for err == nil {
		now = now.Add(time.Minute)
		_, err = reviewer.Authenticate(ctx, good)
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("the token of a Pod that is gone stays good")
		}
	}
	if !errors.Is(err, stream.ErrUnauthenticated) {
		t.Errorf("the token of a Pod that is gone: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := reviewer.Authenticate(ended, "y"); err == nil || errors.Is(err, stream.ErrUnauthenticated) {
		t.Errorf("an API server that does not answer: %v", err)
	}
}

// testAuthority has replicas that all come at once, over two years.
func testAuthority(t *testing.T, admin, controller, agent *kube.Clients) {
	ctx := t.Context()
	now := time.Now()
	sync1 := func() []*ca.Authority {
		t.Helper()
		list := make([]*ca.Authority, 4)
		var running sync.WaitGroup
		for n := range list {
			running.Go(func() {
				store := kube.NewAuthorityStore(kube.AuthorityParams{Clients: controller, Now: func() time.Time { return now }})
				var err error
				if list[n], err = store.Sync(ctx); err != nil {
					t.Errorf("replica %d: %v", n, err)
				}
			})
		}
		running.Wait()
		return list
	}
	var before *ca.Authority
	changes := 0
	for range 8 {
		for n, a := range sync1() {
			if a == nil {
				t.FailNow()
			}
			if before == nil || n == 0 && !a.Equal(before) {
				changes++
				before = a
			}
		}
		now = now.Add(100 * 24 * time.Hour)
	}
	if changes < 5 {
		t.Errorf("%d changes in 800 days", changes)
	}
	sync1()
	// What a replica returned may have been advanced by another one since.
	secret, err := admin.Core.CoreV1().Secrets(kube.AuthorityNamespace).Get(ctx, kube.AuthorityName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	last, err := ca.Decode(secret.Data)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := admin.Core.CoreV1().ConfigMaps("kube-system").Get(ctx, kube.AuthorityName, metav1.GetOptions{})
	if err != nil || bundle.Data[kube.BundleKey] != string(last.Bundle()) {
		t.Errorf("the published bundle is not that of the Secret: %v", err)
	}
	// An agent could else be a controller for all others.
	if _, err := agent.Core.CoreV1().Secrets(kube.AuthorityNamespace).Get(ctx, kube.AuthorityName, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an agent that reads the authority: %v, want that it is forbidden", err)
	}
	// A Secret that somebody broke is left alone.
	secret.Data[ca.PrivateKey] = []byte("broken")
	if _, err := admin.Core.CoreV1().Secrets(kube.AuthorityNamespace).Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	store := kube.NewAuthorityStore(kube.AuthorityParams{Clients: controller, Now: time.Now})
	if _, err := store.Sync(ctx); !errors.Is(err, ca.ErrInvalid) || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("a broken Secret: %v", err)
	}
}

func testFinder(t *testing.T, admin, agent *kube.Clients) {
	finder := kube.NewControllerFinder(agent)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- finder.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	wait := func(want ...string) {
		t.Helper()
		timeout := time.After(30 * time.Second)
		for {
			got, changed := finder.Controllers()
			var text []string
			for _, a := range got {
				text = append(text, a.String())
			}
			bundle, err := finder.Bundle()
			diff := cmp.Diff(want, text, cmpopts.EquateEmpty())
			if diff == "" && err == nil && strings.Contains(string(bundle), "BEGIN CERTIFICATE") {
				return
			}
			select {
			case <-changed:
			case <-timeout:
				t.Fatalf("bundle %v, controllers (-want +got):\n%s", err, diff)
			}
		}
	}
	wait()
	slices := admin.Core.DiscoveryV1().EndpointSlices("kube-system")
	name, number, no := "policy", int32(10463), false
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "waymark-controller"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"192.0.2.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}}, {Addresses: []string{"192.0.2.1"}},
		},
	}
	created, err := slices.Create(t.Context(), slice, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	foreign := slice.DeepCopy()
	foreign.Name, foreign.Labels[discoveryv1.LabelServiceName] = "f", "kubernetes"
	if _, err := slices.Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(netip.MustParseAddrPort("192.0.2.1:10463").String())
	created.Endpoints = created.Endpoints[:1]
	if _, err := slices.Update(t.Context(), created, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait("192.0.2.2:10463")
	if err := slices.Delete(t.Context(), "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait()
}

// testLateAPI has a controller that runs when the cluster gets the API of
// cluster network policies.
func testLateAPI(t *testing.T, cluster *kubetest.Cluster, controller *kube.Clients) {
	changed := make(chan struct{}, 1)
	watcher := kube.NewPolicyWatcher(kube.PolicyWatcherParams{Clients: controller, OnChange: func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watcher.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	// Far below the minutes after which a watch ends by itself.
	timeout := time.After(15 * time.Second)
	wait := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			select {
			case <-changed:
			case <-timeout:
				t.Fatalf("%s: not after 15 s", what)
			}
		}
	}
	wait("read without the API", watcher.Synced)
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", kubetest.ClusterPolicies(t)},
		{"wait", "--for=condition=Established", "crd/clusternetworkpolicies.policy.networking.k8s.io"},
	} {
		if out, err := cluster.Kubectl(t, "", args...); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	if out, err := cluster.Kubectl(t, `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: late}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{namespaces: {}}]}]
`, "apply", "-f", "-"); err != nil {
		t.Fatalf("apply a policy: %v\n%s", err, out)
	}
	wait("a policy of an API that came later", func() bool { return len(watcher.Take().Policies) > 0 })
}

// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/internal/controller"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/kubetest"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream"
)

// TestPolicyStream has an agent with a real token that moves between replicas.
func TestPolicyStream(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, cluster *kubetest.Cluster) {
		kubectl(t, cluster, "", "apply", "--server-side", "-f", "../../manifests/waymark-noencap.yaml")
		admin, err := kube.NewClients(cluster.Config)
		if err != nil {
			t.Fatal(err)
		}
		createNode(t, admin, "n1")
		createPolicy(t, admin, "first")
		stopOne := serve(t, cluster, "one", "127.0.0.1:10462", "127.0.0.1:10463")
		stopTwo := serve(t, cluster, "two", "127.0.0.1:10464", "127.0.0.1:10465")
		defer stopTwo()
		agents, err := kube.NewClients(cluster.As("system:serviceaccount:kube-system:waymark-agent", "n1"))
		if err != nil {
			t.Fatal(err)
		}
		token := agentToken(t, admin)
		good, enforced := follow(t, agents, "n1", token)
		eventually(t, func() error {
			if s := good.Status(); !s.Connected {
				return fmt.Errorf("not connected: %w", s.Err)
			}
			return nil
		})
		eventually(t, func() error { return enforced.has("first", "web") })
		first := good.Status().Controller
		other, _ := follow(t, agents, "n2", token)
		eventually(t, func() error {
			if err := other.Status().Err; err == nil || !strings.Contains(err.Error(), `the agent of node n1 may not subscribe to node "n2"`) {
				return fmt.Errorf("an agent that asks for another node's policy: %w", err)
			}
			return nil
		})
		if first.Port() == 10463 {
			stopOne()
		} else {
			stopTwo()
		}
		eventually(t, func() error {
			if s := good.Status(); !s.Connected || s.Controller == first {
				return fmt.Errorf("not connected to the other replica: %w", s.Err)
			}
			return nil
		})
		if err := admin.Core.NetworkingV1().NetworkPolicies("default").Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		createNetworkPolicy(t, admin, "second")
		eventually(t, func() error { return enforced.has("second", "web") })
		stopOne()
	})
}

// createPolicy makes a Pod on node n1 and a policy about it.
func createPolicy(t *testing.T, admin *kube.Clients, name string) {
	t.Helper()
	if _, err := admin.Core.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	createNetworkPolicy(t, admin, name)
}

func createNetworkPolicy(t *testing.T, admin *kube.Clients, name string) {
	t.Helper()
	if _, err := admin.Core.NetworkingV1().NetworkPolicies("default").Create(t.Context(), &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// serve runs a replica that is ready.
func serve(t *testing.T, cluster *kubetest.Cluster, id, listen, policyListen string) (stop func()) {
	t.Helper()
	clients, err := kube.NewClients(cluster.As(user, ""))
	if err != nil {
		t.Fatal(err)
	}
	c, err := controller.New(controller.Params{Clients: clients, Identity: id, Listen: listen, PolicyListen: policyListen})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	ready := func() (int, error) {
		response, err := http.Get("http://" + listen + "/readyz")
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	eventually(t, func() error {
		if code, err := ready(); code != http.StatusOK {
			return fmt.Errorf("not ready: %d, %w", code, err)
		}
		return nil
	})
	stopped := false
	return func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("replica %s: %v", id, err)
		}
	}
}

// agentToken makes the token of an agent's Pod on node n1.
func agentToken(t *testing.T, admin *kube.Clients) string {
	t.Helper()
	core := admin.Core.CoreV1()
	pod, err := core.Pods("kube-system").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec: corev1.PodSpec{
			NodeName: "n1", ServiceAccountName: "waymark-agent", Containers: []corev1.Container{{Name: "c", Image: "i"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := core.ServiceAccounts("kube-system").CreateToken(t.Context(), "waymark-agent", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences:      []string{stream.Audience},
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "agent", UID: pod.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// replicas are the endpoints of both.
type replicas struct{}

func (replicas) Controllers() ([]netip.AddrPort, <-chan struct{}) {
	return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:10463"), netip.MustParseAddrPort("127.0.0.1:10465")}, nil
}

// consumer keeps what its node is to enforce.
type consumer struct {
	mu    sync.Mutex
	state *policy.State
}

func (c *consumer) Apply(_ context.Context, u *policy.Update) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Apply(u)
	return nil
}

// has complains unless the node enforces one policy, about one of its two Pods:
// the other one is the agent's.
func (c *consumer) has(name, pod string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.state.Policies[policy.Key{Namespace: "default", Name: name}]
	web, known := c.state.Pods[policy.PodKey{Namespace: "default", Name: pod}]
	if p == nil || len(c.state.Policies) != 1 || !known || len(c.state.Pods) != 2 {
		return fmt.Errorf("has %d policies and %d Pods", len(c.state.Policies), len(c.state.Pods))
	}
	if i := c.state.Identities[web.Identity]; i == nil || !slices.Contains(i.Subjects, p.Subject) {
		return fmt.Errorf("%s is not about Pod %s", p.Key, web.Key)
	}
	return nil
}

// follow runs an agent's client until the test ends.
func follow(t *testing.T, clients *kube.Clients, node, token string) (*stream.Client, *consumer) {
	t.Helper()
	enforced := &consumer{state: policy.NewState()}
	finder := kube.NewControllerFinder(clients)
	c := stream.NewClient(stream.ClientParams{
		Node: node, Endpoints: replicas{}, Bundle: finder.Bundle, Consumer: enforced, Now: time.Now,
		Token: func() (string, error) { return token, nil },
		Disk:  stream.Disk{Path: filepath.Join(t.TempDir(), "policy"), Node: node},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- finder.Run(ctx) }()
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	return c, enforced
}

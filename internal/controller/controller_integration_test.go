// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/internal/controller"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/kubetest"
)

const (
	user     = "system:serviceaccount:kube-system:waymark-controller"
	deadline = 60 * time.Second
)

// TestController runs two replicas with the rights that the manifests give them.
func TestController(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, cluster *kubetest.Cluster) {
		kubectl(t, cluster, "", "apply", "--server-side", "-f", "../../manifests/waymark-noencap.yaml")
		admin, err := kube.NewClients(cluster.Config)
		if err != nil {
			t.Fatal(err)
		}
		createNode(t, admin, "n1")
		createNode(t, admin, "n2")
		stops := map[string]func(){}
		for _, id := range []string{"a", "b"} {
			stops[id] = run(t, cluster, id)
		}
		t.Run("configuration", func(t *testing.T) { testConfiguration(t, cluster) })
		t.Run("rollouts", func(t *testing.T) { testRollouts(t, cluster, admin) })
		t.Run("peer status", func(t *testing.T) { testPeerStatus(t, cluster) })
		t.Run("node gone", func(t *testing.T) { testNodeGone(t, cluster) })
		t.Run("leader gone", func(t *testing.T) {
			leader := holder(t, cluster)
			stops[leader]()
			eventually(t, func() error {
				if now := holder(t, cluster); now == leader || now == "" {
					return fmt.Errorf("%q still leads", now)
				}
				return nil
			})
			kubectl(t, cluster, session("n9", "Active"), "apply", "-f", "-")
			testNodeGone(t, cluster)
		})
	})
}

// port is where a replica listens.
var port = map[string]string{"a": "127.0.0.1:10462", "b": "127.0.0.1:10463"}

func run(t *testing.T, cluster *kubetest.Cluster, id string) (stop func()) {
	t.Helper()
	clients, err := kube.NewClients(cluster.As(user, ""))
	if err != nil {
		t.Fatal(err)
	}
	c, err := controller.New(controller.Params{Clients: clients, Identity: id, Listen: port[id]})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("replica %s: %v", id, err)
		}
	}
	t.Cleanup(stop)
	eventually(t, func() error {
		text, err := get("http://" + port[id] + "/readyz")
		if err == nil && text != "ok\n" {
			err = fmt.Errorf("not ready: %s", text)
		}
		return err
	})
	return stop
}

func get(url string) (string, error) {
	response, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func kubectl(t *testing.T, cluster *kubetest.Cluster, stdin string, args ...string) string {
	t.Helper()
	out, err := cluster.Kubectl(t, stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return out
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	timeout := time.After(deadline)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-timeout:
			t.Fatalf("after %s: %v", deadline, err)
		case <-tick.C:
		}
	}
}

func createNode(t *testing.T, admin *kube.Clients, name string) {
	t.Helper()
	node, err := admin.Core.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDR: "fd10:0:0:" + name[1:] + "::/64", PodCIDRs: []string{"fd10:0:0:" + name[1:] + "::/64"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := admin.Core.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// holder is the replica that leads.
func holder(t *testing.T, cluster *kubetest.Cluster) string {
	t.Helper()
	return kubectl(t, cluster, "", "-n", "kube-system", "get", "lease", "waymark-controller", "-o", "jsonpath={.spec.holderIdentity}")
}

// says waits until the output of kubectl contains the text.
func says(t *testing.T, cluster *kubetest.Cluster, text string, args ...string) {
	t.Helper()
	eventually(t, func() error {
		if out := kubectl(t, cluster, "", args...); !strings.Contains(out, text) {
			return fmt.Errorf("kubectl %v does not say %q:\n%s", args, text, out)
		}
		return nil
	})
}

func testConfiguration(t *testing.T, cluster *kubetest.Cluster) {
	const set = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: waymark-config, namespace: kube-system}\n" +
		"data: {waymark.yaml: \"apiVersion: config.waymark.io/v1alpha1\\nkind: WaymarkConfiguration\\nmtu: %d\\n\"}\n"
	valid := func(want string) {
		t.Helper()
		for _, address := range port {
			eventually(t, func() error {
				text, err := get("http://" + address + "/metrics")
				if err == nil && !strings.Contains(text, "waymark_config_valid "+want+"\n") {
					err = fmt.Errorf("%s: waymark_config_valid is not %s", address, want)
				}
				return err
			})
		}
	}
	valid("1")
	events := []string{"-n", "kube-system", "get", "events", "--field-selector=involvedObject.name=waymark-config"}
	kubectl(t, cluster, fmt.Sprintf(set, 1279), "apply", "--server-side", "--force-conflicts", "-f", "-")
	valid("0")
	says(t, cluster, "the last good configuration stays in force; line 3: mtu: 1279: must be a number of bytes 1280..65535", events...)
	kubectl(t, cluster, fmt.Sprintf(set, 1280), "apply", "--server-side", "--force-conflicts", "-f", "-")
	valid("1")
	says(t, cluster, "ConfigurationAccepted", events...)
}

func session(node, state string) string {
	return fmt.Sprintf("---\napiVersion: waymark.io/v1alpha1\nkind: BGPSession\nmetadata: {name: %s.tor}\n"+
		"status: {node: %s, peer: tor, state: %s, received: 0, accepted: 0, advertised: 0}\n", node, node, state)
}

func testPeerStatus(t *testing.T, cluster *kubetest.Cluster) {
	peer := "apiVersion: waymark.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {address: 192.0.2.254, asn: 64512}\n"
	kubectl(t, cluster, peer+session("n1", "Established"), "apply", "-f", "-")
	get := []string{"get", "bgppeer", "tor", "-o", "wide"}
	says(t, cluster, "1/2 nodes established; n2: nothing reported yet", get...)
	kubectl(t, cluster, session("n2", "Established"), "apply", "-f", "-")
	kubectl(t, cluster, "", "wait", "--for=condition=Ready", "bgppeer/tor", "--timeout=60s")
	says(t, cluster, "2/2 nodes established", get...)
}

func testNodeGone(t *testing.T, cluster *kubetest.Cluster) {
	kubectl(t, cluster, session("n8", "Established"), "apply", "-f", "-")
	eventually(t, func() error {
		names := kubectl(t, cluster, "", "get", "bgpsessions", "-o", "name")
		if strings.Contains(names, "n8") || strings.Contains(names, "n9") || !strings.Contains(names, "n1.tor") {
			return fmt.Errorf("sessions %q", names)
		}
		return nil
	})
}

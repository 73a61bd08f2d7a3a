// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/kubetest"
	"github.com/waymark-net/waymark/internal/rollout"
)

// rollouts leads the nodes n1 and n2, whose agents the test plays.
type rollouts struct {
	cluster *kubetest.Cluster
	admin   *kube.Clients
}

func (r rollouts) configure(t *testing.T, mode string) {
	t.Helper()
	const set = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: waymark-config, namespace: kube-system}\n" +
		"data: {waymark.yaml: \"apiVersion: config.waymark.io/v1alpha1\\nkind: WaymarkConfiguration\\nmode: %s\\n\"}\n"
	kubectl(t, r.cluster, fmt.Sprintf(set, mode), "apply", "--server-side", "--force-conflicts", "-f", "-")
}

// current is the rollout in force.
func (r rollouts) current(t *testing.T) v1alpha1.NetworkRollout {
	t.Helper()
	list, err := r.admin.Rollouts.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return slices.MaxFunc(append(list.Items, v1alpha1.NetworkRollout{}), func(a, b v1alpha1.NetworkRollout) int {
		return int(a.Spec.Number - b.Spec.Number)
	})
}

// is waits until the rollout in force leads to a mode and is in a phase.
func (r rollouts) is(t *testing.T, to string, phase rollout.Phase, message string) v1alpha1.NetworkRollout {
	t.Helper()
	var now v1alpha1.NetworkRollout
	eventually(t, func() error {
		now = r.current(t)
		if now.Spec.To.Mode != to || now.Status.Phase != v1alpha1.RolloutPhase(phase) || !strings.HasPrefix(now.Status.Message, message) {
			return fmt.Errorf("%s leads to %s, %+v, want %s, %s, %q", now.Name, now.Spec.To.Mode, now.Status, to, phase, message)
		}
		return nil
	})
	return now
}

// ack has nodes say that they have carried a phase of the rollout in force out.
func (r rollouts) ack(t *testing.T, said kube.NodeRollout, nodes ...string) {
	t.Helper()
	said.Name = r.current(t).Name
	for _, node := range nodes {
		w := kube.NewNodeWriter(kube.NodeWriterParams{Clients: r.admin, NodeName: node, Now: time.Now})
		if err := w.SetRollout(t.Context(), said); err != nil {
			t.Fatal(err)
		}
	}
}

func testRollouts(t *testing.T, cluster *kubetest.Cluster, admin *kube.Clients) {
	r := rollouts{cluster, admin}
	prepared, flipped := kube.NodeRollout{Phase: rollout.Prepare}, kube.NodeRollout{Phase: rollout.Flip}
	finished := kube.NodeRollout{Phase: rollout.Finish}

	r.configure(t, "encap")
	first := r.is(t, "encap", rollout.Prepare, "waiting for n1, n2")
	r.ack(t, kube.NodeRollout{Problem: "switch: it is away"}, "n1")
	r.is(t, "encap", rollout.Prepare, "n1: switch: it is away; waiting for n2")
	r.ack(t, prepared, "n1")
	now := r.is(t, "encap", rollout.Prepare, "waiting for n2")
	if now.Status.Ready != "1/2" || len(now.Status.Nodes) != 2 || now.Status.Nodes[0].Phase != v1alpha1.RolloutPrepare {
		t.Errorf("status %+v", now.Status)
	}
	r.ack(t, prepared, "n2")
	r.is(t, "encap", rollout.Flip, "")

	// Turned round while nodes move.
	r.configure(t, "noEncap")
	now = r.is(t, "noEncap", rollout.Flip, "waiting for n1, n2")
	if !now.Spec.Reverses || now.Spec.From.Mode != "encap" {
		t.Errorf("the rollout back is %+v", now.Spec)
	}
	says(t, cluster, string(v1alpha1.RolloutSuperseded), "get", "networkrollout", first.Name)
	r.ack(t, flipped, "n1", "n2")
	r.is(t, "noEncap", rollout.Finish, "")
	r.ack(t, finished, "n1", "n2")
	now = r.is(t, "noEncap", rollout.Complete, "traffic travels by noEncap")
	if now.Status.Ready != "2/2" {
		t.Errorf("%s nodes are ready", now.Status.Ready)
	}

	// A node would lose another, and a person insists.
	r.configure(t, "hybrid")
	now = r.is(t, "hybrid", rollout.Prepare, "waiting for n1, n2")
	r.ack(t, kube.NodeRollout{Phase: rollout.Prepare, Problem: "no usable route to n2", Loses: true}, "n1")
	r.ack(t, prepared, "n2")
	r.is(t, "hybrid", rollout.Prepare, "n1: no usable route to n2; spec.force goes on all the same")
	out, err := cluster.Kubectl(t, "", "patch", "networkrollout", now.Name, "--type=merge", "-p", `{"spec":{"to":{"mode":"encap"}}}`)
	if err == nil || !strings.Contains(out, "only force can be changed") {
		t.Errorf("the rollout can be led elsewhere: %v %s", err, out)
	}
	out, err = cluster.Kubectl(t, "", "delete", "networkrollout", now.Name)
	if err == nil || !strings.Contains(out, "only waymark-controller deletes NetworkRollouts") {
		t.Errorf("the rollout can be deleted: %v %s", err, out)
	}
	kubectl(t, cluster, "", "patch", "networkrollout", now.Name, "--type=merge", "-p", `{"spec":{"force":true}}`)
	r.is(t, "hybrid", rollout.Flip, "")
	r.configure(t, "encap")
	r.is(t, "hybrid", rollout.Flip, "waiting for n1, n2; a change to encap (geneve) follows")
	r.ack(t, flipped, "n1", "n2")
	r.is(t, "encap", rollout.Prepare, "waiting for n1, n2")
	r.configure(t, "noEncap")
	r.is(t, "noEncap", rollout.Prepare, "")
}

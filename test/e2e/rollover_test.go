// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	rolloverPort     = 5400
	rolloverNodePort = 31040
	rolloverPods     = 3
	// rolloverRate is how many connections a second are made in each family, half
	// of them to the ClusterIP.
	rolloverRate = 200
)

// rolloverObjects are a Deployment and a Service as sensible users write them: a
// new Pod is ready before an old one is told to end, and an old one serves on
// for six seconds while the word spreads that it ends.
const rolloverObjects = `apiVersion: apps/v1
kind: Deployment
metadata: {name: rollover, namespace: %[1]s}
spec:
  replicas: %[2]d
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 100%%}}
  selector: {matchLabels: {app: rollover}}
  template:
    metadata: {labels: {app: rollover}}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: probe
        image: %[3]s
        imagePullPolicy: IfNotPresent
        args: [serve]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 6}}}
---
apiVersion: v1
kind: Service
metadata: {name: rollover, namespace: %[1]s}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: rollover}
  ports: [{port: %[4]d, targetPort: %[5]d, nodePort: %[6]d}]
`

// checkRollover replaces all Pods behind a Service, several times, while new
// connections are made to it from a Pod and from outside.
//
// Not one may fail, be it refused, reset or without an answer for ten seconds:
// at every moment there are as many ready Pods as are wanted, and each Pod
// serves for six seconds after its slice says that it ends. Who follows slices in
// less than that never sends a connection to a Pod that cannot answer it: a
// connection itself lasts milliseconds, or a second or two where a machine has
// too little CPU for Pods and packets.
func checkRollover(t *testing.T, lab *cluster.Lab, rounds int) {
	s := newServices(t, lab)
	objects := fmt.Sprintf(rolloverObjects, workload.Namespace, rolloverPods, image.Probe, rolloverPort, greetPort, rolloverNodePort)
	if err := lab.ApplyObjects(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := lab.Kubectl(context.WithoutCancel(t.Context()), "-n", workload.Namespace, "delete", "deployment/rollover", "service/rollover", "--cascade=foreground")
		if err != nil {
			t.Error(err)
		}
	})
	rolled := func() {
		kubectl(t, lab, "-n", workload.Namespace, "rollout", "status", "deployment/rollover", "--timeout=90s")
	}
	rolled()
	object, err := s.client.CoreV1().Services(workload.Namespace).Get(t.Context(), "rollover", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	clients := steadyClients(t, s, &made{s, object}, "n1", rolloverPort, rolloverNodePort)
	tr := startConnects(t, clients, rolloverRate*len(object.Spec.IPFamilies), "-timeout", answerTime)
	begun := time.Now()
	for range rounds {
		kubectl(t, lab, "-n", workload.Namespace, "rollout", "restart", "deployment/rollover")
		rolled()
	}
	// The last old Pods end under load as well.
	eventually(t, time.Minute, func(ctx context.Context) error { return rolloverEnded(ctx, s) })
	t.Logf("%d rounds took %s", rounds, time.Since(begun).Round(time.Second))
	all := tr.endConnects(t)
	recordAnswered(t, all)
	for from, reports := range all {
		for _, r := range reports {
			least := rolloverPods * (rounds + 1)
			record(t, report.Check("all Pods answered: "+connectionsOf(from, r), len(r.Servers) >= least,
				fmt.Sprintf("%d, want %d", len(r.Servers), least)))
		}
	}
}

// rolloverEnded complains while there are Pods that end.
func rolloverEnded(ctx context.Context, s *services) error {
	list, err := s.client.CoreV1().Pods(workload.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=rollover"})
	if err != nil {
		return err
	}
	if n := len(list.Items); n != rolloverPods {
		return fmt.Errorf("%d Pods, want %d", n, rolloverPods)
	}
	for _, p := range list.Items {
		if p.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("Pod %s is %s", p.Name, p.Status.Phase)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/image"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// moved bounds how long an agent may take to find another controller.
const moved = 20 * time.Second

// checkControllers has agents move between controllers, and be without any.
func checkControllers(t *testing.T, lab *cluster.Lab) {
	applyPolicies(t, lab, friends(0))
	check(t, "agents move", func(t *testing.T) { checkMoves(t, lab) })
	for _, c := range []struct {
		setting string
		starts  bool // a Pod like others on its node
	}{{"LastKnown", true}, {"Wait", false}} {
		check(t, "no controller, "+c.setting, func(t *testing.T) {
			switchMode(t, lab, variant{"noEncap", "noEncap", map[string]string{"networkPolicy.withoutController": c.setting}})
			checkWithoutControllers(t, lab, c.starts)
		})
	}
	switchMode(t, lab, variant{"noEncap", "noEncap", nil})
}

// checkMoves kills one controller after the other. What agents had they are not
// sent again.
func checkMoves(t *testing.T, lab *cluster.Lab) {
	eventually(t, moved, func(ctx context.Context) error { return connected(ctx, lab, 1) })
	for _, node := range controllerNodes(t, lab) {
		before := controllerMetrics(t, lab)
		served := before[node].sum("waymark_policy_stream_subscribers", "")
		exec(t, lab, node, "pkill", "-KILL", "-x", "waymark-control") // as much of the name as the kernel keeps
		eventually(t, moved, func(ctx context.Context) error {
			m, err := controller.metrics(ctx, lab, node)
			if err == nil && m.started() <= before[node].started() {
				err = fmt.Errorf("the controller on %s is still the old one", node)
			}
			if err != nil {
				return err
			}
			_, err = controller.get(ctx, lab, node, "/readyz")
			return err
		})
		eventually(t, moved, func(ctx context.Context) error { return connected(ctx, lab, 1) })
		for n, after := range controllerMetrics(t, lab) {
			had := before[n]
			if n == node {
				had = nil // it is another process
			}
			since := func(name string) float64 {
				return after.sum("waymark_policy_stream_"+name, "") - had.sum("waymark_policy_stream_"+name, "")
			}
			name := fmt.Sprintf("killed on %s: controller on %s", node, n)
			record(t,
				report.Check(name+" resends nothing", since("resyncs_total") == 0, fmt.Sprintf("%g of everything", since("resyncs_total"))),
				// Where each agent is and what changed: no policy, no Pod.
				report.Check(name+" sends little", since("bytes_total") < 1000, fmt.Sprintf("%g bytes; the one that ended had %g agents", since("bytes_total"), served)))
		}
	}
}

// checkWithoutControllers stops all controllers. What is enforced stays; Pods
// that are like others start under the policies of those, if that is
// configured; other Pods wait until there is a controller.
func checkWithoutControllers(t *testing.T, lab *cluster.Lab, starts bool) {
	const node = "n3"
	a, b := podsBySet(t, lab, "a"), podsBySet(t, lab, "b")
	accepted, forbidden := newTraffic(t), newTraffic(t)
	accepted.addPing(t, lab, b["n1"], a["n2"])
	accepted.addStreams(t, lab, b["n1"], a["n2"])
	accepted.await(t)
	forbidden.addPing(t, lab, a["n1"], a["n2"])

	scaleControllers(t, lab, 0)
	t.Cleanup(func() {
		_, _ = lab.Kubectl(context.WithoutCancel(t.Context()), "-n", "kube-system", "scale", "deployment/waymark-controller", "--replicas=2")
		_, _ = lab.Kubectl(context.WithoutCancel(t.Context()), "-n", workload.Namespace, "delete", "pod", "stranger", "--ignore-not-found", "--wait=false")
	})
	eventually(t, moved, func(ctx context.Context) error { return connected(ctx, lab, 0) })

	kubectl(t, lab, "-n", workload.Namespace, "delete", "pod", a[node].Name)
	if err := kubectlApply(t.Context(), lab, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: %s, labels: {app: stranger}}
spec:
  nodeSelector: {kubernetes.io/hostname: %s}
  terminationGracePeriodSeconds: 0
  containers: [{name: probe, image: %s, imagePullPolicy: IfNotPresent, args: [serve]}]
`, workload.Namespace, node, image.Probe)); err != nil {
		t.Fatal(err)
	}
	if starts {
		again := newPod(t, lab, node, a[node].Name)
		reached(t, lab, b["n1"], again)
		isDenied(t, lab, "no controller", a["n1"], again)
	} else {
		eventually(t, refused, func(ctx context.Context) error { return waits(ctx, lab, "app=probe-a", node) })
	}
	eventually(t, refused, func(ctx context.Context) error { return waits(ctx, lab, "app=stranger", node) })
	accepted.end(t, 0)
	forbidden.endDenied(t)

	scaleControllers(t, lab, 2)
	eventually(t, moved, func(ctx context.Context) error { return connected(ctx, lab, 1) })
	kubectl(t, lab, "-n", workload.Namespace, "wait", "--for=condition=Ready", "pod/stranger", "--timeout=120s")
	kubectl(t, lab, "-n", workload.Namespace, "rollout", "status", "daemonset/probe-a", "--timeout=120s")
	again := newPod(t, lab, node, a[node].Name)
	reached(t, lab, b["n1"], again)
	isDenied(t, lab, "controllers again", a["n1"], again)
	strangers, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=stranger")
	if err != nil || len(strangers) != 1 {
		t.Fatalf("%d strangers, %v", len(strangers), err)
	}
	isDenied(t, lab, "controllers again", a["n1"], strangers[0])
	kubectl(t, lab, "-n", workload.Namespace, "delete", "pod", "stranger")
}

// refused bounds how long it may take until the start of a Pod has failed for
// want of a controller: networkPolicy.podTimeout, which is 20 s, and what the
// kubelet takes before and after.
const refused = time.Minute

// connected complains about agents that are not connected with a controller, or
// are.
func connected(ctx context.Context, lab *cluster.Lab, want float64) error {
	for _, node := range nodeNames(lab) {
		m, err := agent.metrics(ctx, lab, node)
		if err != nil {
			return err
		}
		if got := m.sum("waymark_policy_controller_connected", ""); got != want {
			return fmt.Errorf("agent of %s: connected is %g, want %g", node, got, want)
		}
	}
	return nil
}

// controllerNodes are the nodes with a controller.
func controllerNodes(t *testing.T, lab *cluster.Lab) []string {
	t.Helper()
	return strings.Fields(kubectl(t, lab, "-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=waymark-controller",
		"-o", "jsonpath={.items[*].spec.nodeName}"))
}

// controllerMetrics are those of every controller, by node.
func controllerMetrics(t *testing.T, lab *cluster.Lab) map[string]metrics {
	t.Helper()
	all := map[string]metrics{}
	for _, node := range controllerNodes(t, lab) {
		m, err := controller.metrics(t.Context(), lab, node)
		if err != nil {
			t.Fatal(err)
		}
		all[node] = m
	}
	if len(all) < 2 {
		t.Fatalf("controllers run on %s, want two nodes", slices.Collect(maps.Keys(all)))
	}
	return all
}

func scaleControllers(t *testing.T, lab *cluster.Lab, replicas int) {
	t.Helper()
	kubectl(t, lab, "-n", "kube-system", "scale", "deployment/waymark-controller", fmt.Sprintf("--replicas=%d", replicas))
	if replicas == 0 {
		kubectl(t, lab, "-n", "kube-system", "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=waymark-controller", "--timeout=60s")
		return
	}
	kubectl(t, lab, "-n", "kube-system", "rollout", "status", "deployment/waymark-controller", "--timeout=90s")
}

// newPod returns the Pod of the set a on a node that took the place of another.
func newPod(t *testing.T, lab *cluster.Lab, node, old string) workload.Pod {
	t.Helper()
	var pod workload.Pod
	eventually(t, time.Minute, func(context.Context) error {
		if pod = podsBySet(t, lab, "a")[node]; pod.Name == old || len(pod.Addresses) == 0 {
			return fmt.Errorf("no Pod of %s has taken the place of %s", node, old)
		}
		return nil
	})
	return pod
}

// isDenied has a Pod not reach another one in any family.
func isDenied(t *testing.T, lab *cluster.Lab, when string, from, to workload.Pod) {
	t.Helper()
	for _, a := range to.Addresses {
		results, err := endpointOf(lab, from).Ask(t.Context(), probe.Target{Name: to.Name, Protocol: probe.TCP, Address: a, Port: echoPort, Millis: denyMillis})
		if err != nil {
			t.Fatal(err)
		}
		record(t, report.Check(fmt.Sprintf("%s: %s does not reach %s at %s", when, from.Name, to.Name, a), !results[0].OK, ""))
	}
}

// waits complains unless a Pod on a node waits for its policies and its Events
// say that there is no controller.
func waits(ctx context.Context, lab *cluster.Lab, selector, node string) error {
	out, err := lab.Kubectl(ctx, "-n", workload.Namespace, "get", "pods", "-l", selector, "--field-selector", "spec.nodeName="+node,
		"-o", "jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.podIP}{end}")
	if err != nil {
		return err
	}
	words := strings.Fields(out)
	if len(words) != 2 || words[1] != "Pending" {
		return fmt.Errorf("Pods of %s on %s are %q, want one that is Pending and has no address", selector, node, out)
	}
	events, err := lab.Kubectl(ctx, "-n", workload.Namespace, "get", "events", "--field-selector", "involvedObject.name="+words[0],
		"-o", "jsonpath={.items[*].message}")
	if err == nil && !strings.Contains(events, "no controller is connected") {
		err = fmt.Errorf("the Events of Pod %s do not say that there is no controller: %s", words[0], events)
	}
	return err
}

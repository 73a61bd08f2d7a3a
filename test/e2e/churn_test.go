// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/image"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// churnPods are created at once.
const churnPods = 50

// churnLabel selects the Pods of the churn.
const churnLabel = "app=churn"

// checkChurn creates and deletes Pods, 50 at a time. Every agent is killed once
// while Pods are created and once while they are deleted. Every Pod is reached
// from another node, and in the end nothing is left on any node.
func checkChurn(t *testing.T, lab *cluster.Lab, rounds int) {
	config, err := lab.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	pods := clients.CoreV1().Pods(workload.Namespace)
	awaitResumed(t, lab)
	before := belongings(t, lab)
	started := time.Now()
	for round := range rounds {
		createPods(t, lab, pods, round)
		if round == rounds/3 {
			killAgents(t, lab)
		}
		checkPods(t, lab, round)
		deletePods(t, pods)
		if round == rounds*2/3 {
			killAgents(t, lab)
		}
		awaitNoPods(t, pods)
		t.Logf("round %d done after %s", round, time.Since(started).Round(time.Second))
	}
	total := rounds * churnPods
	seconds := time.Since(started).Seconds()
	record(t, report.Measure(fmt.Sprintf("%d Pods created, reached and deleted", total), seconds, "s"))
	for _, node := range nodeNames(lab) {
		err := cluster.Until(t.Context(), 90*time.Second, func(ctx context.Context) error {
			now, err := belongingsOf(ctx, lab, node)
			if err != nil {
				return err
			}
			if diff := cmp.Diff(before[node], now); diff != "" {
				return errors.New("left (-before +now):\n" + diff)
			}
			return nil
		})
		note := ""
		if err != nil {
			note = err.Error()
		}
		record(t, report.Check("nothing is left on "+node, err == nil, note))
	}
}

func killAgents(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	for _, node := range nodeNames(lab) {
		killAgent(t, lab, node)
	}
}

// createPods creates the Pods of a round, spread over the nodes.
func createPods(t *testing.T, lab *cluster.Lab, pods corev1client.PodInterface, round int) {
	t.Helper()
	nodes := nodeNames(lab)
	grace, no := int64(1), false
	for i := range churnPods {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("churn-%d-%d", round, i), Labels: map[string]string{"app": "churn"}},
			Spec: corev1.PodSpec{
				NodeName:                      nodes[i%len(nodes)],
				TerminationGracePeriodSeconds: &grace,
				AutomountServiceAccountToken:  &no,
				EnableServiceLinks:            &no,
				Containers: []corev1.Container{{
					Name: "probe", Image: image.Probe, ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{"serve"},
				}},
			},
		}
		if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// checkPods waits until all Pods of a round run and each was reached from
// another node in all families.
func checkPods(t *testing.T, lab *cluster.Lab, round int) {
	t.Helper()
	var pods []workload.Pod
	eventually(t, 3*time.Minute, func(ctx context.Context) error {
		var err error
		if pods, err = workload.Pods(ctx, lab, workload.Namespace, churnLabel); err != nil {
			return err
		}
		if len(pods) != churnPods {
			return fmt.Errorf("round %d: %d of %d Pods have addresses", round, len(pods), churnPods)
		}
		return nil
	})
	ends := endpoints(t, lab)
	nodes := nodeNames(lab)
	targets := map[string][]probe.Target{} // by the node of the Pod
	for _, pod := range pods {
		for _, a := range pod.Addresses {
			targets[pod.Node] = append(targets[pod.Node], probe.Target{
				Name: pod.Name + " " + a.String(), Protocol: probe.TCP, Address: a, Port: echoPort, Millis: 1000,
			})
		}
	}
	for i, node := range nodes {
		from := ends["a@"+nodes[(i+1)%len(nodes)]]
		eventually(t, time.Minute, func(ctx context.Context) error {
			results, err := from.Ask(ctx, targets[node]...)
			if err != nil {
				return err
			}
			for _, r := range results {
				if !r.OK {
					return fmt.Errorf("round %d: %s on %s from %s: %s", round, r.Name, node, from.Name, r.Error)
				}
			}
			return nil
		})
	}
}

func deletePods(t *testing.T, pods corev1client.PodInterface) {
	t.Helper()
	err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: churnLabel})
	if err != nil {
		t.Fatal(err)
	}
}

func awaitNoPods(t *testing.T, pods corev1client.PodInterface) {
	t.Helper()
	eventually(t, 3*time.Minute, func(ctx context.Context) error {
		list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: churnLabel})
		if err != nil {
			return err
		}
		if n := len(list.Items); n > 0 {
			return fmt.Errorf("%d Pods are still there, such as %s", n, list.Items[0].Name)
		}
		return nil
	})
}

// inventory is what a node has for its Pods, by kind.
type inventory map[string][]string

// kinds of belongings, with the commands that list them, a line each.
var kinds = map[string]string{
	"ports":       "ovs-vsctl --db=unix:/run/openvswitch/db.sock --timeout=10 list-ports br-int",
	"veths":       "ip -o link show type veth | awk '{print $2}'",
	"addresses":   "find /var/lib/waymark/ipam -type f ! -name 'last_reserved_ip*' ! -name lock",
	"attachments": "find /run/waymark/attachments -type f",
	"namespaces":  "ls /run/netns",
	"flows":       "ovs-ofctl -O OpenFlow15 --no-stats dump-flows unix:/run/openvswitch/br-int.mgmt",
	"groups":      "ovs-ofctl -O OpenFlow15 dump-groups unix:/run/openvswitch/br-int.mgmt | grep -v OFPST || true",
	"neighbours":  "ip neigh show nud permanent; ip neigh show proxy",
}

// awaitResumed waits until no switch has the flows any more by which connections
// go on after its restart: they are there for a minute, and belong to no Pod.
func awaitResumed(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	const midStream = "tp_src=0x0/0x8000"
	eventually(t, 90*time.Second, func(ctx context.Context) error {
		for _, node := range nodeNames(lab) {
			flows, err := lab.Exec(ctx, node, "sh", "-c", kinds["flows"])
			if err != nil {
				return err
			}
			if strings.Contains(flows, midStream) {
				return fmt.Errorf("%s still takes up connections from before the restart of its switch", node)
			}
		}
		return nil
	})
}

func belongings(t *testing.T, lab *cluster.Lab) map[string]inventory {
	t.Helper()
	all := map[string]inventory{}
	for _, node := range nodeNames(lab) {
		have, err := belongingsOf(t.Context(), lab, node)
		if err != nil {
			t.Fatal(err)
		}
		for kind := range kinds {
			if len(have[kind]) == 0 && kind != "groups" && kind != "neighbours" {
				t.Fatalf("%s has no %s: the listing is wrong", node, kind)
			}
		}
		all[node] = have
	}
	return all
}

func belongingsOf(ctx context.Context, lab *cluster.Lab, node string) (inventory, error) {
	have := inventory{}
	for kind, script := range kinds {
		out, err := lab.Exec(ctx, node, "sh", "-c", script)
		if err != nil {
			return nil, err
		}
		have[kind] = strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
		slices.Sort(have[kind])
	}
	return have, nil
}

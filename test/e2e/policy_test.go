// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/matrix"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/probe/ping"
	"github.com/waymark-net/waymark/test/lab/probe/stream"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// enforced bounds how long a policy may take to be in force everywhere. It
// takes a fraction of a second.
const enforced = 10 * time.Second

// denyMillis is how long a packet may be on its way that must not arrive.
const denyMillis = 1000

// policyCase is a set of policies and who reaches whom under it.
type policyCase struct {
	name    string
	objects string
	// reaches says whether an exchange works; the rest of the matrix must not.
	reaches func(e matrix.Exchange) bool
}

func policyObject(name, spec string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: %s}\nspec: %s\n---\n",
		name, workload.Namespace, spec)
}

// set is the DaemonSet that an endpoint of the matrix belongs to: a, b, or none.
func set(e matrix.Endpoint) string {
	name, _, isPod := strings.Cut(e.Name, "@")
	if !isPod {
		return ""
	}
	return name
}

// ownNode says that a node speaks to one of its own Pods.
func ownNode(e matrix.Exchange) bool {
	return e.From.Kind == matrix.Node && e.From.Node == e.To.Node
}

var policyCases = []policyCase{
	{
		name:    "default deny of ingress",
		objects: policyObject("deny", `{podSelector: {}, policyTypes: [Ingress]}`),
		reaches: func(e matrix.Exchange) bool { return e.To.Kind != matrix.Pod || ownNode(e) },
	},
	{
		name:    "default deny of egress",
		objects: policyObject("deny", `{podSelector: {}, policyTypes: [Egress]}`),
		reaches: func(e matrix.Exchange) bool { return e.From.Kind != matrix.Pod },
	},
	{
		name: "one label, one protocol",
		objects: policyObject("deny", `{podSelector: {}, policyTypes: [Ingress]}`) +
			policyObject("allow", `{podSelector: {matchLabels: {app: probe-a}}, ingress: [{from: [{podSelector: {matchLabels: {app: probe-b}}}], ports: [{protocol: TCP, port: 7000}]}]}`),
		reaches: func(e matrix.Exchange) bool {
			return e.To.Kind != matrix.Pod || ownNode(e) || set(e.To) == "a" && set(e.From) == "b" && e.Protocol == probe.TCP
		},
	},
	{
		name: "egress to a block of each family",
		objects: policyObject("blocks", `{podSelector: {matchLabels: {app: probe-a}}, policyTypes: [Egress],
			egress: [{to: [{ipBlock: {cidr: 172.30.0.0/16, except: [172.30.1.0/24]}}, {ipBlock: {cidr: "fd30::/16", except: ["fd30:0:0:1::/64"]}}], ports: [{protocol: UDP, port: 6999, endPort: 7001}]}]}`),
		reaches: func(e matrix.Exchange) bool {
			inside := netip.MustParsePrefix("172.30.1.0/24").Contains(e.Target) || netip.MustParsePrefix("fd30:0:0:1::/64").Contains(e.Target)
			return set(e.From) != "a" || e.Protocol == probe.UDP && e.To.Kind != matrix.Pod && !inside
		},
	},
}

// checkPolicies applies policies and asks everybody about everything.
func checkPolicies(t *testing.T, lab *cluster.Lab) {
	ends, err := workload.Endpoints(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range policyCases {
		check(t, c.name, func(t *testing.T) {
			applyPolicies(t, lab, c.objects)
			eventually(t, enforced, func(ctx context.Context) error {
				result := matrix.Run(ctx, matrix.Params{Endpoints: ends, Millis: denyMillis})
				var wrong []string
				for _, e := range result.Exchanges {
					if want := c.reaches(e); want != e.Result.OK {
						wrong = append(wrong, fmt.Sprintf("%s from %s to %s (%s): works %t, want %t %s",
							e.Protocol, e.From.Name, e.To.Name, e.Target, e.Result.OK, want, e.Result.Error))
					}
				}
				if len(wrong) == 0 {
					return nil
				}
				return fmt.Errorf("%d of %d exchanges are wrong, such as %s", len(wrong), len(result.Exchanges), strings.Join(wrong[:min(5, len(wrong))], "; "))
			})
		})
	}
	checkQuickMatrix(t, lab, enforced) // without policies
}

// applyPolicies has policies in the cluster until the test ends.
func applyPolicies(t *testing.T, lab *cluster.Lab, objects string) {
	t.Helper()
	if err := kubectlApply(t.Context(), lab, objects); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := lab.Kubectl(context.WithoutCancel(t.Context()), "-n", workload.Namespace, "delete", "networkpolicies", "--all"); err != nil {
			t.Error(err)
		}
	})
}

// podsBySet are the Pods of a DaemonSet by node.
func podsBySet(t *testing.T, lab *cluster.Lab, name string) map[string]workload.Pod {
	t.Helper()
	list, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-"+name)
	if err != nil {
		t.Fatal(err)
	}
	byNode := map[string]workload.Pod{}
	for _, p := range list {
		byNode[p.Node] = p
	}
	return byNode
}

// checkCut denies one of two connections to a Pod, which must end at both ends,
// while the other lives on.
func checkCut(t *testing.T, lab *cluster.Lab) {
	a, b := podsBySet(t, lab, "a"), podsBySet(t, lab, "b")
	server := b["n3"]
	policy := policyObject("cut", `{podSelector: {matchLabels: {app: probe-b}}, ingress: [{from: [{podSelector: {matchLabels: {app: probe-b}}}]}]}`)
	for _, c := range []struct {
		name   string
		denied workload.Pod
	}{{"across racks", a["n1"]}, {"on the node", a["n3"]}} {
		check(t, c.name, func(t *testing.T) {
			doomed, other := newTraffic(t), newTraffic(t)
			doomed.addStreams(t, lab, c.denied, server)
			other.addStreams(t, lab, b["n1"], server)
			doomed.await(t)
			other.await(t)
			applyPolicies(t, lab, policy)
			begun := time.Now()
			for _, run := range doomed.streams {
				checkEnds(t, run, begun, time.Second)
			}
			eventually(t, enforced, func(ctx context.Context) error { return connectionsFrom(ctx, lab, server, c.denied) })
			other.end(t, 0)
		})
	}
}

// checkEnds waits for the end of a stream that must not go on since a time.
func checkEnds(t *testing.T, run *probeRun, since time.Time, within time.Duration) {
	t.Helper()
	select {
	case <-time.After(10 * time.Second):
		t.Fatalf("the %s connection lives after 10 s: %s", run.name, &run.stderr)
	case err := <-run.done:
		took := time.Since(since)
		run.done <- err
		var s stream.Report
		run.result(t, &s)
		record(t,
			report.Check(run.name+" connection was reset", s.Broken && strings.Contains(s.Error, "reset"), s.Error),
			report.Check(fmt.Sprintf("%s connection ended within %s", run.name, within), took < within, took.String()))
	}
}

// connectionsFrom complains while a Pod has connections with another one.
func connectionsFrom(ctx context.Context, lab *cluster.Lab, server, client workload.Pod) error {
	for _, a := range client.Addresses {
		out, err := workload.ExecPod(ctx, lab, server, nil, "/probe", "sockets", a.String())
		if err != nil {
			return err
		}
		if left := strings.TrimSpace(string(out)); left != "[]" {
			return fmt.Errorf("%s still has connections with %s: %s", server.Name, client.Name, left)
		}
	}
	return nil
}

// checkNeverOpen disturbs everything that enforces policies while what they
// deny and what they accept is tried every millisecond.
func checkNeverOpen(t *testing.T, lab *cluster.Lab) {
	a, b := podsBySet(t, lab, "a"), podsBySet(t, lab, "b")
	server := a["n3"]
	applyPolicies(t, lab, friends(0))
	denied := probe.Target{Name: "denied", Protocol: probe.TCP, Address: server.Addresses[0], Port: echoPort, Millis: denyMillis}
	eventually(t, enforced, func(ctx context.Context) error {
		results, err := endpointOf(lab, a["n1"]).Ask(ctx, denied)
		if err == nil && results[0].OK {
			err = errors.New("the policy is not in force")
		}
		return err
	})
	for _, c := range []struct {
		name    string
		outage  time.Duration // that the userspace datapath has when it is restarted
		disturb func(t *testing.T)
	}{
		{"policies change", 0, func(t *testing.T) {
			for i := range 40 {
				if err := kubectlApply(t.Context(), lab, friends(i)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"agents killed", 0, func(t *testing.T) {
			for range 2 {
				for _, node := range nodeNames(lab) {
					before := agentStart(t, lab, node)
					killAgent(t, lab, node)
					eventually(t, 90*time.Second, func(ctx context.Context) error { return settled(ctx, lab, node, before) })
				}
			}
		}},
		{"switch killed", regained, func(t *testing.T) {
			for _, node := range []string{"n3", "n1"} {
				exec(t, lab, node, "sh", "-ec", kill+"kill9 ovs-vswitchd")
				reached(t, lab, b["n1"], server)
			}
		}},
		{"controllers killed", 0, func(t *testing.T) {
			for _, pod := range controllers(t, lab) {
				kubectl(t, lab, "-n", "kube-system", "delete", "pod", pod, "--wait=true")
				kubectl(t, lab, "-n", "kube-system", "rollout", "status", "deployment/waymark-controller", "--timeout=90s")
			}
		}},
	} {
		check(t, c.name, func(t *testing.T) {
			accepted, forbidden := newTraffic(t), newTraffic(t)
			accepted.addPing(t, lab, b["n1"], server)
			accepted.addPing(t, lab, b["n3"], server)
			accepted.addStreams(t, lab, b["n1"], server)
			accepted.await(t)
			forbidden.addPing(t, lab, a["n1"], server)
			forbidden.addPing(t, lab, a["n2"], server)
			c.disturb(t)
			accepted.end(t, c.outage)
			forbidden.endDenied(t)
		})
	}
}

// friends are policies under which Pods b reach Pods a, said in another way for
// each variant, and others that come and go.
func friends(variant int) string {
	peers := []string{
		`[{podSelector: {matchLabels: {app: probe-b}}}]`,
		`[{podSelector: {matchExpressions: [{key: app, operator: In, values: [probe-b, nobody]}]}}]`,
		`[{podSelector: {matchLabels: {app: probe-b}}, namespaceSelector: {}}, {ipBlock: {cidr: 192.0.2.0/24}}]`,
	}
	out := policyObject("friends", `{podSelector: {matchLabels: {app: probe-a}}, policyTypes: [Ingress], ingress: [{from: `+peers[variant%len(peers)]+`}]}`)
	return out + policyObject("other", fmt.Sprintf(
		`{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: probe-b}}}]}, {ports: [{port: %d}], from: [{ipBlock: {cidr: 198.51.100.0/24}}]}]}`, 8000+variant))
}

// endpointOf is a Pod as an end that can be asked.
func endpointOf(lab *cluster.Lab, pod workload.Pod) matrix.Endpoint {
	return matrix.Endpoint{
		Kind: matrix.Pod, Name: pod.Name, Node: pod.Node, Addresses: pod.Addresses,
		Check: func(ctx context.Context, targets []byte) ([]byte, error) {
			return workload.ExecPod(ctx, lab, pod, targets, "/probe", "check")
		},
	}
}

// reached returns once a Pod reaches another over TCP in every family.
func reached(t *testing.T, lab *cluster.Lab, from, to workload.Pod) {
	t.Helper()
	eventually(t, regained, func(ctx context.Context) error {
		for _, a := range to.Addresses {
			results, err := endpointOf(lab, from).Ask(ctx, probe.Target{Name: to.Name, Protocol: probe.TCP, Address: a, Port: echoPort, Millis: denyMillis})
			if err != nil {
				return err
			}
			if !results[0].OK {
				return fmt.Errorf("%s does not reach %s: %s", from.Name, a, results[0].Error)
			}
		}
		return nil
	})
}

// controllers are the names of the controller's Pods.
func controllers(t *testing.T, lab *cluster.Lab) []string {
	t.Helper()
	return strings.Fields(kubectl(t, lab, "-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=waymark-controller",
		"-o", "jsonpath={.items[*].metadata.name}"))
}

// endDenied ends pings of which not one may have been answered.
func (tr *traffic) endDenied(t *testing.T) {
	t.Helper()
	if err := tr.stop.Close(); err != nil {
		t.Fatal(err)
	}
	for _, run := range tr.pings {
		var reports []ping.Report
		run.result(t, &reports)
		for _, p := range reports {
			note := fmt.Sprintf("%d of %d answered", p.Received, p.Sent)
			record(t, report.Check(tr.named("denied "+familyName(p.Address)+" ping every millisecond"), p.Received == 0 && p.Sent > 0, note))
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/waymark-net/waymark/test/bench/measure"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/probe/ping"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	// roundDenials is how often a round has packets denied in each way.
	roundDenials = 10
	// denialMillis is how long a packet is waited for that may be denied.
	denialMillis = 500
	// denialOutage is the shortest outage that may be a denial: below what a
	// check of denialMillis takes, above what a busy machine takes.
	denialOutage = 300 * time.Millisecond
	// denialLimit is what a denial or its end may take at most.
	denialLimit = 30 * time.Second
	// benchLabel is that of the Pod whose packets are denied.
	benchLabel = "bench"
)

// policiesInPlace are how many policies are there when another one comes.
var policiesInPlace = []int{10, 100, 1000}

// denialKind is a way to have packets denied and accepted again.
type denialKind struct {
	name string
	// policy, if not empty, is the spec of one that is there from the start.
	policy     string
	deny, lift func(ctx context.Context, b *latencyBench) error
}

var denialKinds = []denialKind{
	{
		name: "policy to denial",
		deny: func(ctx context.Context, b *latencyBench) error {
			return b.apply(ctx, "deny", egressDenied("client"))
		},
		lift: func(ctx context.Context, b *latencyBench) error {
			return b.remove(ctx, "deny")
		},
	},
	{
		name:   "label to denial",
		policy: egressDenied("denied"),
		deny:   func(ctx context.Context, b *latencyBench) error { return b.label(ctx, "denied") },
		lift:   func(ctx context.Context, b *latencyBench) error { return b.label(ctx, "client") },
	},
}

// egressDenied is the spec of a policy that denies what Pods with a label send.
func egressDenied(label string) string {
	return fmt.Sprintf(`{"podSelector": {"matchLabels": {%q: %q}}, "policyTypes": ["Egress"]}`, benchLabel, label)
}

// inPlace is the spec of a policy under which the probes reach each other, unlike
// that of every other number.
func inPlace(n int) string {
	return fmt.Sprintf(`{"podSelector": {"matchLabels": {"app": "probe-a"}}, "policyTypes": ["Ingress"], "ingress": [
		{"from": [{"podSelector": {"matchLabels": {"app": "probe-a"}}}]},
		{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"protocol": "TCP", "port": %d}]}]}`, 10000+n)
}

// latencySeries is one thing that is measured.
type latencySeries struct {
	kind     string
	policies int
}

// TestPolicyLatency measures how long it takes from the answer of the API server
// to a policy, or to a Pod's new label, until packets are denied.
func TestPolicyLatency(t *testing.T) {
	r := begin(t, "policy-latency")
	b := newLatencyBench(t)
	for round := range *rounds {
		have := 0
		for _, count := range policiesInPlace {
			for ; have < count; have++ {
				b.must(b.apply(t.Context(), fmt.Sprintf("in-place-%d", have), inPlace(have)))
			}
			kinds := slices.Clone(denialKinds)
			if round%2 == 1 {
				slices.Reverse(kinds)
			}
			for _, kind := range kinds {
				b.measure(kind, count)
			}
		}
		b.must(b.client.NetworkingV1().NetworkPolicies(workload.Namespace).DeleteCollection(t.Context(),
			metav1.DeleteOptions{}, metav1.ListOptions{}))
		t.Logf("round %d of %d is done", round+1, *rounds)
	}
	for _, kind := range denialKinds {
		for _, count := range policiesInPlace {
			series := latencySeries{kind.name, count}
			row := func(q float64) report.Row {
				return report.Measure(fmt.Sprintf("%s, %d policies: p%.0f", kind.name, count, 100*q), b.got.quantile(series, q), "ms")
			}
			worst := row(0.99)
			worst.Note = fmt.Sprintf("of %d, %d left out; the sender paused for %.0f ms at most",
				len(b.got[series]), b.leftOut[series], b.pauses.quantile(series, 1))
			r.Add(row(0.5), worst)
		}
	}
	write(t, r)
}

// latencyBench has packets of one Pod to another one denied.
type latencyBench struct {
	t      *testing.T
	client *kubernetes.Clientset
	path   path
	pod    workload.Pod // that sends

	got, pauses samples[latencySeries]
	leftOut     map[latencySeries]int
}

func newLatencyBench(t *testing.T) *latencyBench {
	t.Helper()
	p := productPaths(t)
	config, err := p.lab.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	b := &latencyBench{
		t: t, path: p.ends[places[2]],
		got: samples[latencySeries]{}, pauses: samples[latencySeries]{}, leftOut: map[latencySeries]int{},
	}
	b.client, err = kubernetes.NewForConfig(config)
	b.must(err)
	pods, err := workload.Pods(t.Context(), p.lab, workload.Namespace, "app=probe-a")
	b.must(err)
	at := slices.IndexFunc(pods, func(pod workload.Pod) bool { return slices.Contains(pod.Addresses, b.path.from.addr) })
	if at < 0 {
		t.Fatalf("no Pod has the address %s", b.path.from.addr)
	}
	b.pod = pods[at]
	b.must(b.label(t.Context(), "client"))
	return b
}

func (b *latencyBench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// apply makes a policy by the request that `kubectl apply --server-side` sends,
// and returns when it is answered.
func (b *latencyBench) apply(ctx context.Context, name, spec string) error {
	object := fmt.Sprintf(`{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": %q}, "spec": %s}`, name, spec)
	_, err := b.client.NetworkingV1().NetworkPolicies(workload.Namespace).Patch(ctx, name, types.ApplyPatchType,
		[]byte(object), metav1.PatchOptions{FieldManager: "kubectl"})
	return err
}

func (b *latencyBench) remove(ctx context.Context, name string) error {
	return b.client.NetworkingV1().NetworkPolicies(workload.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

// label changes the Pod's label as `kubectl label` does.
func (b *latencyBench) label(ctx context.Context, value string) error {
	patch := fmt.Sprintf(`{"metadata": {"labels": {%q: %q}}}`, benchLabel, value)
	_, err := b.client.CoreV1().Pods(b.pod.Namespace).Patch(ctx, b.pod.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// measure has packets denied some times while one is sent every millisecond.
func (b *latencyBench) measure(kind denialKind, count int) {
	b.t.Helper()
	ctx := b.t.Context()
	if kind.policy != "" {
		b.must(b.apply(ctx, "beside", kind.policy))
	}
	b.deny(kind) // so everything before it is in force too
	stop := b.pings()
	var denials []measure.Denial
	for range roundDenials {
		denials = append(denials, b.deny(kind))
	}
	sent := stop()
	if kind.policy != "" {
		b.must(b.remove(ctx, "beside"))
	}
	var silences []measure.Silence
	for _, o := range sent.Outages {
		silences = append(silences, measure.Silence(o))
	}
	took, leftOut, err := measure.Latencies(denials, silences)
	if err != nil {
		b.t.Fatalf("%s, %d policies: %v\n%+v", kind.name, count, err, sent)
	}
	series := latencySeries{kind.name, count}
	for _, d := range took {
		b.got.add(series, 1e3*d.Seconds())
	}
	b.leftOut[series] += leftOut
	b.pauses.add(series, sent.MaxPause)
}

// deny has packets denied and accepted again.
func (b *latencyBench) deny(kind denialKind) measure.Denial {
	b.t.Helper()
	ctx := b.t.Context()
	d := measure.Denial{Asked: time.Now()}
	b.must(kind.deny(ctx, b))
	d.Answered = time.Now()
	b.until(false)
	d.Known = time.Now()
	b.must(kind.lift(ctx, b))
	b.until(true)
	return d
}

// until waits until packets are answered, or are not.
func (b *latencyBench) until(answered bool) {
	b.t.Helper()
	targets, err := json.Marshal([]check.Target{{Protocol: check.ICMP, Address: b.path.to.addr, Millis: denialMillis}})
	b.must(err)
	b.must(cluster.Until(b.t.Context(), denialLimit, func(ctx context.Context) error {
		var results []check.Result
		if err := b.path.from.client(ctx, &results, "check", string(targets)); err != nil {
			return err
		}
		if results[0].OK != answered {
			return fmt.Errorf("packets are answered: %t, want %t", results[0].OK, answered)
		}
		return nil
	}))
}

// pings starts to send a packet every millisecond, and returns once one was
// answered. stop ends that.
func (b *latencyBench) pings() (stop func() ping.Report) {
	b.t.Helper()
	from := b.path.from
	h, err := from.lab.Host(from.node)
	b.must(err)
	stdin, end := io.Pipe()
	stderr, said := io.Pipe()
	var stdout bytes.Buffer
	ended := make(chan error, 1)
	argv := append(slices.Clone(from.enter), workload.ProbePath, "ping", "--interval=1ms", "--stdin",
		"--outages="+denialOutage.String(), "--wait=1s", b.path.to.addr.String())
	go func() {
		err := h.Run(b.t.Context(), host.Cmd{Argv: argv, Stdin: stdin, Stdout: &stdout, Stderr: said})
		ended <- errors.Join(err, said.Close())
	}()
	lines := bufio.NewScanner(stderr)
	if !lines.Scan() {
		b.t.Fatalf("no packet is answered: %v", <-ended)
	}
	rest := make(chan struct{})
	go func() {
		defer close(rest)
		for lines.Scan() { // nothing that matters
		}
	}()
	return func() ping.Report {
		b.t.Helper()
		b.must(end.Close())
		b.must(<-ended)
		<-rest
		var reports []ping.Report
		b.must(json.Unmarshal(stdout.Bytes(), &reports))
		return reports[0]
	}
}

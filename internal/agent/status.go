// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
)

// reason is the reason of the node's condition and of an Event. Those of
// routing.Problem come to these. docs/guide/troubleshoot.md explains each.
type reason string

const (
	reasonNotServing           reason = "NotServing"
	reasonConfigurationRefused reason = "ConfigurationRefused"
	reasonReconciliationFailed reason = "ReconciliationFailed"
	reasonPodsNotRepaired      reason = "PodsNotRepaired"
	reasonNodeInvalid          reason = "NodeInvalid"
	reasonMTUNotInForce        reason = "MTUNotInForce"
	reasonRouteNotUsable       reason = "RouteNotUsable"
	reasonNoRoute              reason = "NoRoute"
	reasonServiceNotAnnounced  reason = "ServiceNotAnnounced"
)

// problem is something wrong that the node's condition and an Event report.
type problem struct {
	reason  reason
	message string
}

// report is what the agent has to say of itself. It is immutable.
type report struct {
	node *kube.Node
	// serving is false while the node cannot connect Pods at all.
	serving  bool
	problems []problem
	document kube.Document
	// configuration is the version of the ConfigMap that was carried out last.
	configuration string
	// documentError is what is wrong with the configuration document.
	documentError error
	sessions      kube.Report
	// paths are nil until they are known.
	paths *kube.PathReport
}

// statusWriter tells the API server how the node is, on a goroutine of its own:
// an API server that does not answer must not hold up forwarding.
type statusWriter struct {
	recorder *kube.Recorder
	node     *kube.NodeWriter
	sessions *kube.SessionWriter
	paths    *kube.PathWriter
	loop     *reconcile.Loop

	mu     sync.Mutex
	latest *report

	// What follows belongs to the loop: what Events have said.
	saidProblems map[problem]bool
	saidDocument string
}

func newStatusWriter(clients *kube.Clients, nodeName string) *statusWriter {
	w := &statusWriter{
		recorder:     kube.NewRecorder(kube.RecorderParams{Clients: clients, Component: "waymark-agent", NodeName: nodeName}),
		node:         kube.NewNodeWriter(kube.NodeWriterParams{Clients: clients, NodeName: nodeName, Now: time.Now}),
		sessions:     kube.NewSessionWriter(kube.SessionWriterParams{Clients: clients, Now: time.Now}),
		paths:        kube.NewPathWriter(kube.PathWriterParams{Clients: clients, Now: time.Now}),
		saidProblems: map[problem]bool{},
	}
	w.loop = reconcile.New(reconcile.Params{
		Name:        "status",
		Reconcile:   w.write,
		MinInterval: time.Second,
		MaxInterval: 30 * time.Second,
		RetryBase:   time.Second,
		RetryMax:    30 * time.Second,
	})
	return w
}

// Run writes until ctx ends.
func (w *statusWriter) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.recorder.Run(ctx) })
	group.Go(func() error { return w.loop.Run(ctx) })
	return group.Wait()
}

// set makes r what is written next.
func (w *statusWriter) set(r *report) {
	w.mu.Lock()
	w.latest = r
	w.mu.Unlock()
	w.loop.Mark()
}

func (w *statusWriter) write(ctx context.Context) error {
	w.mu.Lock()
	r := w.latest
	w.mu.Unlock()
	if r == nil {
		return nil
	}
	w.events(r)
	why, message := "Ready", "Pods are connected and every remote Pod CIDR has a path"
	if len(r.problems) > 0 {
		why = string(r.problems[0].reason)
		var lines []string
		for _, p := range r.problems {
			lines = append(lines, p.message)
		}
		message = strings.Join(lines, "; ")
	}
	err := errors.Join(
		w.node.SetNetwork(ctx, kube.NetworkCondition{
			Serving: r.serving, Ready: r.serving && len(r.problems) == 0, Reason: why, Message: message,
			Configuration: r.configuration,
		}),
		w.sessions.Write(ctx, r.sessions))
	if r.paths != nil {
		err = errors.Join(err, w.paths.Write(ctx, *r.paths))
	}
	return err
}

// events says what is new.
func (w *statusWriter) events(r *report) {
	now := map[problem]bool{}
	for _, p := range r.problems {
		now[p] = true
		if !w.saidProblems[p] {
			w.recorder.OnNode(r.node, kube.Warning, string(p.reason), p.message)
		}
	}
	if len(now) == 0 && len(w.saidProblems) > 0 {
		w.recorder.OnNode(r.node, kube.Normal, "NetworkReady", "all problems are gone")
	}
	w.saidProblems = now
	text := ""
	if r.documentError != nil {
		text = r.documentError.Error()
	}
	if text != "" && text != w.saidDocument {
		w.recorder.OnConfig(r.document, kube.Warning, string(reasonConfigurationRefused),
			fmt.Sprintf("node %s goes on with the last valid configuration: %s", r.node.Name, text))
	}
	w.saidDocument = text
}

// report tells the status writer what came of a run of the node loop.
func (a *Agent) report(seen sight, plan *Plan, err error) {
	a.metrics.configValid.Set(b2f(seen.document == nil && a.conf != nil))
	if seen.node == nil {
		return
	}
	if plan != nil && err == nil && !seen.rollingOut {
		a.carriedOut = a.confVersion
	}
	r := &report{
		configuration: a.carriedOut,
		node:          seen.node,
		document:      a.watcher.Snapshot().Document,
		documentError: seen.document,
		sessions:      kube.Report{Node: seen.node, Problems: seen.peers, Sessions: a.bgpSessions()},
	}
	_, unready := a.cniSettings()
	r.serving = unready == nil
	add := func(why reason, message string) { r.problems = append(r.problems, problem{why, message}) }
	if unready != nil {
		add(reasonNotServing, unready.Error())
	}
	if seen.document != nil {
		add(reasonConfigurationRefused, seen.document.Error())
	}
	if err != nil {
		add(reasonReconciliationFailed, err.Error())
	}
	if p := a.podsDegraded.Load(); p != nil && *p != nil {
		add(reasonPodsNotRepaired, (*p).Error())
	}
	for _, n := range seen.notes {
		add(reasonNodeInvalid, n)
	}
	if plan != nil {
		planProblems(plan, add)
		r.paths = a.prober.report(seen, plan)
	}
	a.metrics.problems.Set(float64(len(r.problems)))
	a.status.set(r)
}

// planProblems are what the plan had to leave out.
func planProblems(p *Plan, add func(why reason, message string)) {
	for _, q := range p.Problems {
		add(reason(q.Reason), q.Message)
	}
	if p.MTUWarning != "" {
		add(reasonMTUNotInForce, p.MTUWarning)
	}
	for _, u := range p.Kernel.Unresolved {
		add(reasonRouteNotUsable, u)
	}
	if len(p.NotAnnounced) > 0 {
		add(reasonServiceNotAnnounced, fmt.Sprintf("addresses that Services want and that are a node's or in a Pod CIDR are not announced: %s", addressList(p.NotAnnounced)))
	}
	if nowhere := lost(p.Paths); len(nowhere) > 0 {
		add(reasonNoRoute, "no usable route to "+strings.Join(nowhere, ", "))
	}
}

// addressList is a few of the addresses.
func addressList(all []netip.Addr) string {
	const most = 5
	var texts []string
	for _, a := range all[:min(len(all), most)] {
		texts = append(texts, a.String())
	}
	if more := len(all) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

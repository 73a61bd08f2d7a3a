// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/policy/compute"
	"github.com/waymark-net/waymark/policy/stream"
)

// policies computes what every node enforces, and hands the changes to the hub.
// One loop owns the index.
type policies struct {
	watcher *kube.PolicyWatcher
	index   *compute.Index
	hub     *stream.Hub
	loop    *reconcile.Loop
	reports *policyReports
	metrics *policyMetrics
}

// policiesParams describe policies.
type policiesParams struct {
	Clients    *kube.Clients
	Recorder   policyRecorder
	Registerer prometheus.Registerer
	// Leading returns the context to write under, nil while another replica leads.
	Leading func() context.Context
	Now     func() time.Time
}

func newPolicies(params policiesParams) *policies {
	p := &policies{index: compute.New(compute.Params{})}
	p.hub = stream.NewHub(p.index)
	p.loop = reconcile.New(reconcile.Params{
		Name:        "policies",
		Reconcile:   p.compute,
		MinInterval: 10 * time.Millisecond,
		MaxInterval: 5 * time.Minute,
		RetryBase:   time.Second,
		RetryMax:    time.Minute,
	})
	p.watcher = kube.NewPolicyWatcher(kube.PolicyWatcherParams{Clients: params.Clients, OnChange: p.loop.Mark})
	p.reports = newPolicyReports(policyReportsParams{
		Recorder: params.Recorder, Status: params.Clients.ClusterPolicies, Policy: p.watcher.Policy,
		Leading: params.Leading, Now: params.Now,
	})
	p.metrics = newPolicyMetrics(params.Registerer, p.reports.withProblems)
	return p
}

// run watches and computes until ctx ends.
func (p *policies) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watcher.Run(ctx) })
	group.Go(func() error { return p.loop.Run(ctx) })
	group.Go(func() error { return p.reports.loop.Run(ctx) })
	return group.Wait()
}

// compute takes in what changed. It never fails.
func (p *policies) compute(ctx context.Context) error {
	if !p.watcher.Synced() {
		return nil
	}
	start := time.Now()
	p.hub.Update(func() stream.Change {
		e := p.watcher.Take()
		p.say(ctx, e)
		p.reports.take(e)
		p.takeIn(e)
		return stream.Change{Deltas: p.index.Flush(), Newest: e.Contained, Reached: e.Read}
	})
	p.metrics.computed(time.Since(start), p.index.Size())
	return nil
}

func (p *policies) takeIn(e *kube.PolicyEvents) {
	for _, n := range e.Namespaces {
		p.index.UpsertNamespace(n)
	}
	for _, name := range e.GoneNamespaces {
		p.index.DeleteNamespace(name)
	}
	for _, n := range e.Nodes {
		p.index.UpsertNode(n)
	}
	for _, name := range e.GoneNodes {
		p.index.DeleteNode(name)
	}
	for _, key := range e.GonePods {
		p.index.DeletePod(key)
	}
	for _, pod := range e.Pods {
		p.index.UpsertPod(pod)
	}
	for _, key := range e.GonePolicies {
		p.index.DeletePolicy(key)
	}
	for _, in := range e.Policies {
		p.index.UpsertPolicy(in)
	}
}

// say logs what of policies was not understood.
func (p *policies) say(ctx context.Context, e *kube.PolicyEvents) {
	for key, problems := range e.Problems {
		for _, problem := range problems {
			klog.FromContext(ctx).Info("Part of a policy was not understood; it denies more than was meant, perhaps",
				"policy", key, "reason", problem.String())
		}
	}
}

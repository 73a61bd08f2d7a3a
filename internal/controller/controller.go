// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/httpserver"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
)

const component = "waymark-controller"

// The terms of leadership, as Kubernetes' own controllers have them.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Params describe a Controller.
type Params struct {
	Clients *kube.Clients
	// Identity tells this replica from the others.
	Identity string
	// Listen is the address of health and metrics.
	Listen string
	// PolicyListen is the address of the policy stream.
	PolicyListen string
}

// Controller is one replica.
type Controller struct {
	params   Params
	watcher  *kube.Watcher
	recorder *kube.Recorder
	loop     *reconcile.Loop
	rollouts *reconcile.Loop
	elector  *leaderelection.LeaderElector
	metrics  *metrics
	registry *prometheus.Registry
	policies *policies
	policy   *policyServer
	now      func() time.Time

	// term is the leadership in force; it ends with its context.
	term atomic.Pointer[term]
	// said is what was last said on the ConfigMap. Owned by the loop.
	said string
}

type term struct{ ctx context.Context }

// New returns a Controller that does nothing before Run.
func New(params Params) (*Controller, error) {
	c := &Controller{
		params:   params,
		recorder: kube.NewRecorder(kube.RecorderParams{Clients: params.Clients, Component: component}),
		registry: prometheus.NewRegistry(),
		now:      time.Now,
	}
	c.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c.metrics = newMetrics(c.registry)
	c.policies = newPolicies(policiesParams{
		Clients: params.Clients, Recorder: c.recorder, Registerer: c.registry, Leading: c.leading, Now: c.now,
	})
	c.policy = newPolicyServer(policyParams{
		Clients: params.Clients, Listen: params.PolicyListen, Hub: c.policies.hub, Registerer: c.registry, Now: c.now,
	})
	c.loop = reconcile.New(reconcile.Params{
		Name:        "controller",
		Reconcile:   c.reconcile,
		MinInterval: 500 * time.Millisecond,
		MaxInterval: 5 * time.Minute,
		RetryBase:   time.Second,
		RetryMax:    time.Minute,
	})
	c.rollouts = c.newRolloutLoop()
	c.watcher = kube.NewWatcher(kube.WatcherParams{Clients: params.Clients, OnChange: func() {
		c.loop.Mark()
		c.rollouts.Mark()
	}})
	var err error
	c.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: component,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: config.Namespace, Name: component},
			Client:     params.Clients.Core.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: params.Identity},
		},
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: c.lead,
			OnStoppedLeading: c.mark,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("set up leader election: %w", err)
	}
	return c, nil
}

// Run watches, judges and, while it leads, writes, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.watcher.Run(ctx) })
	group.Go(func() error { return c.recorder.Run(ctx) })
	group.Go(func() error { return c.loop.Run(ctx) })
	group.Go(func() error { return c.rollouts.Run(ctx) })
	group.Go(func() error {
		for ctx.Err() == nil {
			c.elector.Run(ctx) // returns when leadership is lost
		}
		return context.Cause(ctx)
	})
	group.Go(func() error { return c.policies.run(ctx) })
	group.Go(func() error { return c.policy.run(ctx) })
	group.Go(func() error {
		return httpserver.Serve(ctx, httpserver.Params{Address: c.params.Listen, Ready: c.ready, Gatherer: c.registry})
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil // asked to end
	}
	return err
}

// ready says whether the state of the cluster is known.
func (c *Controller) ready() error {
	if c.watcher.Snapshot() == nil {
		return errors.New("the state of the cluster was not read from the API server yet")
	}
	return c.policy.ready()
}

// lead begins a term of leadership.
func (c *Controller) lead(ctx context.Context) {
	klog.FromContext(ctx).Info("Leading", "identity", c.params.Identity)
	c.term.Store(&term{ctx})
	c.mark()
}

// mark has what only the leader does looked at again.
func (c *Controller) mark() {
	c.loop.Mark()
	c.rollouts.Mark()
	c.policies.reports.loop.Mark()
}

// leading returns the context to write under, nil while another replica leads.
func (c *Controller) leading() context.Context {
	t := c.term.Load()
	if t == nil || t.ctx.Err() != nil {
		return nil
	}
	return t.ctx
}

// reconcile judges a snapshot and, while this replica leads, writes what
// follows from it. It goes on past failures and returns all of them.
func (c *Controller) reconcile(ctx context.Context) error {
	s := c.watcher.Snapshot()
	if s == nil {
		return nil
	}
	conf, bad := judge(s)
	c.metrics.set(s, bad == nil, c.leading() != nil)
	leading := c.leading()
	if leading == nil {
		c.said = ""
		return nil
	}
	leading = klog.NewContext(leading, klog.FromContext(ctx))
	c.say(leading, s.Document, bad)
	return errors.Join(
		c.writePeers(leading, s, conf),
		c.deleteSessions(leading, s),
	)
}

// judge reads the configuration document.
func judge(s *kube.Snapshot) (*config.Config, error) {
	if !s.Document.Found {
		return nil, fmt.Errorf("ConfigMap %s/%s with key %s does not exist", config.Namespace, config.ConfigMapName, config.ConfigMapKey)
	}
	return config.Load(s.Document.Text, s.Families()...)
}

// say writes an Event on the ConfigMap when there is something new to say.
func (c *Controller) say(ctx context.Context, d kube.Document, bad error) {
	text := ""
	if bad != nil {
		text = bad.Error()
	}
	if text == c.said {
		return
	}
	logger := klog.FromContext(ctx)
	if bad != nil {
		logger.Error(bad, "Configuration refused, the last good one stays in force", "version", d.Version)
	} else {
		logger.Info("Configuration accepted", "version", d.Version)
	}
	c.said = text
	if d.UID == "" {
		return // no object to speak about
	}
	if bad != nil {
		c.recorder.OnConfig(d, kube.Warning, "ConfigurationRefused", "the last good configuration stays in force; "+text)
		return
	}
	c.recorder.OnConfig(d, kube.Normal, "ConfigurationAccepted", "the configuration is good again")
}

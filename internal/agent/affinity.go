// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// affinityInterval is how often clients that keep an endpoint for very long are
// looked at; their time is right to so much.
const affinityInterval = 5 * time.Minute

// learnedFlows reads and removes what the switch has learned. *openflow.Target
// implements it.
type learnedFlows interface {
	LearnedFlows(ctx context.Context, table uint8) ([]openflow.LearnedFlow, error)
	RemoveLearned(ctx context.Context, table uint8, matches []flow.Match) error
}

// affinity ends what clients keep of an endpoint where the switch cannot: it
// counts at most 65535 seconds. A client's time begins anew with each look at
// which its flow has counted more, and when the agent starts.
type affinity struct {
	target learnedFlows
	// timeouts are those that the switch cannot count, by set of endpoints.
	timeouts func() map[uint32]time.Duration
	now      func() time.Time
	loop     *reconcile.Loop

	// What follows belongs to the goroutine of loop.
	// clients are those that were seen, by the match of their flow.
	clients map[string]client
	// active says that there was something to look after at the last look.
	active bool
}

// client is what was seen of a client.
type client struct {
	packets uint64
	since   time.Time
}

func newAffinity(s learnedFlows, timeouts func() map[uint32]time.Duration) *affinity {
	a := &affinity{target: s, timeouts: timeouts, now: time.Now, clients: map[string]client{}}
	a.loop = reconcile.New(reconcile.Params{
		Name: "affinity", Reconcile: a.reconcile,
		MinInterval: time.Second, MaxInterval: affinityInterval, RetryBase: time.Second, RetryMax: affinityInterval,
	})
	return a
}

func (a *affinity) reconcile(ctx context.Context) error {
	timeouts := a.timeouts()
	if len(timeouts) == 0 && !a.active {
		return nil
	}
	flows, err := a.target.LearnedFlows(ctx, pipeline.TableServiceAffinity)
	if err != nil {
		return err
	}
	now, seen := a.now(), map[string]client{}
	var over []flow.Match
	for _, f := range flows {
		if f.IdleTimeout != 0 {
			continue
		}
		key := f.Match.String()
		c, known := a.clients[key]
		if !known || c.packets != f.Packets {
			c = client{f.Packets, now}
		}
		timeout, wanted := timeouts[pipeline.LearnedSet(f.Match)]
		if !wanted || now.Sub(c.since) >= timeout {
			over = append(over, f.Match)
			continue
		}
		seen[key] = c
	}
	if len(over) > 0 {
		if err := a.target.RemoveLearned(ctx, pipeline.TableServiceAffinity, over); err != nil {
			return err
		}
		klog.FromContext(ctx).V(2).Info("Clients need not keep their endpoint any more", "clients", len(over))
	}
	a.clients, a.active = seen, len(timeouts) > 0
	return nil
}

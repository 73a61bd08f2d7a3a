// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/internal/rollout"
)

// acknowledger tells the controller how far the node is with a rollout. It has a
// goroutine of its own, as an API server that does not answer must not hold up
// forwarding.
type acknowledger struct {
	node *kube.NodeWriter
	loop *reconcile.Loop
	want atomic.Pointer[kube.NodeRollout]
	// written belongs to the loop.
	written kube.NodeRollout
}

func newAcknowledger(clients *kube.Clients, nodeName string) *acknowledger {
	k := &acknowledger{node: kube.NewNodeWriter(kube.NodeWriterParams{Clients: clients, NodeName: nodeName, Now: time.Now})}
	k.loop = reconcile.New(reconcile.Params{
		Name:        "rollout",
		Reconcile:   k.write,
		MinInterval: 20 * time.Millisecond,
		MaxInterval: 10 * time.Minute,
		RetryBase:   200 * time.Millisecond,
		RetryMax:    10 * time.Second,
	})
	return k
}

func (k *acknowledger) write(ctx context.Context) error {
	want := k.want.Load()
	if want == nil || *want == k.written {
		return nil
	}
	if err := k.node.SetRollout(ctx, *want); err != nil {
		return err
	}
	k.written = *want
	return nil
}

// acknowledge says what came of a run of the node loop, as far as the rollout in
// force is concerned.
func (a *Agent) acknowledge(ctx context.Context, w World, p *Plan, err error) {
	r := w.Rollout
	if r == nil || r.Phase == rollout.Complete || r.Phase == rollout.Superseded {
		return
	}
	if a.said.Name != r.Name {
		a.said = kube.NodeRollout{Name: r.Name}
	}
	a.said.Problem, a.said.Loses = "", false
	if err == nil && p != nil {
		err = p.Refused
	}
	if err == nil && a.said.Phase != r.Phase {
		err = a.settleDatapath(ctx)
	}
	switch {
	case err != nil:
		a.said.Problem = err.Error()
	case p != nil && a.podsFollow():
		a.said.Phase = r.Phase
		if r.Phase == rollout.Prepare && len(p.Loses) > 0 {
			a.said.Loses, a.said.Problem = true, "no usable route to "+strings.Join(p.Loses, ", ")
		}
	}
	said := a.said
	a.acks.want.Store(&said)
	a.acks.loop.Mark()
}

// settleDatapath waits until packets go as the flows of the switch say: what the
// datapath remembers of them follows them a little later.
func (a *Agent) settleDatapath(ctx context.Context) error {
	if err := a.router.Settle(ctx); err != nil {
		return fmt.Errorf("wait for the datapath to follow the flows: %w", err)
	}
	return nil
}

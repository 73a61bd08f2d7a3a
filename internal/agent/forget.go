// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
)

// forgetAtOnce is how many kinds of connections the switch is asked to forget
// before the next are.
const forgetAtOnce = 64

// forgetterParams are what newForgetter needs.
type forgetterParams struct {
	// forget is openflow.Target.ForgetConnections.
	forget func(context.Context, []flow.Connection) error
	// settled returns when nothing in the datapath is older than the call.
	settled func(context.Context) error
	// again is told what was forgotten when that is so.
	again func([]service.Connection)
}

// forgetter has the switch forget connections that must not go on. For each kind
// the switch looks through all that it has, which must not hold up anything else.
//
// The datapath takes a while to drop the decisions that it has kept. A packet that
// comes meanwhile may bring a connection back as it was: it has to be looked at
// again.
type forgetter struct {
	forgetterParams
	loop, settling *reconcile.Loop

	mu sync.Mutex
	// pending are to be forgotten, flushed have been.
	pending, flushed []service.Connection
}

func newForgetter(p forgetterParams) *forgetter {
	f := &forgetter{forgetterParams: p}
	loop := func(name string, run func(context.Context) error) *reconcile.Loop {
		return reconcile.New(reconcile.Params{
			Name: name, Reconcile: run,
			MinInterval: 10 * time.Millisecond, MaxInterval: time.Hour,
			RetryBase: 100 * time.Millisecond, RetryMax: 10 * time.Second,
		})
	}
	f.loop, f.settling = loop("connections", f.reconcile), loop("connections again", f.settle)
	return f
}

// add asks for connections to be forgotten. It may be called from any goroutine.
func (f *forgetter) add(connections []service.Connection) {
	if len(connections) == 0 {
		return
	}
	f.mu.Lock()
	f.pending = append(f.pending, connections...)
	f.mu.Unlock()
	f.loop.Mark()
}

// reconcile forgets all that is pending. What fails is tried again, but for what
// the switch refuses: it is too old to be asked.
func (f *forgetter) reconcile(ctx context.Context) error {
	for {
		f.mu.Lock()
		n := min(len(f.pending), forgetAtOnce)
		batch := f.pending[:n:n]
		f.mu.Unlock()
		if n == 0 {
			return nil
		}
		err := f.forget(ctx, connectionsOf(batch))
		switch {
		case errors.Is(err, openflow.ErrRefused):
			klog.FromContext(ctx).Error(err, "Connections to endpoints that are gone last until they end by themselves")
		case err != nil:
			return fmt.Errorf("%d kinds of connections to endpoints that are gone: %w", n, err)
		}
		f.mu.Lock()
		f.pending, f.flushed = f.pending[n:], append(f.flushed, batch...)
		f.mu.Unlock()
		f.settling.Mark()
	}
}

// settle waits until what was forgotten can only come back as it should be.
func (f *forgetter) settle(ctx context.Context) error {
	f.mu.Lock()
	flushed := f.flushed
	f.mu.Unlock()
	if len(flushed) == 0 {
		return nil
	}
	if err := f.settled(ctx); err != nil {
		return fmt.Errorf("wait for the datapath: %w", err)
	}
	f.mu.Lock()
	f.flushed = f.flushed[len(flushed):]
	f.mu.Unlock()
	f.again(flushed)
	return nil
}

// connectionsOf are the connections of the switch that the Services mean.
func connectionsOf(list []service.Connection) []flow.Connection {
	out := make([]flow.Connection, 0, len(list))
	for _, c := range list {
		out = append(out, flow.Connection{
			Zone: pipeline.ZoneOf(c.Frontend.Addr()), Protocol: uint8(c.Protocol),
			Original: flow.Tuple{Dst: c.Frontend}, Reply: flow.Tuple{Src: c.Endpoint},
		})
	}
	return out
}

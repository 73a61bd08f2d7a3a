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

// forgetter has the switch forget connections that must not go on. For each kind
// the switch looks through all that it has, which must not hold up anything else.
type forgetter struct {
	// forget is openflow.Target.ForgetConnections.
	forget func(context.Context, []flow.Connection) error
	loop   *reconcile.Loop

	mu      sync.Mutex
	pending []flow.Connection
}

func newForgetter(forget func(context.Context, []flow.Connection) error) *forgetter {
	f := &forgetter{forget: forget}
	f.loop = reconcile.New(reconcile.Params{
		Name: "connections", Reconcile: f.reconcile,
		MinInterval: 10 * time.Millisecond, MaxInterval: time.Hour,
		RetryBase: 100 * time.Millisecond, RetryMax: 10 * time.Second,
	})
	return f
}

// add asks for connections to be forgotten. It may be called from any goroutine.
func (f *forgetter) add(connections []flow.Connection) {
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
		err := f.forget(ctx, batch)
		switch {
		case errors.Is(err, openflow.ErrRefused):
			klog.FromContext(ctx).Error(err, "Connections to endpoints that are gone last until they end by themselves")
		case err != nil:
			return fmt.Errorf("%d kinds of connections to endpoints that are gone: %w", n, err)
		}
		f.mu.Lock()
		f.pending = f.pending[n:]
		f.mu.Unlock()
	}
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

// SPDX-License-Identifier: Apache-2.0

package refuse

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/answer"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// Meter limits the packets that the switch sends to Run.
func Meter() flow.Meter { return flow.Meter{ID: pipeline.RefuseMeter, Rate: 1000, Burst: 1000} }

const (
	// logRate is how many failures are logged in a second at most.
	logRate = 10
	// injectTimeout bounds how long a switch that does not answer holds up Run.
	injectTimeout = 5 * time.Second
)

// Switch sends packets. *openflow.Target implements it.
type Switch interface {
	Inject(ctx context.Context, inPort uint32, frame []byte, actions []flow.Action) error
}

// Params are what New needs.
type Params struct {
	Switch Switch
}

// Stats count the packets that Run got since the start, by what became of them.
type Stats struct {
	// Resets were answered by a TCP reset, Unreachables by an ICMP error.
	Resets, Unreachables uint64
	// Unanswered are those that nobody may answer: resets, ICMP errors, later
	// fragments, and what comes from no single host.
	Unanswered uint64
	// Failed could not be read, or the switch did not take the answer.
	Failed uint64
}

// Refuser answers packets.
type Refuser struct {
	params                                   Params
	resets, unreachables, unanswered, failed atomic.Uint64
}

// New returns a Refuser that does nothing until Run is called.
func New(params Params) *Refuser { return &Refuser{params: params} }

// Stats returns what Run did since the start.
func (r *Refuser) Stats() Stats {
	return Stats{
		Resets: r.resets.Load(), Unreachables: r.unreachables.Load(), Unanswered: r.unanswered.Load(), Failed: r.failed.Load(),
	}
}

// Run answers packets until ctx ends and returns the cause.
func (r *Refuser) Run(ctx context.Context, packets <-chan openflow.PacketIn) error {
	limit := rate.NewLimiter(logRate, logRate)
	for {
		select {
		case p := <-packets:
			if err := r.refuse(ctx, p.Data); err != nil && limit.Allow() {
				klog.FromContext(ctx).Error(err, "Cannot refuse a connection to a Service")
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// refuse answers one packet and counts it.
func (r *Refuser) refuse(ctx context.Context, frame []byte) error {
	out, count, err := r.answer(frame)
	if err == nil {
		ctx, cancel := context.WithTimeoutCause(ctx, injectTimeout, errors.New("the switch does not answer"))
		defer cancel()
		err = r.params.Switch.Inject(ctx, flow.PortController, out, pipeline.ToClient())
	}
	switch {
	case err == nil:
		count.Add(1)
	case errors.Is(err, answer.ErrUnanswerable), errors.Is(err, answer.ErrIsReset):
		r.unanswered.Add(1)
		return nil
	default:
		r.failed.Add(1)
	}
	return err
}

// answer makes the answer to a frame, and says what counts those of its kind.
func (r *Refuser) answer(frame []byte) (out []byte, count *atomic.Uint64, err error) {
	p, err := answer.ParsePacket(frame)
	if err != nil {
		return nil, nil, fmt.Errorf("packet to a Service: %w", err)
	}
	segment, err := p.Segment()
	switch {
	case err == nil:
		out, err = segment.ToSender()
		return out, &r.resets, err
	case errors.Is(err, answer.ErrNotTCP):
		out, err = p.Unreachable()
		return out, &r.unreachables, err
	}
	return nil, nil, fmt.Errorf("packet from %s to %s: %w", p.Src, p.Dst, err)
}

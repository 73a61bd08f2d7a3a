// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"github.com/waymark-net/waymark/internal/refuse"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// refusals tell clients of Services without endpoints so.
type refusals struct {
	queue   *openflow.PacketQueue
	refuser *refuse.Refuser
}

func newRefusals(flows refuse.Switch) *refusals {
	return &refusals{
		// What the meter lets through at once is answered at once, or a little later.
		queue: openflow.NewPacketQueue(openflow.PacketQueueParams{
			Tables: []uint8{pipeline.TableRefuse}, Size: int(refuse.Meter().Burst),
		}),
		refuser: refuse.New(refuse.Params{Switch: flows}),
	}
}

func (r *refusals) run(ctx context.Context) error { return r.refuser.Run(ctx, r.queue.Packets()) }

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// LearnedFlow is a flow that the switch made for a flow.Learn.
type LearnedFlow struct {
	flow.Flow
	// IdleTimeout and HardTimeout are in seconds; 0 is none.
	IdleTimeout, HardTimeout uint16
	// Packets counts those that met the flow, also before it was learned again
	// with other actions. One whose counter does not move is idle: so timeouts
	// can be kept that do not fit 16 bits.
	Packets uint64
}

// LearnedFlows reads the flows of a table of Params.Learned from the switch, in
// no order. Counters of packets that the datapath has forwarded arrive within
// seconds. It uses a connection of its own. Flows that Waymark cannot have
// taught are left out.
func (t *Target) LearnedFlows(ctx context.Context, table uint8) ([]LearnedFlow, error) {
	if !t.params.learned(table) {
		return nil, fmt.Errorf("read learned flows: table %d has none", table)
	}
	c, err := dial(ctx, t.params.Socket)
	if err != nil {
		return nil, fmt.Errorf("read learned flows: %w", err)
	}
	defer c.close()
	var out []LearnedFlow
	err = c.dump(ctx, flowStatsRequest(table, nil), of.MultipartType_Flow, func(body []byte) error {
		return eachFlow(body, func(r rawFlow) {
			if f, err := r.decode(); err == nil {
				out = append(out, LearnedFlow{
					Flow: f, IdleTimeout: uint16(r.timeouts >> 16), HardTimeout: uint16(r.timeouts), Packets: r.packets,
				})
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read learned flows: %w", err)
	}
	return out, nil
}

// RemoveLearned removes from a table of Params.Learned all flows that compare at
// least what one of matches does, and returns when they are gone: the Match of a
// LearnedFlow removes that flow, an empty one everything. Without matches nothing
// happens. It uses a connection of its own. What the switch refuses is ErrRefused
// and leaves the others done.
func (t *Target) RemoveLearned(ctx context.Context, table uint8, matches []flow.Match) error {
	if !t.params.learned(table) {
		return fmt.Errorf("remove learned flows: table %d has none", table)
	}
	if len(matches) == 0 {
		return nil
	}
	var errs []error
	builders := make([]builder, 0, len(matches)+1)
	for _, m := range matches {
		errs = append(errs, m.Check())
		builders = append(builders, flowMod(of.FC_DELETE, flow.Key{Table: table}, 0, encodeMatch(m), ""))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove learned flows: %w", err)
	}
	c, err := dial(ctx, t.params.Socket)
	if err != nil {
		return fmt.Errorf("remove learned flows: %w", err)
	}
	defer c.close()
	refused, err := c.untilBarrier(ctx, c.next(), append(builders, plainMessage(of.Type_BarrierRequest)))
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil {
		return fmt.Errorf("remove learned flows: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// ofswitch is a connected switch as the Target sees it. Its methods are called
// by one goroutine. An error that is neither an entryError nor a SwitchError
// means that the connection is of no more use.
type ofswitch interface {
	flows(ctx context.Context) ([]rawFlow, error)
	groups(ctx context.Context) ([]rawGroup, error)
	// commit does all of ops or, with an error, none.
	commit(ctx context.Context, ops []op) error
	meters(ctx context.Context) ([]flow.Meter, error)
	setMeters(ctx context.Context, change meterChange) error
	changes() <-chan struct{}
	lost() <-chan struct{}
	cause() error
	close()
}

func (c *conn) flows(ctx context.Context) ([]rawFlow, error) {
	var out []rawFlow
	err := c.dump(ctx, flowDumpRequest, of.MultipartType_Flow, func(body []byte) error {
		part, err := parseFlowStats(body)
		out = append(out, part...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the flows of the switch: %w", err)
	}
	return out, nil
}

func (c *conn) groups(ctx context.Context) ([]rawGroup, error) {
	var out []rawGroup
	err := c.dump(ctx, groupDumpRequest, of.MultipartType_GroupDesc, func(body []byte) error {
		part, err := parseGroupDesc(body)
		out = append(out, part...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the groups of the switch: %w", err)
	}
	return out, nil
}

// dump asks for statistics and collects every part of the reply.
func (c *conn) dump(ctx context.Context, request builder, kind uint16, part func(body []byte) error) error {
	return c.exchange(ctx, c.next(), []builder{request}, func(_ int, msg []byte) (bool, error) {
		switch k := parseHeader(msg).kind; k {
		case of.Type_Error:
			return true, parseError(msg)
		case of.Type_MultiPartReply:
			body, more, err := multipartBody(msg, kind)
			if err != nil {
				return true, err
			}
			return !more, part(body)
		default:
			return true, fmt.Errorf("message of type %d instead of statistics", k)
		}
	})
}

// commit sends ops as one bundle. The bundle is closed only after a barrier
// has shown that the switch took every message, because Open vSwitch commits
// what it took even if it refused some.
func (c *conn) commit(ctx context.Context, ops []op) error {
	b := bundle{id: c.next()}
	builders := make([]builder, 0, len(ops)+2)
	builders = append(builders, b.control(of.OFPBCT_OPEN_REQUEST))
	for _, o := range ops {
		builders = append(builders, b.add(o.message()))
	}
	builders = append(builders, plainMessage(of.Type_BarrierRequest))

	first := c.next()
	failed, err := c.untilBarrier(ctx, first, builders)
	var unsent *messageError
	if errors.As(err, &unsent) {
		return &entryError{op: ops[unsent.index-1], err: unsent.err}
	}
	if err != nil {
		return err
	}
	if failed != nil {
		err := nameEntry(failed, first, ops)
		discard := []builder{b.control(of.OFPBCT_DISCARD_REQUEST), plainMessage(of.Type_BarrierRequest)}
		if _, lost := c.untilBarrier(ctx, c.next(), discard); lost != nil {
			return lost
		}
		return err
	}
	// The switch reports a failure under the number of the refused message
	// first and then under that of the commit.
	failed, err = c.untilBarrier(ctx, first, []builder{
		b.control(of.OFPBCT_COMMIT_REQUEST), plainMessage(of.Type_BarrierRequest),
	})
	if err != nil {
		return err
	}
	if failed != nil {
		return nameEntry(failed, first, ops)
	}
	return nil
}

// untilBarrier sends messages of which the last is a barrier and returns the
// first error message that arrived before its reply.
func (c *conn) untilBarrier(ctx context.Context, from uint32, builders []builder) (*SwitchError, error) {
	var failed *SwitchError
	err := c.exchange(ctx, from, builders, func(_ int, msg []byte) (bool, error) {
		h := parseHeader(msg)
		if h.kind == of.Type_Error && failed == nil {
			failed = parseError(msg)
		}
		return h.kind == of.Type_BarrierReply, nil
	})
	return failed, err
}

// nameEntry finds the flow or group that an error is about. The message with
// number first opened the bundle.
func nameEntry(e *SwitchError, first uint32, ops []op) error {
	if i := int64(e.xid) - int64(first) - 1; i >= 0 && i < int64(len(ops)) {
		return &entryError{op: ops[i], err: e}
	}
	return e
}

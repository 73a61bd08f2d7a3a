// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/binary"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// CounterFilter chooses flows. An empty list chooses by nothing.
type CounterFilter struct {
	Owners []string
	Tables []uint8
}

// FlowCounter says what a flow in the switch has matched since it was added or
// last replaced.
type FlowCounter struct {
	Key            flow.Key
	Cookie         uint64
	Packets, Bytes uint64
}

// Counters reads the counters of the flows that filter chooses from the switch,
// in no order. It does so on a connection of its own, which it closes again: to
// read very many flows takes seconds, during which changes go on over the
// connection of Run. Flows whose match Waymark does not know are left out.
func (t *Target) Counters(ctx context.Context, filter CounterFilter) ([]FlowCounter, error) {
	c, err := dial(ctx, t.params.Socket)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	defer c.close()
	cookies := map[uint64]bool{}
	for _, owner := range filter.Owners {
		cookies[Cookie(owner)] = true
	}
	tables := filter.Tables
	if len(tables) == 0 {
		tables = []uint8{everyTable}
	}
	var out []FlowCounter
	for _, table := range tables {
		request := flowStatsRequest(table, cookies)
		err := c.dump(ctx, request, of.MultipartType_Flow, func(body []byte) error {
			return eachFlow(body, func(r rawFlow) {
				match, err := decodeMatch(r.match)
				if err != nil || len(cookies) > 0 && !cookies[r.cookie] {
					return
				}
				key := flow.Flow{Table: r.table, Priority: r.priority, Match: match}.Key()
				out = append(out, FlowCounter{Key: key, Cookie: r.cookie, Packets: r.packets, Bytes: r.bytes})
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read counters: %w", err)
		}
	}
	return out, nil
}

// everyTable is OFPTT_ALL.
const everyTable uint8 = 0xff

// flowStatsRequest asks for the flows of a table. The switch can choose by one
// cookie.
func flowStatsRequest(table uint8, cookies map[uint64]bool) builder {
	return func(xid uint32) ([]byte, error) {
		body := of.NewFlowStatsRequest()
		body.TableId = table
		if len(cookies) == 1 {
			for c := range cookies {
				body.Cookie, body.CookieMask = c, 1<<64-1
			}
		}
		r := of.MultipartRequest{Header: newHeader(of.Type_MultiPartRequest, xid), Type: of.MultipartType_Flow, Body: body}
		return r.MarshalBinary()
	}
}

// eachFlow reads the flows of one part of a reply.
func eachFlow(body []byte, do func(rawFlow)) error {
	for len(body) > 0 {
		if len(body) < flowDescLen {
			return errShort
		}
		n := int(binary.BigEndian.Uint16(body))
		if n < flowDescLen || n > len(body) {
			return fmt.Errorf("flow description of length %d", n)
		}
		e := body[:n]
		body = body[n:]
		match, rest, err := cutMatch(e[flowDescLen:])
		if err != nil {
			return err
		}
		packets, bytes, instructions, err := cutStats(rest)
		if err != nil {
			return err
		}
		do(rawFlow{
			table:    e[4],
			priority: binary.BigEndian.Uint16(e[6:]),
			timeouts: binary.BigEndian.Uint32(e[8:]),
			flags:    binary.BigEndian.Uint16(e[12:]),
			cookie:   binary.BigEndian.Uint64(e[16:]),
			packets:  packets,
			bytes:    bytes,
			match:    match,
			actions:  instructions,
		})
	}
	return nil
}

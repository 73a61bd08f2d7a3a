// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"testing"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/google/go-cmp/cmp"
)

// TestConnectHearsOfChanges: what others change in tables that are not learned is
// heard of, also while an answer is waited for.
func TestConnectHearsOfChanges(t *testing.T) {
	update := func(table uint8) []byte {
		return message(of.Type_MultiPartReply, 0, append([]byte{0, multipartFlowMonitor, 0, 0, 0, 0, 0, 0,
			0, flowUpdateLen, 0, flowRemoved, table}, make([]byte, flowUpdateLen-5)...)...)
	}
	serveBy(t, connectAudited, func(p *peer) {
		p.send(hello(version))
		p.next(of.Type_SetConfig)
		p.send(message(of.Type_BarrierReply, parseHeader(p.next(of.Type_BarrierRequest)).xid))
		m := p.next(of.Type_MultiPartRequest)
		want := message(of.Type_MultiPartRequest, parseHeader(m).xid, 0, 16, 0, 0, 0, 0, 0, 0,
			0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0xe, 0xff, 0, 0, 1, 0, 4, 0, 0, 0, 0)
		if diff := cmp.Diff(want, m); diff != "" {
			p.t.Errorf("request (-want +got):\n%s", diff)
		}
		p.send(message(of.Type_MultiPartReply, parseHeader(m).xid, 0, multipartFlowMonitor, 0, 0, 0, 0, 0, 0))
		for _, table := range []uint8{63, 62} {
			barrier := parseHeader(p.next(of.Type_BarrierRequest)).xid
			p.send(update(table))
			p.send(message(of.Type_BarrierReply, barrier))
		}
	}, func(t *testing.T, c *conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, heard := range []bool{false, true} {
			if _, err := c.untilBarrier(t.Context(), c.next(), []builder{plainMessage(of.Type_BarrierRequest)}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-c.changes():
				if !heard {
					t.Error("a learned flow counts as a change")
				}
			default:
				if heard {
					t.Error("a change was not heard of")
				}
			}
		}
	})
}

// updateOf is an update about a flow of a table, without the flow.
func updateOf(event, table uint8) []byte {
	return append([]byte{0, flowUpdateLen, 0, event, table}, make([]byte, flowUpdateLen-5)...)
}

// foreignChanges are updates, and whether they say that somebody else changed flows.
var foreignChanges = []struct {
	name    string
	updates []byte
	want    bool
}{
	{"nothing", nil, false},
	{"added", updateOf(flowAdded, 0), true},
	{"removed", updateOf(flowRemoved, 10), true},
	{"modified", updateOf(flowModified, 22), true},
	{"learned", append(updateOf(flowAdded, 63), updateOf(flowRemoved, 63)...), false},
	{"learned and another", append(updateOf(flowAdded, 63), updateOf(flowAdded, 62)...), true},
	{"own", []byte{0, 8, 0, 4, 0, 0, 0, 9}, false},
	{"paused and resumed", []byte{0, 8, 0, 5, 0, 0, 0, 0, 0, 8, 0, 6, 0, 0, 0, 0}, false},
	{"cut off", []byte{0, 8, 0}, true},
	{"too short", []byte{0, 3, 0, 4}, true},
	{"too long", []byte{0, 9, 0, 4, 0, 0, 0, 0}, true},
	{"update without its table", []byte{0, 4, 0, flowAdded}, true},
}

func only63(table uint8) bool { return table == 63 }

// TestForeignChange: updates of flows that are the switch's own, and those that say
// nothing of flows, are not another's changes. What is broken may be.
func TestForeignChange(t *testing.T) {
	for _, tt := range foreignChanges {
		if got := foreignChange(tt.updates, only63); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzForeignChange(f *testing.F) {
	for _, tt := range foreignChanges {
		f.Add(tt.updates)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// What comes after whole updates does not undo them.
		if whole := append(updateOf(flowAdded, 62), b...); !foreignChange(whole, only63) {
			t.Errorf("%x: a change is not seen before that", b)
		}
		changed := make(chan struct{}, 1)
		changesOf(changed, only63)(message(of.Type_MultiPartReply, 0, b...))
	})
}

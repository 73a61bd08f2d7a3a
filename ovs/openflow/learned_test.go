// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

func TestLearnedFlows(t *testing.T) {
	known := reported(t, parse(t, "cookie=0x5,table=63, priority=100,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13"), 9)
	known[9], known[11] = 30, 60
	unknown := reported(t, parse(t, "table=63, priority=9 actions=drop"))
	unknown = append(unknown, 0, 99, 0, 8, 0, 0, 0, 0) // an instruction nobody knows
	unknown[1] += 8
	read := func(ctx context.Context, socket string) (*conn, error) {
		got, err := New(Params{Socket: socket, Learned: []uint8{63}}).LearnedFlows(ctx, 63)
		want := []LearnedFlow{{
			Flow:        parse(t, "cookie=0x5,table=63, priority=100,ip,reg12=0x5,nw_src=10.0.0.1 actions=set_field:0x2->reg13"),
			IdleTimeout: 30, HardTimeout: 60, Packets: 9,
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		return nil, err
	}
	serveBy(t, read, func(p *peer) {
		p.send(hello(version))
		m := p.next(of.Type_MultiPartRequest)
		if table := m[headerLen+8]; table != 63 {
			t.Errorf("table %d is asked for", table)
		}
		body := append([]byte{0, 1, 0, 0, 0, 0, 0, 0}, known...)
		p.send(message(of.Type_MultiPartReply, parseHeader(m).xid, append(body, unknown...)...))
	}, func(t *testing.T, _ *conn, err error) {
		if err != nil {
			t.Error(err)
		}
	})
}

func TestRemoveLearnedRefused(t *testing.T) {
	remove := func(ctx context.Context, socket string) (*conn, error) {
		target := New(Params{Socket: socket, Learned: []uint8{63}})
		return nil, target.RemoveLearned(ctx, 63, []flow.Match{{flow.Reg(12, 5, ^uint32(0))}})
	}
	serveBy(t, remove, func(p *peer) {
		p.send(hello(version))
		m := p.next(of.Type_FlowMod)
		if m[headerLen+16] != 63 || m[headerLen+17] != of.FC_DELETE {
			t.Errorf("table %d, command %d", m[headerLen+16], m[headerLen+17])
		}
		barrier := p.next(of.Type_BarrierRequest)
		p.send(message(of.Type_Error, parseHeader(m).xid, 0, 5, 0, 4), message(of.Type_BarrierReply, parseHeader(barrier).xid))
	}, func(t *testing.T, _ *conn, err error) {
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "remove learned flows") {
			t.Errorf("error %v", err)
		}
	})
}

func TestLearnedInvalid(t *testing.T) {
	target := New(Params{Socket: "/nonexistent", Learned: []uint8{63}})
	_, err := target.LearnedFlows(t.Context(), 62)
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"another table":    {err, "table 62 has none"},
		"of another table": {target.RemoveLearned(t.Context(), 0, []flow.Match{{}}), "table 0 has none"},
		"invalid match":    {target.RemoveLearned(t.Context(), 63, []flow.Match{{flow.IPProto(6)}}), "needs a match"},
		"no switch":        {target.RemoveLearned(t.Context(), 63, []flow.Match{{}}), "connect to the switch"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, tc.err, tc.want)
		}
	}
	if err := target.RemoveLearned(t.Context(), 63, nil); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
}

// TestLearnedTables: the flows in them are the business of the switch.
func TestLearnedTables(t *testing.T) {
	m := newMemory(t)
	learned := simple(63, 9, 1)
	m.table[learned.Key()] = learned
	m.alien = []rawFlow{{table: 63, match: []byte{0, 1, 35<<1 | 1, 4, 0, 2, 0, 2}}, {table: 62, match: []byte{0, 1, 35<<1 | 1, 4, 0, 2, 0, 2}}}
	fresh := 0
	synctest.Test(t, func(t *testing.T) {
		target := New(Params{AuditInterval: 5 * time.Second, Learned: []uint8{63}, Fresh: func() { fresh++ }})
		target.dial = func(context.Context) (ofswitch, error) { return m.dial() }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- target.Run(ctx) }()
		mustUpdate(t, target, "a", simple(0, 1, 1))
		target.Complete()
		mustSync(t, target)
		wantLog(t, m, "start", "add 0/1; delete foreign")
		m.change(func() {
			other := simple(63, 8, 1)
			m.table[other.Key()] = other
			m.alien = []rawFlow{{table: 63, match: []byte{0, 1, 35<<1 | 1, 4, 0, 2, 0, 2}}}
		})
		time.Sleep(12 * time.Second)
		wantLog(t, m, "audits")
		if s := target.Stats(); s.Repairs != 0 || s.Audits != 2 {
			t.Errorf("stats %+v", s)
		}
		for name, err := range map[string]error{
			"update": target.Update("a", []flow.Flow{learned}, nil),
			"patch":  target.Patch(flow.Change{Owner: "a", Set: []flow.Flow{learned}}),
		} {
			if err == nil || !strings.Contains(err.Error(), "only the switch makes flows in table 63") {
				t.Errorf("%s: %v", name, err)
			}
		}
		astray := simple(0, 1, 1)
		astray.Actions = []flow.Action{flow.Learn{Table: 62}}
		if err := target.Update("a", []flow.Flow{astray}, nil); err == nil || !strings.Contains(err.Error(), "table 62 is not for what is learned") {
			t.Errorf("learning what is then removed: %v", err)
		}
		cancel()
		<-done
	})
	if fresh != 0 {
		t.Error("a switch that has a flow of a former version is fresh")
	}
	if len(m.table) != 3 {
		t.Errorf("%d flows, want 3", len(m.table))
	}
}

// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// packetInMessage lays out a packet-in of these properties.
func packetInMessage(properties ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, of.NxExperimenterID)
	b = binary.BigEndian.AppendUint32(b, nxtPacketIn2)
	return message(of.Type_Experimenter, 0, append(b, bytes.Join(properties, nil)...)...)
}

func property(kind uint16, value ...byte) []byte { return appendProperty(nil, kind, value) }

// metadata holds reg5=7, a field that Waymark does not know, and in_port=1.
var metadata = []byte{0, 1, 5 << 1, 4, 0, 0, 0, 7, 0, 1, 120 << 1, 4, 9, 9, 9, 9, 0x80, 0, 0, 4, 0, 0, 0, 1}

func wholePacketIn() []byte {
	return packetInMessage(
		property(packetInPacket, 1, 2, 3), property(packetInFullLen, 0, 0, 0, 60), property(packetInTable, 44, 0, 0, 0),
		property(packetInCookie, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), property(5, 1, 0, 0, 0),
		property(packetInMetadata, metadata...), property(packetInUserdata, 0xab),
	)
}

func TestParsePacketIn(t *testing.T) {
	got, ours, err := parsePacketIn(wholePacketIn())
	if err != nil || !ours {
		t.Fatalf("ours %v, error %v", ours, err)
	}
	want := PacketIn{
		Table: 44, Cookie: 0x0102030405060708, Userdata: []byte{0xab}, Data: []byte{1, 2, 3}, Length: 60,
		Metadata: flow.Match{flow.Reg(5, 7, ^uint32(0)), flow.InPort(1)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, _, err = parsePacketIn(packetInMessage(property(packetInPacket, 1, 2))); err != nil || got.Length != 2 {
		t.Errorf("without its length: %+v, %v", got, err)
	}
	for _, tc := range []struct {
		name string
		msg  []byte
		want string
	}{
		{"cut", packetInMessage([]byte{0, 0, 0, 9, 1}), "too short"},
		{"length below its header", packetInMessage([]byte{0, 0, 0, 3, 0, 0, 0, 0}), "of length 3"},
		{"cookie of 4 bytes", packetInMessage(property(packetInCookie, 1, 2, 3, 4)), "property 4 of 4 bytes"},
		{"table of none", packetInMessage(property(packetInTable)), "property 3 of 0 bytes"},
		{"length of 2 bytes", packetInMessage(property(packetInFullLen, 1, 2)), "property 1 of 2 bytes"},
		{"more than all", packetInMessage(property(packetInPacket, 1, 2), property(packetInFullLen, 0, 0, 0, 1)), "2 bytes of a packet of 1"},
		{"field cut", packetInMessage(property(packetInMetadata, metadata[:6]...)), "too short"},
		{"field of wrong length", packetInMessage(property(packetInMetadata, 0, 1, 5<<1, 2, 1, 2)), "has 2 bytes"},
	} {
		if _, ours, err := parsePacketIn(tc.msg); !ours || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
	for _, other := range [][]byte{message(of.Type_PacketIn, 0, make([]byte, 40)...), message(of.Type_Experimenter, 0), message(of.Type_Experimenter, 0, 0, 0, 0x23, 0x20, 0, 0, 0, 11)} {
		if _, ours, err := parsePacketIn(other); ours || err != nil {
			t.Errorf("%x: ours %v, error %v", other, ours, err)
		}
	}
}

func FuzzParsePacketIn(f *testing.F) {
	f.Add(wholePacketIn())
	f.Add(packetInMessage(property(packetInMetadata, metadata[:6]...)))
	f.Add(packetInMessage([]byte{0, 0, 0, 5, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerLen {
			return
		}
		in, _, err := parsePacketIn(b)
		if err != nil {
			return
		}
		if in.Length < len(in.Data) || len(in.Data) > len(b) {
			t.Errorf("%d bytes of a packet of %d in a message of %d", len(in.Data), in.Length, len(b))
		}
		if err := in.Metadata.Canonical().Check(); err != nil && !strings.Contains(err.Error(), "named twice") && !strings.Contains(err.Error(), "needs a match") && !strings.Contains(err.Error(), "cannot be masked") {
			t.Errorf("metadata %s: %v", in.Metadata, err)
		}
		_ = in.Metadata.String()
	})
}

func FuzzParseMeters(f *testing.F) {
	f.Add(meterConfig(flow.Meter{ID: 3, Rate: 1, Burst: 5}))
	f.Add([]byte{0, 8, 0, 1, 0, 0, 0, 9})
	f.Fuzz(func(_ *testing.T, b []byte) {
		meters, err := parseMeters(b)
		if err == nil {
			diffMeters(meters, nil)
		}
	})
}

// fromTable is a packet-in of a table.
func fromTable(table uint8) []byte {
	return packetInMessage(property(packetInPacket, 1, 2), property(packetInTable, table, 0, 0, 0))
}

func TestPacketInsAreBounded(t *testing.T) {
	q := NewPacketQueue(PacketQueueParams{Tables: []uint8{44}, Size: 2})
	p := NewPacketIns(PacketInsParams{Queues: []*PacketQueue{q}})
	for range 5 {
		p.receive(wholePacketIn())
	}
	p.receive(packetInMessage([]byte{0}))
	p.receive(message(of.Type_PortStatus, 0, make([]byte, 72)...))
	if q.Lost() != 3 || p.Malformed() != 1 || len(q.Packets()) != 2 {
		t.Errorf("%d lost, %d malformed, %d waiting", q.Lost(), p.Malformed(), len(q.Packets()))
	}
	other := NewPacketQueue(PacketQueueParams{})
	if n := cap(other.Packets()); n != DefaultPacketQueue {
		t.Errorf("room for %d packets by default", n)
	}
}

// TestPacketInsAreSorted: a flood of one kind takes no other's place.
func TestPacketInsAreSorted(t *testing.T) {
	denied := NewPacketQueue(PacketQueueParams{Tables: []uint8{44}, Size: 2})
	others := NewPacketQueue(PacketQueueParams{Tables: []uint8{46, 47}, Size: 3})
	p := NewPacketIns(PacketInsParams{Queues: []*PacketQueue{denied, others}})
	for range 100 {
		p.receive(fromTable(44))
	}
	for _, table := range []uint8{46, 0, 47, 45} {
		p.receive(fromTable(table))
	}
	type outcome struct {
		Tables []uint8
		Lost   uint64
	}
	read := func(q *PacketQueue) (o outcome) {
		o.Lost = q.Lost()
		for range len(q.Packets()) {
			o.Tables = append(o.Tables, (<-q.Packets()).Table)
		}
		return o
	}
	want := []outcome{{[]uint8{44, 44}, 98}, {[]uint8{46, 47}, 0}}
	if diff := cmp.Diff(want, []outcome{read(denied), read(others)}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPacketInsConnect plays a switch that sends a packet and goes away.
func TestPacketInsConnect(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		open := func(ctx context.Context, socket string) (*conn, error) {
			q := NewPacketQueue(PacketQueueParams{Tables: []uint8{44}})
			p := NewPacketIns(PacketInsParams{Socket: socket, Queues: []*PacketQueue{q}})
			connected, err := p.runOnce(ctx)
			if connected == refuse || errors.Is(err, ErrRefused) != refuse {
				t.Errorf("refused %v: connected %v, error %v", refuse, connected, err)
			}
			if got := len(q.Packets()); !refuse && got != 1 {
				t.Errorf("%d packets arrived", got)
			}
			return nil, nil
		}
		serveBy(t, open, func(p *peer) {
			p.send(hello(version))
			config := p.next(of.Type_SetConfig)
			if diff := cmp.Diff([]byte{0, 3, 0xff, 0xff}, config[headerLen:]); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			format := p.next(of.Type_Experimenter)
			if diff := cmp.Diff([]byte{0, 0, 0x23, 0x20, 0, 0, 0, 16, 0, 0, 0, 2}, format[headerLen:]); diff != "" {
				t.Errorf("format (-want +got):\n%s", diff)
			}
			async := p.next(of.Type_SetAsync)
			// Packets of actions to both kinds of roles, and nothing else.
			want := []byte{0, 0, 0, 8, 0, 0, 0, 0x3b, 0, 1, 0, 8, 0, 0, 0, 0x3b, 0, 2, 0, 8, 0, 0, 0, 0}
			if diff := cmp.Diff(want, async[headerLen:headerLen+len(want)]); diff != "" {
				t.Errorf("asynchronous messages (-want +got):\n%s", diff)
			}
			barrier := parseHeader(p.next(of.Type_BarrierRequest)).xid
			if refuse {
				p.send(message(of.Type_Error, parseHeader(format).xid, 0, 1, 0, 3))
			}
			p.send(message(of.Type_BarrierReply, barrier))
			if !refuse {
				p.send(wholePacketIn())
			}
		}, func(*testing.T, *conn, error) {})
	}
}

func TestPacketInsWaitForSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := NewPacketIns(PacketInsParams{Socket: "/nonexistent/none.mgmt"}).Run(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v", err)
		}
	})
}

// meterConfig is a meter as a switch reports it.
func meterConfig(m flow.Meter) []byte {
	b := []byte{0, 24, 0, meterFlagPackets, 0, 0, 0, byte(m.ID), 0, meterBandDrop, 0, meterBandLen}
	if m.Burst > 0 {
		b[3] |= meterFlagBurst
	}
	b = binary.BigEndian.AppendUint32(b, m.Rate)
	b = binary.BigEndian.AppendUint32(b, m.Burst)
	return append(b, 0, 0, 0, 0)
}

func TestParseMeters(t *testing.T) {
	want := []flow.Meter{{ID: 1, Rate: 5}, {ID: 2, Rate: 9, Burst: 3}, {ID: 9}}
	kbps := meterConfig(flow.Meter{ID: 9, Rate: 7})
	kbps[3] = 1
	got, err := parseMeters(bytes.Join([][]byte{meterConfig(want[0]), meterConfig(want[1]), kbps}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range [][]byte{{0, 8, 0}, {0, 7, 0, 0, 0, 0, 0, 1}, {0, 24, 0, 0, 0, 0, 0, 1}} {
		if _, err := parseMeters(bad); err == nil {
			t.Errorf("%x is a meter", bad)
		}
	}
}

func TestTargetKeepsMeters(t *testing.T) {
	want := []flow.Meter{{ID: 3, Rate: 1, Burst: 5}, {ID: 4, Rate: 100}}
	for _, tc := range []struct {
		name     string
		have     []flow.Meter
		noMeters bool
		log      []string
		after    []flow.Meter
	}{
		{"none there", nil, false, []string{"meters +2 ~0 -0", "add 0/1"}, want},
		{"as wanted", want, false, []string{"add 0/1"}, want},
		{"others", []flow.Meter{{ID: 3, Rate: 2}, {ID: 9, Rate: 1}}, false, []string{"meters +1 ~1 -1", "add 0/1"}, []flow.Meter{want[1], want[0]}},
		{"a switch without meters", nil, true, []string{"add 0/1"}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t)
			m.metersT, m.noMeters = append([]flow.Meter(nil), tc.have...), tc.noMeters
			target := New(Params{Meters: want})
			target.dial = func(context.Context) (ofswitch, error) { return m.dial() }
			mustUpdate(t, target, "a", simple(0, 1, 1))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- target.Run(ctx) }()
			mustSync(t, target)
			wantLog(t, m, tc.name, tc.log...)
			if diff := cmp.Diff(tc.after, m.metersT); diff != "" {
				t.Errorf("%s: meters (-want +got):\n%s", tc.name, diff)
			}
			if !tc.noMeters {
				m.change(func() { m.metersT = m.metersT[:1] })
			}
			time.Sleep(time.Minute)
			if s := target.Stats(); (s.Repairs == 1) == tc.noMeters {
				t.Errorf("%s: stats %+v", tc.name, s)
			}
			cancel()
			<-done
		})
	}
	err := New(Params{Meters: []flow.Meter{{ID: 0, Rate: 1}}}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "meter meter=0") {
		t.Errorf("an invalid meter: %v", err)
	}
}

func TestCountersChoose(t *testing.T) {
	counted := func(owner string, priority uint16, packets uint64) []byte {
		f := simple(7, priority, 1)
		f.Cookie = Cookie(owner)
		return reported(t, f, packets, 100*packets)
	}
	foreign := reported(t, simple(7, 1, 1))
	foreign = append(foreign[:flowDescLen:flowDescLen], 0, 1, 0, 10, 0, 1, 34<<1, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(foreign, uint16(len(foreign)))
	var got []string
	open := func(ctx context.Context, socket string) (*conn, error) {
		list, err := New(Params{Socket: socket}).Counters(ctx, CounterFilter{Owners: []string{"a", "b"}, Tables: []uint8{7}})
		for _, c := range list {
			got = append(got, fmt.Sprintf("%s %d %d", c.Key, c.Packets, c.Bytes))
		}
		return nil, err
	}
	serveBy(t, open, func(p *peer) {
		p.send(hello(version))
		m := p.next(of.Type_MultiPartRequest)
		if table := m[headerLen+8]; table != 7 {
			t.Errorf("table %d is asked for", table)
		}
		body := append([]byte{0, of.MultipartType_Flow, 0, 0, 0, 0, 0, 0}, counted("a", 1, 5)...)
		body = append(append(append(body, counted("c", 2, 6)...), foreign...), counted("b", 3, 7)...)
		p.send(message(of.Type_MultiPartReply, parseHeader(m).xid, body...))
	}, func(t *testing.T, _ *conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
	if diff := cmp.Diff([]string{"table=7, priority=1 5 500", "table=7, priority=3 7 700"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

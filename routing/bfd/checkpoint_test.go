// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// handOver ends the engine and has another one go on with what it left, after a
// while.
func (s *side) handOver(t *testing.T, after time.Duration) Checkpoint {
	t.Helper()
	s.stop()
	time.Sleep(after)
	s.mu.Lock()
	last := s.checkpoints[len(s.checkpoints)-1]
	s.mu.Unlock()
	b, err := last.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := DecodeCheckpoint(b)
	if err != nil {
		t.Fatal(err)
	}
	s.renew(t)
	s.Resume(read)
	s.start(t)
	return read
}

// TestHandOver: the peer of a session that another engine goes on with notices
// nothing, however often that is.
func TestHandOver(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		before, peer := a.Status()[0], b.Status()[0]
		saves := len(a.checkpoints)
		for range 5 {
			a.handOver(t, 60*ms) // of 150 ms
			a.is(t, time.Second, Up)
		}
		a.set(t, a.wanted) // the same
		after := a.is(t, time.Second, Up)
		ignored := cmpopts.IgnoreFields(Status{}, "Since")
		if diff := cmp.Diff(before, after, ignored); diff != "" || before.Since.UnixMilli() != after.Since.UnixMilli() {
			t.Errorf("since %v, was %v (-before +after):\n%s", after.Since, before.Since, diff)
		}
		if diff := cmp.Diff(peer, b.is(t, 0, Up)); diff != "" {
			t.Errorf("the peer noticed (-before +after):\n%s", diff)
		}
		if more := len(a.checkpoints) - saves; more > 5 {
			t.Errorf("%d checkpoints of 5 engines that changed nothing", more)
		}
		if c := a.checkpoints[len(a.checkpoints)-1]; c[0].Port != firstSource {
			t.Errorf("port %d", c[0].Port)
		}
	})
}

// TestHandOverTooLate: a peer that has gone Down is told so by its next packet, and
// one that has gone away by its silence; sessions come up again as ever.
func TestHandOverTooLate(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		a.handOver(t, time.Second)
		st := a.is(t, 5*time.Second, Up)
		if st.Downs != 1 {
			t.Errorf("up again with %+v", st)
		}
		b.is(t, 0, Up)
		b.stop()
		a.handOver(t, time.Second)
		began := time.Now()
		st = a.is(t, time.Second, Down)
		if took := st.Since.Sub(began); took > 160*ms || st.Diagnostic != DiagDetectionExpired || st.Downs != 2 {
			t.Errorf("after %v: %+v", took, st)
		}
		c := a.handOver(t, time.Second)
		if st := a.is(t, 0, Down); c[0].State != Down || st.Downs != 2 || st.Diagnostic != DiagDetectionExpired {
			t.Errorf("the next one begins with %+v", st)
		}
	})
}

// TestHandOverWhileAgreeing: intervals that were not agreed on yet are in the end.
func TestHandOverWhileAgreeing(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		slower := a.wanted
		slower.DesiredMinTx = 200 * ms
		a.cut.Store(true) // what asks for it is lost
		a.set(t, slower)
		c := a.handOver(t, 0)
		if !c[0].Polling || c[0].TxInterval != 50*ms {
			t.Fatalf("checkpoint %+v", c[0])
		}
		a.cut.Store(false)
		if st := a.is(t, 2*time.Second, Up); st.TxInterval != 200*ms || st.Downs != 0 {
			t.Errorf("%+v", st)
		}
		if st := b.is(t, 0, Up); st.Downs != 0 || st.DetectionTime != 600*ms {
			t.Errorf("the peer: %+v", st)
		}
	})
}

// TestLeavingIsNotSaved: what is not wanted any more does not come back.
func TestLeavingIsNotSaved(t *testing.T) {
	together(t, func(t *testing.T, a, _ *side) {
		a.set(t)
		if c := a.handOver(t, 0); len(c) != 0 {
			t.Errorf("saved %+v", c)
		}
	})
}

func goodSaved() Saved {
	s, err := Session{Name: "tor", Local: netip.MustParseAddr("192.0.2.1"), Peer: netip.MustParseAddr("192.0.2.2"), Interface: "eth0"}.normalize()
	if err != nil {
		panic(err)
	}
	return Saved{
		Session: s, Port: 50000, LocalDiscriminator: 7, State: Up, Since: 1, Downs: 1,
		TxInterval: 300 * ms, RxInterval: 300 * ms,
		RemoteDiscriminator: 8, RemoteState: Up, RemoteMinRx: 300 * ms, RemoteMinTx: 300 * ms, RemoteDetectMult: 3,
	}
}

func TestDecodeCheckpoint(t *testing.T) {
	changed := func(f func(*Saved)) Checkpoint { s := goodSaved(); f(&s); return Checkpoint{s} }
	other := goodSaved()
	other.Name, other.Interface = "other", "eth1"
	for _, test := range []struct {
		name string
		c    Checkpoint
		err  string
	}{
		{"good", Checkpoint{goodSaved()}, ""},
		{"none", Checkpoint{}, ""},
		{"no peer", changed(func(s *Saved) { s.Peer = netip.Addr{} }), "is not the address"},
		{"no multiplier", changed(func(s *Saved) { s.DetectMult = 0 }), "not complete"},
		{"no discriminator", changed(func(s *Saved) { s.LocalDiscriminator = 0 }), "no discriminator"},
		{"low port", changed(func(s *Saved) { s.Port = 3784 }), "port 3784"},
		{"on its way out", changed(func(s *Saved) { s.State = AdminDown }), "cannot be in AdminDown"},
		{"up with nobody", changed(func(s *Saved) { s.RemoteDiscriminator = 0 }), "never spoke"},
		{"no pace", changed(func(s *Saved) { s.TxInterval = 0 }), "out of range"},
		{"peer's pace", changed(func(s *Saved) { s.RemoteMinTx = 2 * time.Hour }), "does not fit"},
		{"one discriminator", Checkpoint{goodSaved(), other}, "another's"},
		{"one name", Checkpoint{goodSaved(), changed(func(s *Saved) { s.LocalDiscriminator = 9 })[0]}, "two of this name"},
	} {
		b, err := test.c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeCheckpoint(b)
		switch {
		case test.err == "" && (err != nil || !cmp.Equal(got, test.c, cmp.Comparer(func(a, b Saved) bool { return a == b }))):
			t.Errorf("%s: %+v, %v", test.name, got, err)
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%s: %v, want %q", test.name, err, test.err)
		}
	}
	for _, text := range []string{"", "{", `{"Version":2}`, `{"Version":1}{}`, `{"Version":1,"More":1}`} {
		if c, err := DecodeCheckpoint([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

// FuzzDecodeCheckpoint: whatever is read is written the same again, and a session
// can begin with it.
func FuzzDecodeCheckpoint(f *testing.F) {
	b, err := Checkpoint{goodSaved()}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"Version":1,"Sessions":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCheckpoint(b)
		if err != nil {
			return
		}
		once, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeCheckpoint(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, _ := again.Encode(); !bytes.Equal(once, twice) {
			t.Fatalf("%s\nthen %s", once, twice)
		}
		now := time.Unix(1, 0)
		for _, s := range c {
			m := resumed(now, s, func() float64 { return 0.5 })
			m.advance(now)
			if len(m.take()) == 0 && m.interval() != 0 {
				t.Fatalf("nothing sent: %+v", s)
			}
		}
	})
}

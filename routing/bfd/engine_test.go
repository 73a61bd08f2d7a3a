// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a transport to another engine's.
type memory struct {
	other   *memory
	addr    netip.Addr
	ttl     int
	cut     atomic.Bool  // what is sent is lost
	failing atomic.Value // error of listen and open, as a string

	mu      sync.Mutex
	deliver func(datagram)
}

func (m *memory) err() error {
	if s, _ := m.failing.Load().(string); s != "" {
		return errors.New(s)
	}
	return nil
}

func (m *memory) listen(map[listener]bool) error { return m.err() }
func (m *memory) open(s Session, port uint16) (path, error) {
	return &memoryPath{m, s, cmp.Or(port, firstSource)}, m.err()
}

func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deliver = nil
}

func (m *memory) arrive(d datagram) {
	m.mu.Lock()
	deliver := m.deliver
	m.mu.Unlock()
	if deliver != nil {
		deliver(d)
	}
}

type memoryPath struct {
	m    *memory
	s    Session
	port uint16
}

func (p *memoryPath) send(b []byte) error {
	if !p.m.cut.Load() {
		p.m.other.arrive(datagram{
			at: time.Now(), payload: bytes.Clone(b), src: p.m.addr, dst: p.s.Peer,
			ifindex: 2, ttl: p.m.ttl, multihop: p.s.Multihop,
		})
	}
	return nil
}

func (p *memoryPath) ifindex() int   { return 2 }
func (p *memoryPath) source() uint16 { return p.port }
func (p *memoryPath) close()         {}

// side is an engine on its memory, with what it told.
type side struct {
	*Engine
	*memory
	wanted Session
	mu     sync.Mutex
	told   []Status
	stop   func()

	checkpoints []Checkpoint
}

// pair is two engines with a session each to the other, not yet set.
func pair(t *testing.T) (*side, *side) {
	t.Helper()
	var sides [2]*side
	for i, a := range []string{"192.0.2.1", "192.0.2.2"} {
		s := &side{memory: &memory{addr: netip.MustParseAddr(a), ttl: 255}}
		s.renew(t)
		sides[i] = s
	}
	a, b := sides[0], sides[1]
	a.other, b.other = b.memory, a.memory
	for _, s := range sides {
		s.wanted = Session{
			Name: "peer", Local: s.addr, Peer: s.other.addr, Interface: "eth0",
			DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms,
		}
		s.start(t)
	}
	return a, b
}

// renew makes an engine that does nothing before start.
func (s *side) renew(t *testing.T) {
	s.Engine = New(Params{
		OnState: func(name string, st Status) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if name != st.Name {
				t.Errorf("%q told as %q", st.Name, name)
			}
			s.told = append(s.told, st)
		},
		OnCheckpoint: func(c Checkpoint) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.checkpoints = append(s.checkpoints, c)
		},
	})
	s.newTransport = func(deliver func(datagram)) transport {
		s.memory.mu.Lock()
		defer s.memory.mu.Unlock()
		s.memory.deliver = deliver
		return s.memory
	}
}

func (s *side) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	e := s.Engine
	go func() { done <- e.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func (s *side) set(t *testing.T, sessions ...Session) {
	t.Helper()
	if err := s.Set(t.Context(), sessions); err != nil {
		t.Fatal(err)
	}
}

// is lets time pass and then compares the only session's state.
func (s *side) is(t *testing.T, after time.Duration, want State) Status {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	st := s.Status()
	if len(st) != 1 || st[0].State != want {
		t.Fatalf("want %v, have %+v, %+v", want, st, s.Counters())
	}
	return st[0]
}

// together runs body with two engines whose sessions are up.
func together(t *testing.T, body func(t *testing.T, a, b *side)) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		defer func() { a.stop() }() // of the engine that it has then
		defer func() { b.stop() }()
		a.set(t, a.wanted)
		b.set(t, b.wanted)
		for _, s := range []*side{a, b} {
			st := s.is(t, 5*time.Second, Up)
			if st.TxInterval != 50*ms || st.DetectionTime != 150*ms || st.Error != "" || st.RemoteDiscriminator == 0 {
				t.Fatalf("up with %+v", st)
			}
		}
		body(t, a, b)
	})
}

func TestSilence(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		b.cut.Store(true)
		cut := time.Now()
		st := a.is(t, time.Second, Down)
		if took := st.Since.Sub(cut); took > 150*ms || st.Diagnostic != DiagDetectionExpired || st.Downs != 1 {
			t.Errorf("after %v: %+v", took, st)
		}
		// It hears what a says: the second Down after the first has it begin anew.
		if st := b.Status()[0]; st.State == Up || st.Downs != 1 || st.Diagnostic != DiagNeighborSignaled {
			t.Errorf("the other end: %+v", st)
		}
		b.cut.Store(false)
		a.is(t, 5*time.Second, Up)
		b.is(t, 0, Up)
		a.mu.Lock()
		defer a.mu.Unlock()
		var states []State
		for _, st := range a.told {
			if len(states) == 0 || states[len(states)-1] != st.State {
				states = append(states, st.State)
			}
		}
		if n := len(states); n < 5 || states[0] != Down || states[n-1] != Up {
			t.Errorf("told %v", states)
		}
	})
}

// TestLeaving: a session that is not wanted any more is reported as such.
func TestLeaving(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		a.set(t)
		st := b.is(t, time.Millisecond, Down)
		if st.RemoteState != AdminDown || st.RemoteDiagnostic != DiagAdminDown || st.Diagnostic != DiagNeighborSignaled {
			t.Errorf("%+v", st)
		}
		if len(a.Status()) != 0 {
			t.Errorf("statuses %+v", a.Status())
		}
		time.Sleep(10 * time.Second) // the goodbye is over
		sent := a.Counters().Sent
		time.Sleep(10 * time.Second)
		if more := a.Counters().Sent - sent; more != 0 {
			t.Errorf("%d packets of a session that has gone", more)
		}
		a.set(t, a.wanted)
		a.is(t, 5*time.Second, Up)
		b.is(t, 0, Up)
	})
}

func TestEnd(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		a.stop()
		if st := b.is(t, time.Second, Down); st.Diagnostic != DiagDetectionExpired || st.RemoteState != Up {
			t.Errorf("%+v", st)
		}
		if err := a.Set(t.Context(), nil); !errors.Is(err, ErrStopped) {
			t.Errorf("Set after Run: %v", err)
		}
	})
}

func TestSetAgain(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		a.set(t, a.wanted)
		other := a.wanted
		other.DesiredMinTx, other.RequiredMinRx, other.DetectMult = 500*ms, 200*ms, 5
		a.set(t, other)
		st := a.is(t, 5*time.Second, Up)
		if st.Downs != 0 || st.TxInterval != 500*ms || st.DetectionTime != 600*ms {
			t.Errorf("%+v", st)
		}
		if st := b.is(t, 0, Up); st.Downs != 0 || st.TxInterval != 200*ms || st.DetectionTime != 2500*ms {
			t.Errorf("%+v", st)
		}
		bad := a.wanted
		bad.Name, bad.DesiredMinTx = "bad", time.Millisecond
		twin := other
		twin.Name = "twin"
		err := a.Set(t.Context(), []Session{other, bad, twin})
		if err == nil || !strings.Contains(err.Error(), `"bad"`) || !strings.Contains(err.Error(), `"twin"`) {
			t.Errorf("error %v", err)
		}
		if st := a.is(t, time.Second, Up); st.Downs != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestDiscarded: what does not belong to the session does not touch it.
func TestDiscarded(t *testing.T) {
	together(t, func(t *testing.T, a, b *side) {
		st := a.is(t, 0, Up)
		for why, change := range map[Discard]func(*datagram, *packet){
			DiscardTTL:               func(d *datagram, _ *packet) { d.ttl = 254 },
			DiscardInterface:         func(d *datagram, _ *packet) { d.ifindex = 3 },
			DiscardYourDiscriminator: func(d *datagram, _ *packet) { d.multihop = true },
			DiscardState:             func(_ *datagram, p *packet) { p.State, p.Yours = Up, 0 },
			DiscardNoSession:         func(d *datagram, p *packet) { d.src, p.Yours = netip.MustParseAddr("192.0.2.3"), 0 },
			DiscardMyDiscriminator:   func(_ *datagram, p *packet) { p.Mine = 0 },
		} {
			p := said(Down, time.Second, time.Second)
			p.Yours = st.LocalDiscriminator
			d := datagram{at: time.Now(), src: b.addr, dst: a.addr, ifindex: 2, ttl: 255}
			change(&d, &p)
			d.payload = p.append(nil)
			a.arrive(d)
			synctest.Wait()
			if n := a.Counters().Discarded[why]; n != 1 {
				t.Errorf("%s counted %d times", why, n)
			}
			if st := a.is(t, 0, Up); st.Downs != 0 {
				t.Errorf("%s: %+v", why, st)
			}
		}
	})
}

// TestSocketsFail: they are tried again without being asked.
func TestSocketsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		defer a.stop()
		defer b.stop()
		b.set(t, b.wanted)
		a.failing.Store("no address")
		if err := a.Set(t.Context(), []Session{a.wanted}); err == nil {
			t.Error("no error")
		}
		if st := a.is(t, 3*time.Second, Down); st.Error != "no address" {
			t.Errorf("%+v", st)
		}
		a.failing.Store("")
		if st := a.is(t, 8*time.Second, Up); st.Error != "" {
			t.Errorf("%+v", st)
		}
	})
}

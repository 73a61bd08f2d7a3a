// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// checkpointVersion is that of the encoding. What another one says is refused.
const checkpointVersion = 1

// Saved is what a session needs to go on in another engine.
type Saved struct {
	Session
	// Port is what packets are sent from, 0: none was bound.
	Port               uint16
	LocalDiscriminator uint32
	State              State
	Diagnostic         Diagnostic
	// Since is when State was entered, in milliseconds since 1970.
	Since int64
	Downs uint64
	// TxInterval and RxInterval are our intervals in force, Polling says that the
	// peer was being told others, and Held is an older detection time that still
	// counts, 0: none does.
	TxInterval time.Duration
	RxInterval time.Duration
	Polling    bool
	Held       time.Duration

	RemoteDiscriminator uint32
	RemoteState         State
	RemoteDiagnostic    Diagnostic
	RemoteDemand        bool
	RemoteMinRx         time.Duration
	RemoteMinTx         time.Duration
	RemoteDetectMult    uint8
}

// Checkpoint is all wanted sessions of an engine, sorted by name.
type Checkpoint []Saved

type encoded struct {
	Version  int
	Sessions Checkpoint
}

// Encode returns the checkpoint as bytes.
func (c Checkpoint) Encode() ([]byte, error) {
	return json.Marshal(encoded{checkpointVersion, c})
}

// DecodeCheckpoint reads what Encode wrote. A checkpoint that no engine can have
// written is refused as a whole.
func DecodeCheckpoint(b []byte) (Checkpoint, error) {
	var e encoded
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("BFD checkpoint: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("BFD checkpoint: something follows it")
	}
	if e.Version != checkpointVersion {
		return nil, fmt.Errorf("BFD checkpoint: version %d, want %d", e.Version, checkpointVersion)
	}
	sessions := make([]Session, 0, len(e.Sessions))
	discriminators := map[uint32]bool{}
	for _, s := range e.Sessions {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("BFD checkpoint: session %q: %w", s.Name, err)
		}
		if discriminators[s.LocalDiscriminator] {
			return nil, fmt.Errorf("BFD checkpoint: session %q: its discriminator is another's", s.Name)
		}
		discriminators[s.LocalDiscriminator] = true
		sessions = append(sessions, s.Session)
	}
	if _, err := normalizeAll(sessions); err != nil {
		return nil, fmt.Errorf("BFD checkpoint: %w", err)
	}
	return e.Sessions, nil
}

// check returns what is wrong with a session.
func (s Saved) check() error {
	normal, err := s.normalize()
	switch {
	case err != nil:
		return err
	case normal != s.Session:
		return errors.New("its parameters are not complete")
	case s.LocalDiscriminator == 0:
		return errors.New("it has no discriminator")
	case s.Port != 0 && s.Port < firstSource:
		return fmt.Errorf("port %d is not one to send from", s.Port)
	case s.State != Down && s.State != Init && s.State != Up:
		return fmt.Errorf("it cannot be in %v", s.State)
	case s.RemoteState > Up:
		return fmt.Errorf("its peer cannot be in %v", s.RemoteState)
	case s.Diagnostic > 31 || s.RemoteDiagnostic > 31:
		return errors.New("a diagnostic has more than five bits")
	case s.State == Up && (s.RemoteDiscriminator == 0 || s.RemoteDetectMult == 0):
		return errors.New("it is Up with a peer that never spoke")
	case s.TxInterval < MinInterval || s.TxInterval > MaxInterval || s.RxInterval < MinInterval || s.RxInterval > MaxInterval:
		return errors.New("an interval is out of range")
	}
	for _, d := range []time.Duration{s.RemoteMinRx, s.RemoteMinTx} {
		if d < 0 || d > math.MaxUint32*time.Microsecond || d%time.Microsecond != 0 {
			return errors.New("an interval of the peer does not fit into a packet")
		}
	}
	if longest := math.MaxUint8 * math.MaxUint32 * time.Microsecond; s.Held < 0 || s.Held > longest {
		return errors.New("a detection time is out of range")
	}
	return nil
}

// save is what the session needs to go on elsewhere.
func (s *session) save() Saved {
	m := s.machine
	return Saved{
		Session: s.Session, Port: s.port, LocalDiscriminator: m.local,
		State: m.state, Diagnostic: m.diag, Since: m.since.UnixMilli(), Downs: m.downs,
		TxInterval: m.txBase, RxInterval: m.rxBase, Polling: m.polling, Held: m.held,
		RemoteDiscriminator: m.remote.discr, RemoteState: m.remote.state, RemoteDiagnostic: m.remote.diag,
		RemoteDemand: m.remote.demand, RemoteMinRx: m.remote.minRx, RemoteMinTx: m.remote.minTx,
		RemoteDetectMult: m.remote.detectMult,
	}
}

// checkpoint is what all wanted sessions need.
func (e *Engine) checkpoint() Checkpoint {
	c := make(Checkpoint, 0, len(e.sessions))
	for _, s := range e.sessions {
		c = append(c, s.save())
	}
	slices.SortFunc(c, func(a, b Saved) int { return cmp.Compare(a.Name, b.Name) })
	return c
}

// Resume has the engine begin with the sessions of a checkpoint, as if it had had
// them all the time: Status has them when it returns, and Run sends for those that
// were Up as soon as it begins. Each peer has its detection time from now on to be
// heard. Resume must not be called after Run or Set.
func (e *Engine) Resume(c Checkpoint) {
	now := time.Now()
	for _, saved := range c {
		s := &session{Session: saved.Session, machine: resumed(now, saved, rand.Float64), port: saved.Port}
		e.sessions[s.Name], e.byDiscr[saved.LocalDiscriminator] = s, s
	}
	e.publish()
}

// resumed returns a session that goes on. One that was on its way to Up begins the
// handshake again.
func resumed(now time.Time, s Saved, jitter func() float64) *machine {
	m := newMachine(now, s.timing(), s.LocalDiscriminator, jitter)
	m.diag, m.since, m.downs = s.Diagnostic, time.UnixMilli(s.Since), s.Downs
	m.remote.discr, m.remote.state, m.remote.diag = s.RemoteDiscriminator, s.RemoteState, s.RemoteDiagnostic
	m.remote.demand, m.remote.minRx, m.remote.minTx = s.RemoteDemand, s.RemoteMinRx, s.RemoteMinTx
	m.remote.detectMult = s.RemoteDetectMult
	if s.RemoteDiscriminator != 0 {
		m.lastRx = now
	}
	if s.State == Up {
		m.state, m.txBase, m.rxBase = Up, s.TxInterval, s.RxInterval
		if s.Held > m.detectionTime() {
			m.hold(now, s.Held)
		}
		if s.Polling {
			m.repace()
		}
	}
	m.nextTx = now
	return m
}

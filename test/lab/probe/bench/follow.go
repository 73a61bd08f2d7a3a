// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// FollowParams say what Follow does. All are needed but Answered.
type FollowParams struct {
	Address netip.AddrPort
	// Port is that of the server that is waited for.
	Port uint16
	// Every is the time between the begins of two attempts, Timeout that which
	// each has: less than a second, after which the kernel sends the first packet
	// of a connection again (RFC 6298), so that none comes to a server that was
	// not there when it was begun.
	Every, Timeout time.Duration
	// After is for how long it goes on after the first answer of Port, and Limit
	// how long it lasts without one.
	After, Limit time.Duration
	// Answered, if set, is called once, when the first attempt was answered.
	Answered func()
}

const (
	// mostOpen bounds the attempts that are under way at once.
	mostOpen = 1000
	// mostDue bounds those that are under way when none is answered. The rest of
	// mostOpen is for those that end late on a busy machine.
	mostDue = mostOpen / 2
)

func (p FollowParams) validate() error {
	switch {
	case p.Port == 0:
		return errors.New("port 0: want that of a server")
	case p.Every <= 0 || p.Timeout <= 0 || p.Limit <= 0 || p.After < 0:
		return fmt.Errorf("every %s, timeout %s, limit %s, after %s: want more than 0, after from 0", p.Every, p.Timeout, p.Limit, p.After)
	case p.Timeout >= time.Second:
		return fmt.Errorf("timeout %s: want less than 1s", p.Timeout)
	case p.Timeout/p.Every > mostDue:
		return fmt.Errorf("every %s, timeout %s: more than %d attempts at once", p.Every, p.Timeout, mostDue)
	}
	return nil
}

// Attempt is one connection that Follow made.
type Attempt struct {
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended"`
	// Port is the one that answered, 0 if none did, and then Error says why.
	Port  uint16 `json:"port,omitempty"`
	Error string `json:"error,omitempty"`
}

// FollowReport has all attempts in the order in which they ended.
type FollowReport struct {
	Attempts []Attempt `json:"attempts"`
	// LeftOut attempts were not begun, for too many were under way.
	LeftOut int `json:"leftOut,omitempty"`
}

// Follow connects to [AnswerPort] at a steady rate, no attempt waiting for
// another, until the port that is waited for has answered, Limit is over or ctx
// ends; then it waits for those that have begun.
func Follow(ctx context.Context, p FollowParams) (FollowReport, error) {
	if err := p.validate(); err != nil {
		return FollowReport{}, err
	}
	ctx, stop := context.WithTimeout(ctx, p.Limit)
	defer stop()
	var mu sync.Mutex // of the report
	var report FollowReport
	var group sync.WaitGroup
	var first, found sync.Once
	open := make(chan struct{}, mostOpen)
	try := func() {
		defer func() { <-open }()
		a := attempt(ctx, p)
		if a.Port != 0 && p.Answered != nil {
			first.Do(p.Answered)
		}
		if a.Port == p.Port {
			found.Do(func() { time.AfterFunc(p.After, stop) })
		}
		mu.Lock()
		defer mu.Unlock()
		report.Attempts = append(report.Attempts, a)
	}
	ticks := time.NewTicker(p.Every)
	defer ticks.Stop()
	for ctx.Err() == nil {
		select {
		case open <- struct{}{}:
			group.Go(try)
		default:
			report.LeftOut++
		}
		// A pause of ours is not made up for: that would be a burst.
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
	group.Wait()
	return report, nil
}

// attempt makes one connection, which does not end early when ctx does.
func attempt(ctx context.Context, p FollowParams) Attempt {
	a := Attempt{Begun: time.Now()}
	port, err := answer(context.WithoutCancel(ctx), p.Address, p.Timeout)
	a.Ended = time.Now()
	if err != nil {
		a.Error = err.Error()
	}
	a.Port = port
	return a
}

// Turn is a change of the only endpoint of a Service to another Port, which was
// not one before. The API server was asked for it and has answered.
type Turn struct {
	Asked, Answered time.Time
	Port            uint16
}

// Followed is what connections tell that were begun after the API server had
// answered: those that were begun before may go either way.
type Followed struct {
	// Seen tells whether the new endpoint answered one.
	Seen bool
	// First is the time from the change to the first answer of the new endpoint,
	// and Begun that to the begin of the earliest connection that it answered.
	First, Begun time.Duration
	// Made are all of them; Old were answered by another endpoint, Failed by none.
	Made, Old, Failed int
	// Failure is why one of them failed.
	Failure string
}

// Follows tells how a Service followed a change during Follow. It is an error if
// the new endpoint answered before anybody asked for it.
func (r FollowReport) Follows(t Turn) (Followed, error) {
	var f Followed
	for _, a := range r.Attempts {
		if a.Port == t.Port && a.Ended.Before(t.Asked) {
			return Followed{}, fmt.Errorf("port %d answered at %s, before it was asked for at %s",
				t.Port, a.Ended.Format(time.StampMicro), t.Asked.Format(time.StampMicro))
		}
		if !a.Begun.After(t.Answered) {
			continue
		}
		f.Made++
		switch a.Port {
		case 0:
			f.Failed++
			f.Failure = a.Error
		case t.Port:
			first, begun := a.Ended.Sub(t.Answered), a.Begun.Sub(t.Answered)
			if !f.Seen {
				f.Seen, f.First, f.Begun = true, first, begun
			}
			f.First, f.Begun = min(f.First, first), min(f.Begun, begun)
		default:
			f.Old++
		}
	}
	return f, nil
}

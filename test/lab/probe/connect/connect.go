// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

// Params say what to do.
type Params struct {
	Address netip.AddrPort
	// Interval is the time between the begins of two connections, at least.
	Interval time.Duration
	// Timeout bounds a connection, from its first packet to its end.
	Timeout time.Duration
	// Answered, if set, is called once, when the first was answered.
	Answered func()
}

// Report is what came of a run.
type Report struct {
	Address  netip.AddrPort `json:"address"`
	Made     int            `json:"made"`
	Answered int            `json:"answered"`
	// Servers and Clients count answers by the name of the server and by the
	// address of ours that it saw.
	Servers map[string]int     `json:"servers"`
	Clients map[netip.Addr]int `json:"clients"`
	// Slow counts those that were answered, but only when the kernel had sent
	// their first packet again.
	Slow      int     `json:"slow"`
	MaxMillis float64 `json:"maxMs"` // of an answered one, from begin to end
	// Failed counts those that were not answered; Failures are the first of them.
	Failed   int       `json:"failed"`
	Failures []Failure `json:"failures,omitempty"`
	// Outages are times in which no connection was answered that began in them.
	Outages []Outage `json:"outages,omitempty"`
}

// Failure is a connection that was not answered.
type Failure struct {
	Begun  time.Time `json:"begun"`
	Millis float64   `json:"ms"` // until it failed
	Reason string    `json:"reason"`
	Error  string    `json:"error"`
}

// Outage lasts from the begin of a connection that failed to the end of the
// first one begun later that was answered. That end is zero if there was none.
type Outage struct {
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end,omitzero"`
}

const (
	// mostFailures is how many failures a report names.
	mostFailures = 50
	// resent is after how long the kernel sends the first packet again.
	resent = time.Second
)

// outcome is what came of one connection.
type outcome struct {
	begun, ended time.Time
	hello        serve.Hello
	err          error
}

// Run makes connections until ctx ends and waits for those that have begun.
func Run(ctx context.Context, p Params) Report {
	var (
		mu       sync.Mutex
		outcomes []outcome
		once     sync.Once
		group    sync.WaitGroup
	)
	ticker := time.NewTicker(p.Interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		group.Go(func() {
			o := one(p)
			if o.err == nil && p.Answered != nil {
				once.Do(p.Answered)
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes = append(outcomes, o)
		})
		// A pause of ours is not made up for: that would be a burst.
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	group.Wait()
	return summarize(p.Address, outcomes)
}

// one makes one connection, which does not end early when the run does.
func one(p Params) outcome {
	o := outcome{begun: time.Now()}
	o.hello, o.err = greeted(p)
	o.ended = time.Now()
	return o
}

func greeted(p Params) (serve.Hello, error) {
	deadline := time.Now().Add(p.Timeout)
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.Dial("tcp", p.Address.String())
	if err != nil {
		return serve.Hello{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return serve.Hello{}, err
	}
	reader := bufio.NewReader(conn)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return serve.Hello{}, fmt.Errorf("read the greeting: %w", err)
	}
	var hello serve.Hello
	if err := json.Unmarshal(line, &hello); err != nil {
		return serve.Hello{}, fmt.Errorf("greeting %.80q: %w", line, err)
	}
	if _, err := reader.ReadByte(); !errors.Is(err, io.EOF) {
		return serve.Hello{}, fmt.Errorf("wait for the end: %w", cause(err))
	}
	return hello, nil
}

// cause is what is wrong when more comes than the greeting.
func cause(err error) error {
	if err == nil {
		return errors.New("the server goes on")
	}
	return err
}

func summarize(address netip.AddrPort, outcomes []outcome) Report {
	slices.SortFunc(outcomes, func(a, b outcome) int { return a.begun.Compare(b.begun) })
	r := Report{Address: address, Made: len(outcomes), Servers: map[string]int{}, Clients: map[netip.Addr]int{}}
	failing := false
	for _, o := range outcomes {
		took := o.ended.Sub(o.begun)
		if o.err != nil {
			r.Failed++
			if len(r.Failures) < mostFailures {
				r.Failures = append(r.Failures, Failure{
					Begun: o.begun, Millis: millis(took), Reason: check.Reason(o.err), Error: o.err.Error(),
				})
			}
			if !failing {
				r.Outages = append(r.Outages, Outage{Begin: o.begun})
			}
			failing = true
			continue
		}
		if failing {
			r.Outages[len(r.Outages)-1].End = o.ended
			failing = false
		}
		r.Answered++
		r.Servers[o.hello.Host]++
		r.Clients[o.hello.Client.Addr()]++
		r.MaxMillis = max(r.MaxMillis, millis(took))
		if took >= resent {
			r.Slow++
		}
	}
	return r
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

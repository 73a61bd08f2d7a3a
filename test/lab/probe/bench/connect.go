// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// connectTimeout is how long a connection may take: more than two segments that
// are sent again (RFC 6298: after one second, then two).
const connectTimeout = 5 * time.Second

// AnswerPort serves a connection that is made to be measured: it says which port
// of the server it came to, and ends it.
func AnswerPort(_ context.Context, conn net.Conn) error {
	at, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("connection at %s: not TCP", conn.LocalAddr())
	}
	_, err := conn.Write(strconv.AppendInt(nil, int64(at.Port), 10))
	return err
}

// ConnectParams say what Connect does.
type ConnectParams struct {
	Address netip.AddrPort
	// Parallel is how many connections are made at once, each for Time.
	Parallel int
	Time     time.Duration
}

// ConnectReport is what came of it: of each connection the time until its answer.
// PerSecond is the sum of the rates of those that connect at once.
type ConnectReport struct {
	RoundTripReport
	// Failed connections are not among those above; Failure is one of them.
	Failed  int    `json:"failed"`
	Failure string `json:"failure,omitempty"`
}

// Connect opens connections to [AnswerPort], reads the answer and closes, over
// and over.
func Connect(ctx context.Context, params ConnectParams) (ConnectReport, error) {
	if params.Parallel < 1 {
		return ConnectReport{}, fmt.Errorf("%d connections at once: want at least 1", params.Parallel)
	}
	workers := make([]worker, params.Parallel)
	var group sync.WaitGroup
	start := time.Now()
	for i := range workers {
		group.Go(func() { workers[i].run(ctx, params) })
	}
	group.Wait()
	total := time.Since(start)
	var all []time.Duration
	var report ConnectReport
	rate := 0.0
	for _, w := range workers {
		all = append(all, w.took...)
		rate += w.rate()
		report.Failed += w.failed
		if w.failure != nil {
			report.Failure = w.failure.Error()
		}
	}
	report.RoundTripReport = summarize(all, total)
	report.PerSecond = rate
	return report, ctx.Err()
}

// worker makes connections, one after the other.
type worker struct {
	took    []time.Duration // of those that were answered
	failed  int
	failure error         // one of these
	busy    time.Duration // with all of them
}

func (w *worker) run(ctx context.Context, params ConnectParams) {
	start := time.Now()
	for at := start; at.Sub(start) < params.Time && ctx.Err() == nil; {
		_, err := answer(ctx, params.Address, connectTimeout)
		now := time.Now()
		if err != nil {
			w.failed++
			w.failure = err
		} else {
			w.took = append(w.took, now.Sub(at))
		}
		at = now
	}
	w.busy = time.Since(start)
}

// rate is that of the worker alone: one whose last connection hangs for long
// must not make the others slower, which have ended before.
func (w *worker) rate() float64 {
	if w.busy <= 0 {
		return 0
	}
	return float64(len(w.took)) / w.busy.Seconds()
}

// answer makes one connection and returns the port that answered.
func answer(ctx context.Context, address netip.AddrPort, timeout time.Duration) (uint16, error) {
	deadline := time.Now().Add(timeout)
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(conn, maxPortText))
	if err != nil {
		return 0, err
	}
	return parsePort(string(text))
}

// maxPortText is more than the text of a port has.
const maxPortText = 8

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("answer %q: want a port", text)
	}
	return uint16(port), nil
}

// SweepReport tells when the last of many addresses answered.
type SweepReport struct {
	Answered time.Time `json:"answered"`
}

// sweepTimeout is how long Sweep waits for one connection.
const sweepTimeout = 200 * time.Millisecond

// Sweep connects to each address until it has answered once, until all have or
// ctx ends.
func Sweep(ctx context.Context, addresses []netip.AddrPort, parallel int) (SweepReport, error) {
	left := make(chan netip.AddrPort, len(addresses)) // all fit
	for _, a := range addresses {
		left <- a
	}
	answered := make(chan struct{}, len(addresses))
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case a := <-left:
					if greeted(ctx, a) != nil {
						left <- a
					} else {
						answered <- struct{}{}
					}
				}
			}
		})
	}
	count := 0
	for count < len(addresses) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-answered:
			count++
		}
	}
	report := SweepReport{Answered: time.Now()}
	stop()
	group.Wait()
	count += len(answered) // at the last moment
	if count < len(addresses) {
		return SweepReport{}, fmt.Errorf("%d of %d addresses answered, not %s", count, len(addresses), <-left)
	}
	return report, nil
}

// greeted waits for the first byte that a server says by itself.
func greeted(ctx context.Context, address netip.AddrPort) error {
	deadline := time.Now().Add(sweepTimeout)
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	n, err := conn.Read(make([]byte, 1))
	if n == 1 {
		return nil
	}
	return errors.Join(err, io.ErrUnexpectedEOF)
}

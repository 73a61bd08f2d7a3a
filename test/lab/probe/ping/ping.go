// SPDX-License-Identifier: Apache-2.0

package ping

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/waymark-net/waymark/test/lab/probe/icmpecho"
)

// Params say what to send.
type Params struct {
	Address  netip.Addr
	Interval time.Duration
	Size     int // bytes of payload
	Count    int // requests to send; 0 is until the context ends
	// Wait is how long replies are awaited after the last request.
	Wait         time.Duration
	DontFragment bool
	// Outages, if not 0, has the report list every outage that is this long.
	Outages time.Duration
	// Answered, if set, is called once, when the first reply is there.
	Answered func()
}

// Outage is a time in which no request was answered, by the clock of the machine.
type Outage struct {
	// From is when the first request was sent that was not answered.
	From time.Time `json:"from"`
	// To is when the next one was sent that was; zero if there is none.
	To time.Time `json:"to,omitzero"`
}

// Report is what came of it. Times are milliseconds.
type Report struct {
	Address    netip.Addr `json:"addr"`
	Sent       int        `json:"sent"`
	Received   int        `json:"received"` // requests that were answered
	Lost       int        `json:"lost"`     // requests that were sent and not answered
	Duplicates int        `json:"duplicates"`
	Reordered  int        `json:"reordered"` // replies to a request earlier than one already answered
	SendErrors int        `json:"sendErrors,omitempty"`
	LastError  string     `json:"lastError,omitempty"` // of sending
	// MaxOutage is the longest time between the sending of two answered requests
	// with a lost one between them, or to the end of the run: 0 without loss.
	MaxOutage float64 `json:"maxOutageMs"`
	// MaxGap is the longest time between two replies in a row.
	MaxGap float64 `json:"maxGapMs"`
	// MaxPause is the longest time between two requests in a row: much more than
	// the interval means that the machine, not the network, stood still.
	MaxPause float64 `json:"maxPauseMs"`
	MinRTT   float64 `json:"minRttMs"`
	MeanRTT  float64 `json:"meanRttMs"`
	MaxRTT   float64 `json:"maxRttMs"`
	Seconds  float64 `json:"seconds"`
	// Outages are those that Params.Outages asks for, in order.
	Outages []Outage `json:"outages,omitempty"`
}

// Run pings until the count is reached or ctx ends, waits for late replies, and
// reports. A request that could not be sent counts as lost.
func Run(ctx context.Context, params Params) (Report, error) {
	family := 4
	if params.Address.Is6() {
		family = 6
	}
	socket, err := icmpecho.Open(icmpecho.Params{Family: family, DontFragment: params.DontFragment})
	if err != nil {
		return Report{}, err
	}
	defer socket.Close()
	r := newRecorder()
	var reader sync.WaitGroup
	reader.Go(func() { readReplies(socket, r, params.Answered) })
	defer reader.Wait()
	defer socket.Close()
	send(ctx, socket, params, r)
	r.awaitReplies(params.Wait)
	report := r.report()
	report.Address, report.Outages = params.Address, r.outages(params.Outages)
	return report, nil
}

// send keeps to the interval: ticks that were missed are not made up for.
func send(ctx context.Context, socket *icmpecho.Socket, params Params, r *recorder) {
	ticker := time.NewTicker(params.Interval)
	defer ticker.Stop()
	for seq := 0; params.Count == 0 || seq < params.Count; seq++ {
		at := time.Now()
		r.sending(at)
		if err := socket.Send(params.Address, uint64(seq), params.Size); err != nil {
			r.failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// readReplies records replies until the socket is closed.
func readReplies(socket *icmpecho.Socket, r *recorder, answered func()) {
	for {
		reply, err := socket.Read(time.Time{})
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// An ICMP error that the kernel hands over: its request stays lost.
			continue
		}
		r.received(reply.Seq, reply.At)
		if answered != nil {
			answered()
			answered = nil
		}
	}
}

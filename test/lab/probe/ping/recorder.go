// SPDX-License-Identifier: Apache-2.0

package ping

import (
	"sync"
	"time"
)

// recorder keeps when each request was sent and answered. Sender and reader
// share it.
type recorder struct {
	mu       sync.Mutex
	complete chan struct{} // signalled when every request has its reply
	sent     []time.Time   // by sequence number
	answered []time.Time   // by sequence number; zero is not
	replies  int           // answered requests
	highest  int           // sequence number of the latest answered request
	lastAt   time.Time     // of the last reply
	r        Report        // counters that need no second look
}

func newRecorder() *recorder {
	return &recorder{complete: make(chan struct{}, 1), highest: -1}
}

func (r *recorder) sending(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.sent); n > 0 {
		r.r.MaxPause = max(r.r.MaxPause, millis(at.Sub(r.sent[n-1])))
	}
	r.sent = append(r.sent, at)
	r.answered = append(r.answered, time.Time{})
}

func (r *recorder) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.r.SendErrors++
	r.r.LastError = err.Error()
}

func (r *recorder) received(seq uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq >= uint64(len(r.sent)) {
		return
	}
	if !r.answered[seq].IsZero() {
		r.r.Duplicates++
		return
	}
	r.answered[seq] = at
	r.replies++
	if int(seq) < r.highest {
		r.r.Reordered++
	}
	r.highest = max(r.highest, int(seq))
	if !r.lastAt.IsZero() {
		r.r.MaxGap = max(r.r.MaxGap, millis(at.Sub(r.lastAt)))
	}
	r.lastAt = at
	if r.replies == len(r.sent) {
		select {
		case r.complete <- struct{}{}:
		default:
		}
	}
}

// awaitReplies returns once everything is answered, or after the wait.
func (r *recorder) awaitReplies(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		r.mu.Lock()
		all := r.replies == len(r.sent)
		r.mu.Unlock()
		if all {
			return
		}
		select {
		case <-timer.C:
			return
		case <-r.complete: // perhaps of an earlier moment: look again
		}
	}
}

// report computes what needs all requests.
func (r *recorder) report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.r
	out.Sent, out.Received = len(r.sent), r.replies
	out.Lost = out.Sent - out.Received
	if out.Sent == 0 {
		return out
	}
	first, last := r.sent[0], r.sent[len(r.sent)-1]
	out.Seconds = last.Sub(first).Seconds()
	var total float64
	up, lost := first, false // since when the path is unproven, and whether it lost any since
	for seq, sent := range r.sent {
		if r.answered[seq].IsZero() {
			lost = true
			continue
		}
		if lost {
			out.MaxOutage = max(out.MaxOutage, millis(sent.Sub(up)))
		}
		up, lost = sent, false
		rtt := millis(r.answered[seq].Sub(sent))
		total += rtt
		out.MaxRTT = max(out.MaxRTT, rtt)
		if out.MinRTT == 0 || rtt < out.MinRTT {
			out.MinRTT = rtt
		}
	}
	if lost {
		out.MaxOutage = max(out.MaxOutage, millis(last.Sub(up)))
	}
	if r.replies > 0 {
		out.MeanRTT = total / float64(r.replies)
	}
	return out
}

// outages lists those that lasted at least some time, none if that is 0.
func (r *recorder) outages(least time.Duration) []Outage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if least == 0 || len(r.sent) == 0 {
		return nil
	}
	var out []Outage
	var now Outage
	for seq, sent := range r.sent {
		switch answered := !r.answered[seq].IsZero(); {
		case !answered && now.From.IsZero():
			now.From = sent
		case answered && !now.From.IsZero():
			if now.To = sent; sent.Sub(now.From) >= least {
				out = append(out, now)
			}
			now = Outage{}
		}
	}
	if !now.From.IsZero() && r.sent[len(r.sent)-1].Sub(now.From) >= least {
		out = append(out, now)
	}
	return out
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

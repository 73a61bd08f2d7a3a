// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"time"
)

// Shares of the budget: regular probes, those that confirm a suspicion, and the
// replies to as many of others.
const (
	shareRegular = 0.4
	shareExtra   = 0.1
)

// stretched is the interval at which so many targets keep to the budget.
func (p Params) stretched(targets int) time.Duration {
	perRound := float64(targets*p.Flows) / (1 - jitter/2)
	least := perRound / (float64(p.Budget) * shareRegular)
	return max(p.Interval, time.Duration(least*float64(time.Second)))
}

// bucket holds up to burst tokens, of which rate come in a second.
type bucket struct {
	rate, burst, tokens float64
	at                  time.Time
}

// newBucket has a burst of what comes in a quarter of a second, and is full.
func newBucket(rate float64) bucket { return bucket{rate: rate, burst: rate / 4, tokens: rate / 4} }

// take takes a token, if there is one.
func (b *bucket) take(now time.Time) bool {
	if !b.at.IsZero() && now.After(b.at) {
		b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*b.rate, b.burst)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// ask sends a probe.
func (e *Engine) ask(p *path, s slot, now time.Time) {
	length := headerLen
	if s.kind == full {
		length = p.Size - headers(p.Family)
	}
	seq := p.machine.asks(now, s, length)
	b := packet{
		Type: typeRequest, Kind: s.kind, Flow: uint8(s.flow), Nonce: e.nonce, Seq: seq, Length: length,
	}.bytes()
	err := e.transport.send(e.local[p.Address.Is6()], s.flow, netip.AddrPortFrom(p.Address, Port), b)
	p.machine.told(s, err)
	if err != nil {
		e.counted.SendErrors++
		return
	}
	e.counted.Sent++
}

// take uses a datagram.
func (e *Engine) take(d datagram) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counted.Received++
	if why := e.dispatch(d); why != "" {
		e.counted.Discarded[why]++
	}
}

func (e *Engine) dispatch(d datagram) Discard {
	if d.refused {
		return e.refused(d)
	}
	p, why := parse(d.payload)
	if why != "" {
		return why
	}
	// Requests come to our port, replies to the port of a flow: two nodes that
	// answer each other's answers would never end.
	if (p.Type == typeRequest) != (d.flow == answering) {
		return DiscardType
	}
	if p.Type == typeRequest {
		return e.reply(d)
	}
	return e.answered(d, p)
}

// reply answers a request.
func (e *Engine) reply(d datagram) Discard {
	if !e.answer[d.from.Addr()] {
		return DiscardSource
	}
	if !e.replies.take(d.at) {
		return DiscardRateLimit
	}
	reply(d.payload)
	if err := e.transport.send(d.to, answering, d.from, d.payload); err != nil {
		e.counted.SendErrors++
		return ""
	}
	e.counted.Answered++
	return ""
}

// answered notes the reply to one of our requests.
func (e *Engine) answered(d datagram, p packet) Discard {
	to := e.byAddr[d.from.Addr()]
	switch {
	case to == nil || d.from.Port() != Port:
		return DiscardSource
	case p.Nonce != e.nonce:
		return DiscardNonce
	case int(p.Flow) != d.flow:
		return DiscardSequence
	case !to.machine.answer(d.at, slot{d.flow, p.Kind}, p.Seq, p.Length):
		return DiscardSequence
	}
	e.counted.Replies++
	// What follows from it is looked at when the path is next due, which is soon:
	// an answer only ever puts off what is due.
	return ""
}

// refused notes that nobody listened for one of our requests.
func (e *Engine) refused(d datagram) Discard {
	p, why := parseQuoted(d.payload)
	to := e.byAddr[d.from.Addr()]
	switch {
	case why != "":
		return why
	case p.Type != typeRequest || d.flow == answering:
		return DiscardType // a reply, to an engine that has ended
	case to == nil || d.from.Port() != Port:
		return DiscardSource
	case p.Nonce != e.nonce:
		return DiscardNonce
	case int(p.Flow) != d.flow, !to.machine.refuse(d.at, slot{d.flow, p.Kind}, p.Seq):
		return DiscardSequence
	}
	e.counted.Refused++
	return ""
}

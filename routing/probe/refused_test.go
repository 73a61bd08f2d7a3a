// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kernelErrors is Linux' limit of ICMP errors: one a second after a burst of six.
func kernelErrors() bucket { return bucket{rate: 1, burst: 6, tokens: 6} }

// TestRefused takes the other node's agent away.
func TestRefused(t *testing.T) {
	const s = time.Second
	away := func(from, to time.Duration) func(time.Duration) bool {
		return func(at time.Duration) bool { return at < from || at >= to }
	}
	until := func(end time.Duration) fabric {
		return func(at time.Duration, _ slot) bool { return at < end }
	}
	assumed := target
	assumed.AssumeWorks = true
	works := []string{"false unproven", "true answered"}
	for _, test := range []struct {
		name   string
		target Target
		fabric fabric
		agent  func(time.Duration) bool
		want   []string
		since  time.Duration // of the last failure, in seconds; 0: none
	}{
		{"the agent restarts", target, passes, away(2*s, 7*s), append(works, "true no-agent", "true answered"), 0},
		{"for long", target, passes, away(2*s, 60*s), append(works, "true no-agent", "true answered"), 0},
		{"for too long", target, passes, away(2*s, time.Hour), append(works, "true no-agent", "false no-agent"), 62 * s},
		{"and the path breaks", target, until(10 * s), away(2*s, time.Hour),
			append(works, "true no-agent", "false no-answer"), 11500 * ms},
		{"and the path breaks as it is back", target, until(7 * s), away(2*s, 7*s),
			append(works, "true no-agent", "false no-answer"), 8500 * ms},
		{"never worked", target, passes, away(0, time.Hour), []string{"false unproven", "false no-agent"}, 0},
		{"works once there is an agent", target, passes, away(0, 10*s),
			[]string{"false unproven", "false no-agent", "true answered"}, 0},
		{"failed, and is not made to work", target, func(at time.Duration, _ slot) bool { return at < 2*s || at > 4*s },
			away(2*s, time.Hour), append(works, "false no-answer", "false no-agent"), 2 * s},
		{"assumed", assumed, passes, away(0, 5*s), []string{"true assumed", "true no-agent", "true assumed", "true answered"}, 0},
		{"assumed for too long", assumed, passes, away(0, time.Hour),
			[]string{"true assumed", "true no-agent", "false no-agent"}, 60 * s},
	} {
		t.Run(test.name, func(t *testing.T) {
			for seed := range uint64(5) {
				w := newWorld(seed, test.target, test.fabric)
				w.agent = test.agent
				w.note()
				w.until(100 * s)
				got := w.log
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
				}
				v := w.verdict(w.now)
				if after := v.Since.Sub(start) - test.since; test.since > 0 && (after < 0 || after > 1500*ms) {
					t.Errorf("seed %d: failed %v too late: %+v", seed, after, v)
				}
				if v.Class == ClassNoAgent && v.Reason != "no agent answers at n2" {
					t.Errorf("%+v", v)
				}
			}
		})
	}
}

// TestRefusedHolds: the time without an agent is no time for which a path held.
func TestRefusedHolds(t *testing.T) {
	const s = time.Second
	w := newWorld(1, target, func(at time.Duration, _ slot) bool { return at < 2*s || at > 4*s })
	w.agent = func(at time.Duration) bool { return at < 6*s || at > 16*s }
	w.until(8 * s)
	v := w.verdict(w.now)
	if v.Works || v.Class != ClassNoAgent || v.Reason != "no agent answers at n2 for 2s" {
		t.Errorf("%+v", v)
	}
	// 4.2 s to 6 s, and what is missing to 5 s after the agent was away.
	w.until(25 * s)
	if v = w.verdict(w.now); !v.Works || v.Since.Before(start.Add(19*s)) || v.Failures != 1 {
		t.Errorf("%+v", v)
	}
}

// TestRefusedFew: probes of a path that is not judged are no more than ever.
func TestRefusedFew(t *testing.T) {
	w := newWorld(1, target, passes)
	w.agent = func(at time.Duration) bool { return at < 2*time.Second }
	w.until(2 * time.Second)
	before := w.sent
	w.until(32 * time.Second)
	if n := w.sent - before; n > 30*50 {
		t.Errorf("%d probes in 30 s", n)
	}
}

// TestRefuse: only a probe that waits can be refused.
func TestRefuse(t *testing.T) {
	w := newWorld(1, target, passes)
	seq := w.asks(w.now, slot{2, full}, 0)
	for _, test := range []struct {
		s    slot
		seq  uint32
		want bool
	}{
		{slot{2, full}, seq + 1, false}, {slot{2, small}, seq, false}, {slot{maxFlows, small}, seq, false},
		{slot{2, full}, seq, true}, {slot{2, full}, seq, true},
	} {
		if got := w.refuse(w.now, test.s, test.seq); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// TestPeerRestarts: the peer's engine ends, and another one comes or not.
func TestPeerRestarts(t *testing.T) {
	together(t, func(t *testing.T, m *memory, a, b *node) {
		m.mu.Lock()
		m.errors = map[netip.Addr]*bucket{}
		for _, at := range []netip.Addr{a4, a6} {
			errors := kernelErrors()
			m.errors[at] = &errors
		}
		m.mu.Unlock()
		b.stop()
		const gone = "b IPv4 true: no agent answers at b for "
		a.verdicts(t, 5500*ms, gone+"5s", "b IPv6 true: no agent answers at b for 5s")
		again := m.node(t, Params{})
		if err := again.Set(t.Context(), bConf); err != nil {
			t.Fatal(err)
		}
		vs := a.verdicts(t, 5*time.Second, "b IPv4 true: "+answeredWords, "b IPv6 true: "+answeredWords)
		if c := a.Counters(); vs[0].Failures != 0 || c.Refused < 16 || c.Refused > 24 {
			t.Errorf("%+v\n%+v", vs, c)
		}
		again.stop()
		a.verdicts(t, 59500*ms, gone+"59s", "b IPv6 true: no agent answers at b for 59s")
		a.verdicts(t, 2*time.Second, "b IPv4 false: no agent answers at b", "b IPv6 false: no agent answers at b")
	})
}

// TestRefusedForged: errors must quote what was sent to where they come from.
func TestRefusedForged(t *testing.T) {
	together(t, func(t *testing.T, _ *memory, a, _ *node) {
		before := a.Counters()
		good := packet{Type: typeRequest, Nonce: a.nonce, Seq: 1, Length: 1422}
		other, answer := good, good
		other.Nonce++
		answer.Type = typeReply
		for _, x := range []struct {
			from string
			flow int
			b    []byte
		}{
			{"10.0.2.254:21793", 0, good.bytes()[:20]},        // length
			{"10.0.2.254:21793", answering, good.bytes()},     // type
			{"10.0.2.254:21793", 0, answer.bytes()},           // type
			{"10.0.9.9:21793", 0, good.bytes()},               // source
			{"10.0.2.254:21794", 0, good.bytes()},             // source
			{"10.0.2.254:21793", 0, other.bytes()},            // nonce
			{"10.0.2.254:21793", 1, good.bytes()},             // sequence: the flow
			{"10.0.2.254:21793", 0, good.bytes()[:headerLen]}, // sequence: answered
		} {
			a.deliver(datagram{
				at: time.Now(), payload: x.b, from: addrPortOf(x.from), to: a4, flow: x.flow, refused: true,
			})
		}
		synctest.Wait()
		want := map[Discard]uint64{
			DiscardLength: 1, DiscardType: 2, DiscardSource: 2, DiscardNonce: 1, DiscardSequence: 2,
		}
		got := map[Discard]uint64{}
		for d, n := range a.Counters().Discarded {
			if n -= before.Discarded[d]; n != 0 {
				got[d] = n
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || a.Counters().Refused != 0 {
			t.Errorf("%+v (-want +got):\n%s", a.Counters(), diff)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
)

const ms = time.Millisecond

var (
	start  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	target = Target{
		Node: "n2", Family: routing.IPv4, Address: netip.MustParseAddr("10.0.2.2"), Size: 1450, Route: "via a",
	}
)

// fabric says whether a probe and its reply pass at a time.
type fabric func(at time.Duration, s slot) bool

// world drives a machine through time. Answers take rtt.
type world struct {
	*machine
	now    time.Time
	rtt    time.Duration
	fabric fabric
	agent  func(at time.Duration) bool // nil: there always is one
	tokens bucket                      // of the ICMP errors of a node without one
	extra  bool
	flying []flight
	sent   int
	fails  int
	log    []string // changes of the verdict
	last   string
}

type flight struct {
	at   time.Time
	slot slot
	seq  uint32
	ok   bool // answered, not refused
}

func newWorld(seed uint64, t Target, f fabric) *world {
	p := Params{}.defaults()
	w := &world{now: start, rtt: ms, fabric: f, extra: true, tokens: kernelErrors()}
	w.machine = newMachine(start, p, t, p.Interval, rand.New(rand.NewPCG(seed, 1)).Float64)
	return w
}

func (w *world) at() time.Duration { return w.now.Sub(start) }

// until drives the machine to a time.
func (w *world) until(end time.Duration) {
	for {
		next := w.next(w.now)
		answered := len(w.flying) > 0 && (next.IsZero() || w.flying[0].at.Before(next))
		if answered {
			next = w.flying[0].at
		}
		if next.IsZero() || next.Sub(start) > end {
			w.now = start.Add(end)
			return
		}
		if next.After(w.now) {
			w.now = next
		}
		if answered {
			f := w.flying[0]
			w.flying = w.flying[1:]
			if f.ok {
				w.answer(w.now, f.slot, f.seq, 0)
			} else {
				w.refuse(w.now, f.slot, f.seq)
			}
			continue
		}
		w.advance(w.now)
		for _, s := range w.poll(w.now, func() bool { return w.extra }) {
			seq := w.asks(w.now, s, 0)
			w.sent++
			here := w.agent == nil || w.agent(w.at())
			if w.fabric(w.at(), s) && (here || w.tokens.take(w.now)) {
				w.flying = append(w.flying, flight{w.now.Add(w.rtt), s, seq, here})
			}
		}
		w.note()
	}
}

func (w *world) note() {
	v := w.verdict(w.now)
	if s := fmt.Sprint(v.Works, " ", v.Class); s != w.last {
		if strings.HasPrefix(w.last, "true") && !v.Works {
			w.fails++
		}
		w.log, w.last = append(w.log, s), s
	}
}

func passes(time.Duration, slot) bool { return true }

// TestProof: a new path works within about half a second.
func TestProof(t *testing.T) {
	w := newWorld(1, target, passes)
	w.until(500 * ms)
	if diff := cmp.Diff([]string{"false unproven", "true answered"}, w.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.until(time.Minute)
	v := w.verdict(w.now)
	want := Verdict{
		Works: true, Since: v.Since, Class: ClassAnswered, RTT: ms, Interval: 200 * ms,
		Reason: "answered on all 8 flows, packets of 1450 bytes too",
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if w.sent < 60*40 || w.sent > 60*50 {
		t.Errorf("%d probes in a minute", w.sent)
	}
}

// TestDetection: every way to break a path is found in time, whenever it begins.
func TestDetection(t *testing.T) {
	for _, test := range []struct {
		name   string
		breaks func(slot) bool
		class  Class
		reason string // in the end
	}{
		{"all", func(slot) bool { return true }, ClassSilent, "no answer on any flow"},
		{"full", func(s slot) bool { return s.kind == full }, ClassFullSize,
			"no answer to packets of 1450 bytes on 8 of 8 flows, small ones are answered"},
		{"full on two flows", func(s slot) bool { return s.kind == full && s.flow%4 == 0 }, ClassFullSize,
			"no answer to packets of 1450 bytes on 2 of 8 flows, small ones are answered"},
		{"full on a flow", func(s slot) bool { return s.kind == full && s.flow == 1 }, ClassFullSize,
			"no answer to packets of 1450 bytes on 1 of 8 flows, small ones are answered"},
		{"two flows", func(s slot) bool { return s.flow < 2 }, ClassSomeFlows, "no answer on 2 of 8 flows"},
		{"a flow", func(s slot) bool { return s.flow == 3 }, ClassSomeFlows, "no answer on 1 of 8 flows"},
		{"seven flows", func(s slot) bool { return s.flow != 1 }, ClassSomeFlows, "no answer on 7 of 8 flows"},
		{"full, and a flow", func(s slot) bool { return s.flow == 3 || s.kind == full }, ClassSomeFlows,
			"no answer on 1 of 8 flows, on 8 to packets of 1450 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var longest time.Duration
			for seed := range uint64(100) {
				begins := 3*time.Second + time.Duration(seed)*6*ms
				w := newWorld(seed, target, func(at time.Duration, s slot) bool { return at < begins || !test.breaks(s) })
				w.until(begins)
				if !w.verdict(w.now).Works {
					t.Fatalf("before: %+v", w.verdict(w.now))
				}
				w.until(begins + 700*ms)
				v := w.verdict(w.now)
				if v.Works {
					t.Fatalf("seed %d: still works", seed)
				}
				longest = max(longest, v.Since.Sub(start.Add(begins)))
				w.until(begins + 10*time.Second)
				v = w.verdict(w.now)
				if v.Works || v.Class != test.class || v.Reason != test.reason {
					t.Fatalf("in the end: %+v", v)
				}
			}
			t.Logf("found within %v", longest)
		})
	}
}

// TestWithoutConfirmation: a path of which nothing is answered is found without
// probes out of turn, of which there may be too few for all paths at once.
func TestWithoutConfirmation(t *testing.T) {
	w := newWorld(1, target, func(at time.Duration, _ slot) bool { return at < 3*time.Second })
	w.extra = false
	w.until(3*time.Second + 700*ms)
	if w.verdict(w.now).Works {
		t.Error("still works")
	}
}

// TestPause: a peer that answers nothing for a moment is not a broken path.
func TestPause(t *testing.T) {
	for seed := range uint64(100) {
		begins := 3*time.Second + time.Duration(seed)*2*ms
		w := newWorld(seed, target, func(at time.Duration, _ slot) bool { return at < begins || at > begins+350*ms })
		w.until(10 * time.Second)
		if w.fails != 0 {
			t.Fatalf("seed %d: %v", seed, w.log)
		}
	}
}

// TestRandomLoss: half a day with 1 % of the packets lost each way, and an hour with
// so many that it must be seen.
func TestRandomLoss(t *testing.T) {
	run := func(loss float64, d time.Duration) *world {
		r := rand.New(rand.NewPCG(7, 7))
		w := newWorld(7, target, func(time.Duration, slot) bool { return r.Float64() >= 1-(1-loss)*(1-loss) })
		w.until(d)
		return w
	}
	if w := run(0.01, 12*time.Hour); w.fails != 0 {
		t.Errorf("of %d probes: failed %d times", w.sent, w.fails)
	}
	if w := run(0.25, time.Hour); w.fails == 0 {
		t.Error("a quarter of the packets lost, and nothing seen")
	}
}

// TestFlapping: a path that comes and goes every two seconds for a minute is left
// once, and comes back once, some seconds after that.
func TestFlapping(t *testing.T) {
	flaps := func(at time.Duration) bool {
		at -= 10 * time.Second
		return at >= 0 && at < time.Minute && at/(2*time.Second)%2 == 0
	}
	want := []string{"false unproven", "true answered", "false no-answer"}
	for range 15 {
		want = append(want, "false hold", "false no-answer")
	}
	want = append(want[:len(want)-1], "true answered")
	w := newWorld(1, target, func(at time.Duration, _ slot) bool { return !flaps(at) })
	w.until(2 * time.Minute)
	if diff := cmp.Diff(want, w.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Routes that come and go are the same to it.
	w = newWorld(1, target, passes)
	for at := time.Duration(0); at < 2*time.Minute; at += 500 * ms {
		next := target
		if flaps(at) {
			next.Route = ""
		}
		w.until(at)
		w.change(w.now, next)
		w.note()
	}
	if v := w.verdict(w.now); w.fails != 1 || !v.Works || v.Failures != 1 {
		t.Errorf("%v\n%+v", w.log, v)
	}
}

// TestHold: it doubles with each failure up to the maximum, and time heals.
func TestHold(t *testing.T) {
	var broken bool
	w := newWorld(1, target, func(time.Duration, slot) bool { return !broken })
	w.until(time.Second)
	hold := func() time.Duration {
		broken = true
		w.until(w.at() + 2*time.Second)
		broken = false
		for !w.verdict(w.now).Works {
			w.until(w.at() + 100*ms)
		}
		return w.since.Sub(w.held)
	}
	var got []time.Duration
	for range 8 {
		got = append(got, hold().Round(time.Second))
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.until(w.at() + 11*time.Minute) // two failures are forgotten
	if h := hold().Round(s); h != 80*s {
		t.Errorf("after a rest: %v", h)
	}
	broken = true
	w.until(w.at() + 2*s)
	broken = false
	w.until(w.at() + 4*s)
	if v := w.verdict(w.now); v.Class != ClassHold || v.Reason != "answered for 3s of 2m40s after 6 failures" {
		t.Errorf("%+v", v)
	}
}

// TestRoutes: what another route does to a path.
func TestRoutes(t *testing.T) {
	other := target
	other.Route = "via b"
	moved := target
	moved.Address = netip.MustParseAddr("10.0.2.3")
	gone := target
	gone.Route = ""
	assumed := target
	assumed.AssumeWorks = true
	never := func(time.Duration, slot) bool { return false }
	broken := func(at time.Duration, _ slot) bool { return at < time.Second || at > 3*time.Second }
	for _, test := range []struct {
		name   string
		from   Target
		to     Target
		at     time.Duration
		fabric fabric
		want   []string
	}{
		{"works", target, other, time.Second, passes, []string{"false unproven", "true answered"}},
		{"works, another address", target, moved, time.Second, passes, []string{"false unproven", "true answered"}},
		{"works, not the new one", target, other, time.Second, func(at time.Duration, _ slot) bool { return at < time.Second },
			[]string{"false unproven", "true answered", "false no-answer"}},
		{"unproven", target, other, time.Second, func(at time.Duration, _ slot) bool { return at > time.Second },
			[]string{"false unproven", "false no-answer", "false unproven", "true answered"}},
		{"failed", target, other, 2 * time.Second, broken,
			[]string{"false unproven", "true answered", "false no-answer", "false unproven", "false no-answer", "false hold", "true answered"}},
		{"holding", target, other, 5 * time.Second, broken,
			[]string{"false unproven", "true answered", "false no-answer", "false hold", "false unproven", "false hold", "true answered"}},
		{"gone", target, gone, time.Second, passes, []string{"false unproven", "true answered", "false no-route"}},
		{"comes", gone, target, time.Second, passes, []string{"false no-route", "false unproven", "true answered"}},
		{"assumed", assumed, assumed, time.Second, passes, []string{"true assumed", "true answered"}},
		{"assumed, wrongly", assumed, assumed, time.Second, never, []string{"true assumed", "false no-answer"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(1, test.from, test.fabric)
			w.note()
			w.until(test.at)
			w.change(w.now, test.to)
			w.note()
			w.until(30 * time.Second)
			if diff := cmp.Diff(test.want, w.log); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAway: who was not there to take the answers must not blame the path.
func TestAway(t *testing.T) {
	for _, away := range []time.Duration{0, 2 * time.Second} {
		w := newWorld(1, target, func(at time.Duration, _ slot) bool { return at < time.Second || at > 1200*ms })
		w.until(1200 * ms) // some probes wait
		w.now = w.now.Add(2 * time.Second)
		w.excuse(away)
		w.until(5 * time.Second)
		if failed := w.fails > 0; failed != (away == 0) {
			t.Errorf("excused for %v: %v", away, w.log)
		}
	}
}

// TestLongWay: a path around the world is no broken one.
func TestLongWay(t *testing.T) {
	for _, rtt := range []time.Duration{40 * ms, 150 * ms, 300 * ms} {
		w := newWorld(1, target, passes)
		w.rtt = rtt
		w.until(10 * time.Minute)
		v := w.verdict(w.now)
		if !v.Works || w.fails != 0 || v.RTT.Round(ms) != rtt || w.sent > 10*60*50 {
			t.Errorf("%v: %v, %d probes, %+v", rtt, w.log, w.sent, v)
		}
	}
}

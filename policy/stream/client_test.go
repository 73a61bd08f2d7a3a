// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/waymark-net/waymark/policy"
)

// TestConsumerFails has updates come again.
func TestConsumerFails(t *testing.T) {
	a := authority(t)
	r := startReplica(t, a)
	r.publish(map[string]*policy.Update{"n1": basic()})
	g := startAgent(t, "n1", t.TempDir(), a.Bundle(), r.address)
	converge(t, g, r, "n1")
	broken := errors.New("switch is away")
	set := func(err error) { g.mu.Lock(); g.fail = err; g.mu.Unlock() }
	set(broken)
	r.publish(map[string]*policy.Update{"n1": {Policies: []*policy.Policy{policyOf(1, 2)}, Groups: []policy.GroupUpdate{group(1, false, 77)}}})
	eventually(t, "failure", func() bool { return errors.Is(g.Status().Err, broken) })
	if revision, known := r.hub.Enforced("n1"); known && revision == r.hub.Revision() {
		t.Error("an update that failed is acknowledged")
	}
	set(nil)
	converge(t, g, r, "n1")
}

// TestInconsistent has a change of a group that the agent does not know: it
// asks for everything, and what is not named goes.
func TestInconsistent(t *testing.T) {
	a := authority(t)
	r := startReplica(t, a)
	r.publish(map[string]*policy.Update{"n1": basic()})
	g := startAgent(t, "n1", t.TempDir(), a.Bundle(), r.address)
	converge(t, g, r, "n1")
	r.hub.Update(func() Change {
		r.source.states["n1"].Apply(&policy.Update{GonePolicies: []policy.Key{policyOf(2, 1).Key}, Groups: []policy.GroupUpdate{group(9, true, 1, 2)}})
		return Change{Deltas: deltas{"n1": {Groups: []policy.GroupUpdate{group(9, false, 2)}}}}
	})
	converge(t, g, r, "n1")
	if n := testutil.ToFloat64(r.server.metrics.resyncs); n != 2 {
		t.Errorf("%f resyncs", n)
	}
}

// TestEndpoints has an agent that starts before any controller.
func TestEndpoints(t *testing.T) {
	a := authority(t)
	r := startReplica(t, a)
	r.publish(map[string]*policy.Update{"n1": basic()})
	g := startAgent(t, "n1", t.TempDir(), a.Bundle())
	eventually(t, "reason", func() bool { return g.Status().Err != nil })
	g.endpoints.set(r.address)
	converge(t, g, r, "n1")
	list := []netip.AddrPort{}
	for n := range 3 {
		list = append(list, netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", n+1)))
	}
	seen := map[netip.AddrPort]bool{}
	for range 200 {
		seen[pick(list, list[0])] = true
	}
	if len(seen) != 2 || seen[list[0]] || pick(list[:1], list[0]) != list[0] {
		t.Errorf("picked %v", seen)
	}
}

func TestRetryDelay(t *testing.T) {
	for failures := 1; failures < 100; failures++ {
		full := min(float64(retryMax), float64(retryBase)*math.Pow(2, float64(failures-1)))
		if d := retryDelay(failures); d < time.Duration(full/2) || d > time.Duration(full) {
			t.Errorf("%d failures: %s, want %s to %s", failures, d, time.Duration(full/2), time.Duration(full))
		}
	}
}

// TestRetries counts the tries of an agent that reaches no controller, and has
// the controllers change.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		g := &agent{}
		g.endpoints.list = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1")}
		c := NewClient(ClientParams{
			Node: "n1", Endpoints: &g.endpoints, Now: time.Now,
			Bundle: func() ([]byte, error) { tries = append(tries, time.Now()); return nil, errors.New("no") },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.follow(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		for n := 1; n < len(tries); n++ {
			if waited := tries[n].Sub(tries[n-1]); waited > retryMax {
				t.Errorf("%s after %d failures, want %s at most", waited, n, retryMax)
			}
		}
		if n := len(tries); n < 10 || n > 60 {
			t.Errorf("%d tries in a minute", n)
		}
		for _, list := range [][]netip.AddrPort{g.endpoints.list, nil, g.endpoints.list} {
			time.Sleep(time.Until(tries[len(tries)-1].Add(retryMax / 4)))
			synctest.Wait()
			before := len(tries)
			g.endpoints.set(list...)
			time.Sleep(moveDelay)
			synctest.Wait()
			if tried := len(tries) - before; tried != min(1, len(list)) {
				t.Errorf("%d tries when the controllers were %v", tried, list)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

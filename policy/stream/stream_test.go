// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"net/netip"
	"reflect"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

func TestFollows(t *testing.T) {
	a := authority(t)
	r := startReplica(t, a)
	r.publish(map[string]*policy.Update{"n1": basic()})
	g := startAgent(t, "n1", t.TempDir(), a.Bundle(), r.address)
	converge(t, g, r, "n1")
	changes := []*policy.Update{
		{Policies: []*policy.Policy{policyOf(1, 7)}, Groups: []policy.GroupUpdate{{ID: id(1), Added: []netip.Addr{address(9)}, Removed: []netip.Addr{address(1)}}}},
		{GonePolicies: []policy.Key{policyOf(2, 1).Key}, Pods: []policy.Pod{{Key: policy.PodKey{Namespace: "ns", Name: "b"}, Identity: id(5)}}},
		{GonePods: []policy.PodKey{{Namespace: "ns", Name: "a"}, {Namespace: "ns", Name: "b"}}, GoneIdentities: []policy.ID{id(5)}},
		{GonePolicies: []policy.Key{policyOf(1, 1).Key}, GoneGroups: []policy.ID{id(1)}},
	}
	for _, u := range changes {
		r.publish(map[string]*policy.Update{"n1": u, "n2": basic()})
		converge(t, g, r, "n1")
	}
	// A group larger than a message, and what concerns another node only.
	large := make([]int, 300_000)
	for n := range large {
		large[n] = n
	}
	r.publish(map[string]*policy.Update{"n1": {Groups: []policy.GroupUpdate{group(1, true, large...)}}})
	converge(t, g, r, "n1")
	sent := r.sent()
	r.publish(map[string]*policy.Update{"n2": {Policies: []*policy.Policy{policyOf(5, 5)}}})
	converge(t, g, r, "n1")
	if now := r.sent(); now != sent {
		t.Errorf("%f bytes for a change of another node", now-sent)
	}
}

// TestResume moves an agent between replicas that computed the same.
func TestResume(t *testing.T) {
	a := authority(t)
	one, two := startReplica(t, a), startReplica(t, a)
	large := basic()
	for n := 10; n < 500; n++ {
		large.Policies = append(large.Policies, policyOf(n, 1))
	}
	for _, r := range []*replica{one, two} {
		r.publish(map[string]*policy.Update{"n1": large})
	}
	g := startAgent(t, "n1", t.TempDir(), a.Bundle(), one.address)
	converge(t, g, one, "n1")
	whole := one.sent()
	// While the first is there, the agent stays; then it moves at once.
	g.endpoints.set(one.address, two.address)
	one.stop()
	eventually(t, "the second replica serves", g.connectedTo(two))
	converge(t, g, two, "n1")
	if sent := two.sent(); sent > 100 {
		t.Errorf("%f bytes although nothing changed; everything is %f", sent, whole)
	}
	// A change while nobody serves, seen by the restarted first one.
	two.stop()
	eventually(t, "disconnect", func() bool { return !g.Status().Connected })
	change := &policy.Update{
		Policies: []*policy.Policy{policyOf(20, 9)}, GonePolicies: []policy.Key{policyOf(21, 1).Key},
		Groups: []policy.GroupUpdate{{ID: id(1), Removed: []netip.Addr{address(2)}}},
	}
	one.publish(map[string]*policy.Update{"n1": change})
	one.listen(t, one.address.String())
	converge(t, g, one, "n1")
	if sent := one.sent(); sent > 500 {
		t.Errorf("%f bytes for a small difference; everything is %f", sent, whole)
	}
	t.Logf("everything %.0f bytes, nothing changed %.0f, a difference %.0f", whole, two.sent(), one.sent())
	if n := len(g.updates[len(g.updates)-1].Policies); n != 1 {
		t.Errorf("%d policies resent", n)
	}
	if resyncs := testutil.ToFloat64(one.server.metrics.resyncs); resyncs != 0 {
		t.Errorf("%f resyncs", resyncs)
	}
}

// TestBehind has a replica that has seen less than the agent.
func TestBehind(t *testing.T) {
	a := authority(t)
	ahead, behind := startReplica(t, a), startReplica(t, a)
	ahead.publish(map[string]*policy.Update{"n1": basic()})
	behind.publish(map[string]*policy.Update{"n1": basic()})
	ahead.publish(map[string]*policy.Update{"n1": {Policies: []*policy.Policy{policyOf(1, 9)}}})
	g := startAgent(t, "n1", t.TempDir(), a.Bundle(), ahead.address)
	converge(t, g, ahead, "n1")
	updates := len(g.updates)
	g.endpoints.set(behind.address)
	ahead.stop()
	behind.hub.mu.Lock()
	progress := behind.hub.progress
	behind.hub.mu.Unlock()
	behind.publish(map[string]*policy.Update{"n1": {Policies: []*policy.Policy{policyOf(1, 9)}}})
	<-progress
	converge(t, g, behind, "n1")
	if now := len(g.updates); now != updates {
		t.Errorf("the agent was sent back: %+v", g.updates[updates:])
	}
}

func TestCatchUpIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := NewHub(&computation{})
		s := NewServer(ServerParams{Hub: hub, Registerer: prometheus.NewRegistry()})
		w := &have{node: "n1", position: policy.Position{"pods": 5}}
		if err := s.catchUp(t.Context(), w); err == nil || testutil.ToFloat64(s.metrics.refused.WithLabelValues("not_ready")) != 1 {
			t.Errorf("served before the computation ran: %v", err)
		}
		reach := func(version uint64) {
			hub.Update(func() Change { return Change{Reached: policy.Position{"pods": version}} })
		}
		reach(3)
		for _, test := range []struct {
			reached       uint64
			after, waited time.Duration
			counted       float64
		}{{4, time.Second, behindWait, 1}, {5, 3 * time.Second, 3 * time.Second, 1}} {
			started := time.Now()
			timer := time.AfterFunc(test.after, func() { reach(test.reached) })
			if err := s.catchUp(t.Context(), w); err != nil {
				t.Error(err)
			}
			timer.Stop()
			if waited := time.Since(started); waited != test.waited || testutil.ToFloat64(s.metrics.behind) != test.counted {
				t.Errorf("reached %d: waited %s, want %s", test.reached, waited, test.waited)
			}
		}
	})
}

// TestStuckSubscriber has an agent that never reads while all changes all the time.
func TestStuckSubscriber(t *testing.T) {
	const objects, changes = 200, 100_000
	a := authority(t)
	r := startReplica(t, a)
	r.publish(map[string]*policy.Update{"n1": basic(), "n2": basic()})
	stuck := subscribeRaw(t, a, r, "Bearer token of n2", "n2")
	g := startAgent(t, "n1", t.TempDir(), a.Bundle(), r.address)
	converge(t, g, r, "n1")
	eventually(t, "subscription", func() bool { n, _ := r.hub.counts(); return n == 2 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range changes {
		u := &policy.Update{Policies: []*policy.Policy{policyOf(10+n%objects, n%1000)}}
		if n%2 == 0 {
			u.Groups = []policy.GroupUpdate{{ID: id(1), Added: []netip.Addr{address(100 + n%objects)}}}
		} else {
			u.Groups = []policy.GroupUpdate{{ID: id(1), Removed: []netip.Addr{address(100 + (n-1)%objects)}}}
		}
		r.publish(map[string]*policy.Update{"n1": u, "n2": u})
		if _, waiting := r.hub.counts(); waiting > 2*(objects+1) {
			t.Fatalf("%d objects wait", waiting)
		}
	}
	converge(t, g, r, "n1")
	g.mu.Lock()
	g.updates = nil
	g.mu.Unlock()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d bytes more in use after %d changes", grown, changes)
	}
	if revision, known := r.hub.Enforced("n2"); known {
		t.Errorf("the stuck agent enforces revision %d", revision)
	}
	// It reads after all, and gets where the other is.
	state := policy.NewState()
	want := haveOf("", r.source.View("n2"), nil)
	for updates := 0; !reflect.DeepEqual(want, haveOf("", state, nil)); {
		chunk, err := stuck.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var part wire.Assembler
		if err := part.Add(chunk.GetPart()); err != nil {
			t.Fatal(err)
		}
		u, _ := part.Update()
		if err := check(state, u); err != nil {
			t.Fatal(err)
		}
		state.Apply(u)
		if updates++; updates > changes/10 {
			t.Fatalf("%d updates", updates)
		}
	}
}

// TestReplaced subscribes a node a second time.
func TestReplaced(t *testing.T) {
	a := authority(t)
	r := startReplica(t, a)
	r.publish(map[string]*policy.Update{"n1": basic()})
	first := subscribeRaw(t, a, r, "Bearer token of n1", "n1")
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	second := subscribeRaw(t, a, r, "Bearer token of n1", "n1")
	if _, err := second.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); grpcCode(err) != "Aborted" {
		t.Errorf("first: %v", err)
	}
	if n, _ := r.hub.counts(); n != 1 {
		t.Errorf("%d subscribers", n)
	}
}

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/service"
)

// saidOf records Events as text.
type saidOf struct {
	node string
	list *[]string
}

func (s saidOf) OnService(o ServiceObject, severity Severity, reason, message string) {
	*s.list = append(*s.list, fmt.Sprintf("%s: %s %s on %s %s: %s", s.node, severity, reason, o.Key, o.UID, strings.ReplaceAll(message, "\n", " | ")))
}

// saidTo sends what Events are about.
type saidTo chan<- string

func (s saidTo) OnService(o ServiceObject, _ Severity, _, _ string) { s <- o.Key.String() }

// nodesOf is a Snapshot of nodes that are ready.
func nodesOf(names ...string) *Snapshot {
	s := &Snapshot{}
	for _, name := range names {
		s.Nodes = append(s.Nodes, Node{Node: routing.Node{Name: name}, Ready: true})
	}
	return s
}

func testServiceEvents(node string, snapshot **Snapshot, uids map[string]string, events *[]string) *ServiceEvents {
	return NewServiceEvents(ServiceEventsParams{
		Recorder: saidOf{node, events}, NodeName: node, Snapshot: func() *Snapshot { return *snapshot },
		Object: func(k service.Key) (ServiceObject, bool) {
			uid, ok := uids[k.Name]
			return ServiceObject{k, uid}, ok
		},
	})
}

func run(t *testing.T, all ...*ServiceEvents) {
	t.Helper()
	for _, e := range all {
		if err := e.reconcile(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestServiceEvents(t *testing.T) {
	uids := map[string]string{"web": "u1"}
	web := service.Key{Namespace: "shop", Name: "web"}
	clash := ServiceProblem{Reason: ReasonServiceNotServed, Message: "clash"}
	port := ServiceProblem{Reason: ReasonServiceNotServed, Message: "port"}
	listens := ServiceProblem{Reason: ReasonNodePortInUse, Message: "30080", Here: true}
	var events []string
	snapshot := (*Snapshot)(nil)
	e := testServiceEvents("n1", &snapshot, uids, &events)
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"no nodes are known", func() { e.Set(web, []ServiceProblem{listens}) }, nil},
		{"another node speaks", func() { snapshot = nodesOf("n2"); e.Set(web, []ServiceProblem{clash, listens}) }, []string{"n1: Warning NodePortInUse on shop/web u1: 30080"}},
		{"nothing new", func() { e.Set(web, []ServiceProblem{clash, listens}) }, nil},
		{"this node speaks", func() { snapshot = nodesOf("n1") }, []string{"n1: Warning ServiceNotServed on shop/web u1: clash"}},
		{"more", func() { e.Set(web, []ServiceProblem{clash, port}) }, []string{"n1: Warning ServiceNotServed on shop/web u1: clash | port"}},
		{"another object", func() { uids["web"] = "u2" }, []string{"n1: Warning ServiceNotServed on shop/web u2: clash | port"}},
		{"gone", func() { e.Set(web, nil) }, []string{"n1: Normal ServiceProblemsGone on shop/web u2: what was said to be wrong with the Service is so no more"}},
		{"still gone", func() {}, nil},
		{"again", func() { e.Set(web, []ServiceProblem{clash}) }, []string{"n1: Warning ServiceNotServed on shop/web u2: clash"}},
		{"not ready, another speaks", func() { snapshot = nodesOf("n1", "n2"); snapshot.Nodes[0].Ready = false }, nil},
		{"that is for the other to say", func() { e.Set(web, nil) }, nil},
		{"deleted", func() { snapshot = nodesOf("n1"); e.Set(web, []ServiceProblem{clash}); delete(uids, "web") }, nil},
	} {
		events = nil
		step.do()
		run(t, e)
		if d := cmp.Diff(step.want, events); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
	}
}

// TestServiceEventsAreBounded: what is too much for a second comes in the next.
func TestServiceEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan string, 100)
		e := NewServiceEvents(ServiceEventsParams{
			Recorder: saidTo(events), NodeName: "n1", Snapshot: func() *Snapshot { return nodesOf("n1") },
			Object: func(k service.Key) (ServiceObject, bool) { return ServiceObject{Key: k}, true },
		})
		for i := range 2*serviceEventsBurst + 3 {
			e.Set(service.Key{Namespace: "shop", Name: fmt.Sprintf("s%02d", i)}, []ServiceProblem{{Reason: ReasonServiceNotServed, Message: "x"}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		for second, want := range []int{serviceEventsBurst, 2 * serviceEventsBurst, 2*serviceEventsBurst + 3, 2*serviceEventsBurst + 3} {
			synctest.Wait()
			if len(events) != want {
				t.Errorf("%d Events after %d s, want %d", len(events), second, want)
			}
			time.Sleep(time.Second) // of the bubble
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		close(events)
		about := map[string]int{}
		for k := range events {
			about[k]++
			if about[k] > 1 {
				t.Errorf("said twice of %s", k)
			}
		}
	})
}

// TestOneNodeSpeaks: of 200 nodes that find the same, one says so; when it
// goes another one does, and nobody repeats what belongs to others.
func TestOneNodeSpeaks(t *testing.T) {
	const services = 3
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("node-%04d", i))
	}
	snapshot, uids := nodesOf(names...), map[string]string{}
	var events []string
	var all []*ServiceEvents
	for _, name := range names {
		e := testServiceEvents(name, &snapshot, uids, &events)
		for i := range services {
			key := service.Key{Namespace: "shop", Name: fmt.Sprint("s", i)}
			uids[key.Name] = "u"
			e.Set(key, []ServiceProblem{{Reason: ReasonServiceNotServed, Message: "x"}})
		}
		all = append(all, e)
	}
	run(t, all...)
	if len(events) != services {
		t.Fatalf("%d Events, want %d: %q", len(events), services, events)
	}
	gone, _, _ := strings.Cut(events[0], ":")
	its := 0
	for _, e := range events {
		if strings.HasPrefix(e, gone+":") {
			its++
		}
	}
	snapshot = nodesOf(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == gone })...)
	events = nil
	run(t, all...)
	if len(events) != its || strings.HasPrefix(events[0], gone+":") {
		t.Errorf("%s is gone, others say %q, want %d Events", gone, events, its)
	}
}

// TestSpeakersShare: no node speaks for much more Services than others.
func TestSpeakersShare(t *testing.T) {
	nodes := readyNodes(nodesOf("n1", "n2", "n3", "n4"))
	count := map[string]int{}
	for i := range 4000 {
		count[speaker(nodes, service.Key{Namespace: "shop", Name: fmt.Sprint("web-", i)})]++
	}
	// 1000 each; the standard deviation of a fair choice is 27.
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if count[name] < 850 || count[name] > 1150 {
			t.Errorf("%s speaks for %d of 4000 Services", name, count[name])
		}
	}
}

func TestServiceObject(t *testing.T) {
	w, err := NewServiceWatcher(ServiceWatcherParams{Clients: &Clients{Core: fake.NewClientset()}, OnChange: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	o := testService()
	o.UID = "u1"
	slimService(o)
	if err := w.services.GetStore().Add(o); err != nil {
		t.Fatal(err)
	}
	web := service.Key{Namespace: "default", Name: "web"}
	if got, ok := w.Object(web); !ok || got != (ServiceObject{web, "u1"}) {
		t.Errorf("Object = %v, %t", got, ok)
	}
	if got, ok := w.Object(service.Key{Namespace: "default", Name: "other"}); ok {
		t.Errorf("Object of a Service that is not there = %v", got)
	}
}

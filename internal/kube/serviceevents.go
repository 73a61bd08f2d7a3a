// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/service"
)

// Reasons of Events about Services.
const (
	// ReasonServiceNotServed says what of a Service is left out, and why.
	ReasonServiceNotServed = "ServiceNotServed"
	// ReasonNodePortInUse says that a program of the node listens on a NodePort.
	ReasonNodePortInUse = "NodePortInUse"
	// ReasonServiceProblemsGone says that nothing of the above holds any more.
	ReasonServiceProblemsGone = "ServiceProblemsGone"
)

// serviceEventsBurst is how many Events about Services a node writes in a
// second. What is more waits.
const serviceEventsBurst = 10

// ServiceObject is a Service that an Event is about.
type ServiceObject struct {
	Key service.Key
	UID string
}

// Object returns the object of a Service; ok is false if there is none.
func (w *ServiceWatcher) Object(k service.Key) (object ServiceObject, ok bool) {
	stored, exists, err := w.services.GetStore().GetByKey(k.String())
	svc, isService := stored.(*corev1.Service)
	if err != nil || !exists || !isService {
		return ServiceObject{}, false
	}
	return ServiceObject{Key: k, UID: string(svc.UID)}, true
}

// OnService writes an Event about a Service.
func (r *Recorder) OnService(object ServiceObject, severity Severity, reason, message string) {
	r.event(&corev1.ObjectReference{
		Kind: "Service", APIVersion: "v1", Namespace: object.Key.Namespace, Name: object.Key.Name, UID: types.UID(object.UID),
	}, severity, reason, message)
}

// ServiceProblem is something wrong with a Service.
type ServiceProblem struct {
	// Reason is that of the Event; problems of one reason are one Event.
	Reason, Message string
	// Here says that it is so at this node. Every node sees the rest alike.
	Here bool
}

// serviceRecorder writes Events. *Recorder implements it.
type serviceRecorder interface {
	OnService(object ServiceObject, severity Severity, reason, message string)
}

// ServiceEventsParams describe ServiceEvents.
type ServiceEventsParams struct {
	Recorder serviceRecorder
	// Object returns a Service as it is now; see ServiceWatcher.Object.
	Object func(service.Key) (ServiceObject, bool)
	// Snapshot has the nodes of the cluster; see Watcher.Snapshot.
	Snapshot func() *Snapshot
	NodeName string
}

// ServiceEvents say in Events what is wrong with Services, once for each change.
// Of what all nodes see alike one speaks: the ready node whose name and the
// Service's hash highest, so that they need not talk to each other, the work is
// spread, and a node that comes or goes changes the speaker of its own share
// only. (The controllers' leader could speak for all, but it would have to watch
// every Service and slice and do the nodes' work a second time.) While nodes
// disagree on who is ready two may speak, or none until they agree; logs and
// local APIs of all nodes have it meanwhile.
type ServiceEvents struct {
	params ServiceEventsParams
	loop   *reconcile.Loop

	mu       sync.Mutex
	problems map[service.Key][]ServiceProblem

	// said is what the last Events of a Service said, by reason. Owned by the loop.
	said map[service.Key]map[string]string
}

// NewServiceEvents returns ServiceEvents that say nothing before Run.
func NewServiceEvents(params ServiceEventsParams) *ServiceEvents {
	e := &ServiceEvents{params: params, problems: map[service.Key][]ServiceProblem{}, said: map[service.Key]map[string]string{}}
	e.loop = reconcile.New(reconcile.Params{
		Name:        "Service events",
		Reconcile:   e.reconcile,
		MinInterval: time.Second,
		MaxInterval: time.Minute, // a speaker that is gone is replaced by then
		RetryBase:   time.Second,
		RetryMax:    time.Minute,
	})
	return e
}

// Run speaks until ctx ends.
func (e *ServiceEvents) Run(ctx context.Context) error { return e.loop.Run(ctx) }

// Set says everything that is wrong with a Service now; nothing if there are no
// problems. It may be called from any goroutine and does not block.
func (e *ServiceEvents) Set(k service.Key, problems []ServiceProblem) {
	e.mu.Lock()
	changed := !slices.Equal(e.problems[k], problems)
	if len(problems) == 0 {
		delete(e.problems, k)
	} else {
		e.problems[k] = slices.Clone(problems)
	}
	e.mu.Unlock()
	if changed {
		e.loop.Mark()
	}
}

// reconcile says what there is to say, as far as it may at once.
func (e *ServiceEvents) reconcile(context.Context) error {
	snapshot := e.params.Snapshot()
	if snapshot == nil {
		return nil
	}
	nodes := readyNodes(snapshot)
	e.mu.Lock()
	problems := maps.Clone(e.problems)
	e.mu.Unlock()
	keys := slices.Collect(maps.Keys(problems))
	for k := range e.said {
		if len(problems[k]) == 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareServices)
	left := serviceEventsBurst
	for _, k := range keys {
		if left <= 0 {
			e.loop.Mark()
			break
		}
		left -= e.speak(k, problems[k], speaker(nodes, k) == e.params.NodeName)
	}
	return nil
}

// speak says what is new of a Service, and returns how many Events that took.
// mine says whether this node speaks for all.
func (e *ServiceEvents) speak(k service.Key, problems []ServiceProblem, mine bool) int {
	object, exists := e.params.Object(k)
	if !exists {
		delete(e.said, k)
		return 0
	}
	if len(problems) == 0 {
		delete(e.said, k)
		e.params.Recorder.OnService(object, Normal, ReasonServiceProblemsGone, "what was said to be wrong with the Service is so no more")
		return 1
	}
	lines := map[string][]string{}
	for _, p := range problems {
		if p.Here || mine {
			lines[p.Reason] = append(lines[p.Reason], p.Message)
		}
	}
	events, said := 0, map[string]string{}
	for _, reason := range slices.Sorted(maps.Keys(lines)) {
		text := strings.Join(lines[reason], "\n")
		said[reason] = object.UID + " " + text
		if said[reason] != e.said[k][reason] {
			e.params.Recorder.OnService(object, Warning, reason, text)
			events++
		}
	}
	if len(said) == 0 {
		delete(e.said, k) // of another node to say now
	} else {
		e.said[k] = said
	}
	return events
}

// readyNodes returns the hashes of the names of nodes that are ready.
func readyNodes(s *Snapshot) map[string]uint64 {
	out := map[string]uint64{}
	for _, n := range s.Nodes {
		if n.Ready {
			out[n.Name] = hash(n.Name)
		}
	}
	return out
}

// speaker returns the node that speaks of a Service for all; empty if there is
// none.
func speaker(nodes map[string]uint64, k service.Key) string {
	of, best, most := hash(k.String()), "", uint64(0)
	for name, h := range nodes {
		// Both hashes are mixed once more, so that nodes with hashes close to
		// each other do not share the same Services.
		weight := (h ^ of) * 0x9e3779b97f4a7c15
		weight = (weight ^ weight>>32) * 0xd6e8feb86659fd93
		weight ^= weight >> 32
		if best == "" || cmp.Or(cmp.Compare(weight, most), cmp.Compare(name, best)) > 0 {
			best, most = name, weight
		}
	}
	return best
}

func hash(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum64()
}

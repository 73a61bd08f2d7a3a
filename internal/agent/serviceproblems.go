// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/service"
)

// serviceProblems gathers what is wrong with Services, and tells of changes. Its
// methods may be called from any goroutine.
type serviceProblems struct {
	// say is kube.ServiceEvents.Set.
	say func(service.Key, []kube.ServiceProblem)

	mu sync.Mutex
	// read are the problems of the objects, served those of the switch; every node
	// sees them alike. host are those of this node.
	read, served, host map[service.Key][]string
}

func newServiceProblems(say func(service.Key, []kube.ServiceProblem)) *serviceProblems {
	return &serviceProblems{
		say: say, read: map[service.Key][]string{}, served: map[service.Key][]string{}, host: map[service.Key][]string{},
	}
}

// setRead says what of a Service and its slices cannot be used.
func (p *serviceProblems) setRead(ctx context.Context, k service.Key, problems []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(ctx, p.read, k, problems)
}

// setServed says what of a Service the switch does not serve.
func (p *serviceProblems) setServed(ctx context.Context, k service.Key, problems []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(ctx, p.served, k, problems)
}

func (p *serviceProblems) set(ctx context.Context, of map[service.Key][]string, k service.Key, problems []string) {
	if slices.Equal(of[k], problems) {
		return
	}
	if len(problems) == 0 {
		delete(of, k)
	} else {
		of[k] = problems
	}
	if all := slices.Concat(p.read[k], p.served[k]); len(all) > 0 {
		klog.FromContext(ctx).Info("Part of the Service is not served", "service", k, "reason", strings.Join(all, "; "))
	} else {
		klog.FromContext(ctx).Info("All of the Service can be served again", "service", k)
	}
	p.tell(k)
}

// setHost says what the node itself has against its Services.
func (p *serviceProblems) setHost(ctx context.Context, all map[service.Key][]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.host
	p.host = all
	for k, problems := range all {
		if !slices.Equal(old[k], problems) {
			klog.FromContext(ctx).Info("The node has what a Service needs", "service", k, "reason", strings.Join(problems, "; "))
			p.tell(k)
		}
	}
	for k := range old {
		if len(all[k]) == 0 {
			p.tell(k)
		}
	}
}

func (p *serviceProblems) tell(k service.Key) {
	var all []kube.ServiceProblem
	for _, text := range slices.Concat(p.read[k], p.served[k]) {
		all = append(all, kube.ServiceProblem{Reason: kube.ReasonServiceNotServed, Message: text})
	}
	for _, text := range p.host[k] {
		all = append(all, kube.ServiceProblem{Reason: kube.ReasonNodePortInUse, Message: text, Here: true})
	}
	p.say(k, all)
}

// clear forgets what was wrong with the Services that the switch served: it
// serves none.
func (p *serviceProblems) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range []map[service.Key][]string{p.read, p.served} {
		for k := range of {
			delete(of, k)
			p.tell(k)
		}
	}
}

// keys are the Services with problems.
func (p *serviceProblems) keys() []service.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	var keys []service.Key
	for _, of := range []map[service.Key][]string{p.read, p.served, p.host} {
		keys = slices.AppendSeq(keys, maps.Keys(of))
	}
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys)
}

// of is what is wrong with a Service.
func (p *serviceProblems) of(k service.Key) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.read[k], p.served[k], p.host[k])
}

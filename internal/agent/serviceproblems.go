// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
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
	// served are the problems of the switch, which every node sees alike, host
	// those of this node.
	served, host map[service.Key][]string
}

func newServiceProblems(say func(service.Key, []kube.ServiceProblem)) *serviceProblems {
	return &serviceProblems{say: say, served: map[service.Key][]string{}, host: map[service.Key][]string{}}
}

// setServed says what of a Service is not served.
func (p *serviceProblems) setServed(ctx context.Context, k service.Key, problems []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.served[k], problems) {
		return
	}
	if len(problems) == 0 {
		delete(p.served, k)
		klog.FromContext(ctx).Info("All of the Service can be served again", "service", k)
	} else {
		p.served[k] = problems
		klog.FromContext(ctx).Info("Part of the Service is not served", "service", k, "reason", strings.Join(problems, "; "))
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
	for _, text := range p.served[k] {
		all = append(all, kube.ServiceProblem{Reason: kube.ReasonServiceNotServed, Message: text})
	}
	for _, text := range p.host[k] {
		all = append(all, kube.ServiceProblem{Reason: kube.ReasonNodePortInUse, Message: text, Here: true})
	}
	p.say(k, all)
}

// clear forgets what the switch had against Services: it serves none.
func (p *serviceProblems) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.served {
		delete(p.served, k)
		p.tell(k)
	}
}

// keys are the Services with problems.
func (p *serviceProblems) keys() []service.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	var keys []service.Key
	for k := range p.served {
		keys = append(keys, k)
	}
	for k := range p.host {
		if _, both := p.served[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// of is what is wrong with a Service.
func (p *serviceProblems) of(k service.Key) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.served[k], p.host[k])
}

// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
)

// serviceSource knows the cluster's Services. *kube.ServiceWatcher implements it.
type serviceSource interface {
	// Synced says that everything was read once.
	Synced() bool
	// Take returns the Services that may have changed since the last call, All
	// every one.
	Take() []service.Key
	All() []service.Key
	Service(service.Key) (s service.Service, problems []string, found bool)
}

// refusalTimeout bounds how long the loop waits to hear that the switch refuses
// a Service.
const refusalTimeout = 5 * time.Second

// serviceSwitch declares the flows and groups of Services. Its reconcile is
// called by one loop; the rest may be called from any goroutine.
type serviceSwitch struct {
	source serviceSource
	flows  flowTable
	// mark asks for a run of reconcile, news is called when declared becomes true.
	mark, news func()

	mu   sync.Mutex
	mode config.ServicesMode // empty until it is known
	// declared says that all Services that there are have been declared, so that
	// those of an earlier run that are left in the switch are gone. As long as
	// the API server cannot be asked for them, what the switch has keeps serving.
	declared atomic.Bool

	// What follows belongs to the goroutine of reconcile.
	compiler *service.Compiler
	// serving says that the compiler knows all Services.
	serving bool
	// held are the Services that have flows, pending what the flow table has not
	// taken yet.
	held    map[service.Key]bool
	pending map[service.Key]service.Desired
	// problems are what was last said of each Service.
	problems map[service.Key]string
}

func newServiceSwitch(source serviceSource, flows flowTable, mark, news func()) *serviceSwitch {
	return &serviceSwitch{
		source: source, flows: flows, mark: mark, news: news,
		compiler: service.New(), held: map[service.Key]bool{}, pending: map[service.Key]service.Desired{}, problems: map[service.Key]string{},
	}
}

// setMode says what the configuration wants.
func (s *serviceSwitch) setMode(mode config.ServicesMode) {
	s.mu.Lock()
	changed := s.mode != mode
	s.mode = mode
	s.mu.Unlock()
	if changed {
		s.mark()
	}
}

// ready says why not all Services are declared, nil when they are.
func (s *serviceSwitch) ready() error {
	if s.declared.Load() {
		return nil
	}
	return errServicesUnknown
}

var errServicesUnknown = errors.New("waiting for the API server to list Services and EndpointSlices")

// reconcile brings the flow table to what the Services are now. An error is
// about single Services, for which it is called again.
func (s *serviceSwitch) reconcile(ctx context.Context) error {
	s.mu.Lock()
	mode := s.mode
	s.mu.Unlock()
	switch {
	case mode == "":
		return nil
	case mode == config.ServicesDisabled:
		s.stop()
		s.declare()
		return nil
	case !s.source.Synced():
		return nil
	}
	var keys []service.Key
	if s.serving {
		keys = s.source.Take()
	} else {
		keys, s.serving = s.source.All(), true
	}
	for _, k := range keys {
		svc, problems, found := s.source.Service(k)
		s.parsed.set(k, problems)
		if found {
			s.compiler.Set(svc)
		} else {
			s.compiler.Delete(k)
			s.report(ctx, k, problems)
		}
	}
	changed := s.compiler.Flush()
	for _, d := range changed {
		s.pending[d.Key] = d
		s.report(ctx, d.Key, slices.Concat(s.parsed[d.Key], d.Problems))
	}
	err := s.send()
	s.declare()
	s.watchRefusal(ctx, changed)
	return err
}

// stop takes back every Service.
func (s *serviceSwitch) stop() {
	for k := range s.held {
		s.flows.Delete(pipeline.OwnerService(k.Namespace, k.Name))
	}
	clear(s.held)
	clear(s.pending)
	clear(s.problems)
	s.compiler, s.serving = service.New(), false
}

func (s *serviceSwitch) declare() {
	if !s.declared.Swap(true) {
		s.news()
	}
}

// send hands what is pending to the flow table: first what frees addresses. A
// Service that wants what another still has, and has to give something up
// itself, gives it up first; else two that swap addresses would wait for each
// other for ever.
func (s *serviceSwitch) send() error {
	for k, d := range s.pending {
		if d.Gone {
			s.flows.Delete(d.Owner)
			delete(s.pending, k)
			delete(s.held, k)
		}
	}
	failed := s.sendOnce()
	clash := false
	for k, err := range failed {
		if errors.Is(err, openflow.ErrConflict) {
			clash = true
			s.flows.Delete(s.pending[k].Owner)
			delete(s.held, k)
		}
	}
	if clash {
		failed = s.sendOnce()
	}
	var errs []error
	for _, k := range slices.SortedFunc(maps.Keys(failed), compareKeys) {
		errs = append(errs, failed[k])
	}
	return errors.Join(errs...)
}

func compareKeys(a, b service.Key) int { return strings.Compare(a.String(), b.String()) }

// sendOnce returns what was not taken, and why.
func (s *serviceSwitch) sendOnce() map[service.Key]error {
	failed := map[service.Key]error{}
	for _, k := range slices.SortedFunc(maps.Keys(s.pending), compareKeys) {
		d := s.pending[k]
		if err := s.flows.Update(d.Owner, d.Flows, d.Groups); err != nil {
			failed[k] = err
			continue
		}
		delete(s.pending, k)
		s.held[k] = true
	}
	return failed
}

// report says what of a Service is not served, once.
func (s *serviceSwitch) report(ctx context.Context, k service.Key, problems []string) {
	text := strings.Join(problems, "; ")
	if s.problems[k] == text {
		return
	}
	if text == "" {
		delete(s.problems, k)
		klog.FromContext(ctx).Info("All of the Service can be served again", "service", k)
		return
	}
	s.problems[k] = text
	klog.FromContext(ctx).Info("Part of the Service is not served", "service", k, "reason", text)
}

// watchRefusal says which of the changed Services the switch refuses. The switch
// itself tries again, and the rest of the node is not concerned.
func (s *serviceSwitch) watchRefusal(ctx context.Context, changed []service.Desired) {
	if len(changed) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	owners := make([]string, 0, len(changed))
	for _, d := range changed {
		owners = append(owners, d.Owner)
	}
	if err := s.flows.Sync(ctx, owners...); errors.Is(err, openflow.ErrRefused) {
		klog.FromContext(ctx).Error(err, "The switch refuses Services")
	}
}

func isServiceOwner(owner string) bool { return strings.HasPrefix(owner, pipeline.OwnerServicePrefix) }

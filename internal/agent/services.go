// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/localapi"
	"github.com/waymark-net/waymark/ovs/conntrack"
	"github.com/waymark-net/waymark/ovs/flow"
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
	// Names returns every Service, and takes none.
	Names() []service.Key
	Service(service.Key) (s service.Service, problems []string, found bool)
}

// refusalTimeout bounds how long the loop waits to hear that the switch refuses
// a Service.
const refusalTimeout = 5 * time.Second

// serviceSettings are what the Services of a node depend on beside themselves.
type serviceSettings struct {
	mode config.ServicesMode // empty until it is known
	node service.Node
}

func (s serviceSettings) equal(o serviceSettings) bool { return reflect.DeepEqual(s, o) }

// serviceSwitchParams are what newServiceSwitch needs.
type serviceSwitchParams struct {
	source serviceSource
	flows  flowTable
	// forget has the switch forget kinds of connections, forgetThese single ones;
	// connections tells those of a zone.
	forget      func([]service.Connection)
	forgetThese func(context.Context, []flow.Connection) error
	connections func(ctx context.Context, zone uint16, each func(conntrack.Entry) error) error
	// mark asks for a run of reconcile, news is called when all Services have been
	// declared for the first time.
	mark, news func()
	// host is told what the Services ask of the node itself.
	host     func(service.Host)
	problems *serviceProblems
}

// serviceSwitch declares the flows and groups of Services. Its reconcile is
// called by one loop; the rest may be called from any goroutine.
type serviceSwitch struct {
	serviceSwitchParams

	mu   sync.Mutex
	want serviceSettings
	// forgotten are connections that may have come back.
	forgotten []service.Connection
	// declared says that all Services that there are have been declared, so that
	// those of an earlier run that are left in the switch are gone. As long as
	// the API server cannot be asked for them, what the switch has keeps serving.
	declared atomic.Bool
	// count is how many Services are served, affinity what LongAffinity says of them.
	count    atomic.Int64
	affinity atomic.Pointer[map[uint32]time.Duration]

	// What follows belongs to the goroutine of reconcile.
	compiler *service.Compiler
	// serving says that the compiler knows all Services, idle that it is to know
	// none and the node was told.
	serving, idle bool
	// held are the Services that have flows, pending what the flow table has not
	// taken yet.
	held    map[service.Key]bool
	pending map[service.Key]service.Desired
	// reviewed says that the connections of an earlier run have been looked at.
	reviewed bool
}

func newServiceSwitch(p serviceSwitchParams) *serviceSwitch {
	return &serviceSwitch{
		serviceSwitchParams: p,
		compiler:            service.New(), held: map[service.Key]bool{}, pending: map[service.Key]service.Desired{},
	}
}

// configure says what the configuration and the node are.
func (s *serviceSwitch) configure(want serviceSettings) {
	s.mu.Lock()
	changed := !s.want.equal(want)
	s.want = want
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

// report is what the local API tells of Services: of those that only names, or of
// all that have problems.
func (s *serviceSwitch) report(only service.Key) localapi.ServicesReport {
	s.mu.Lock()
	r := localapi.ServicesReport{Mode: string(s.want.mode), Known: s.declared.Load(), Node: s.want.node.Name, Count: int(s.count.Load())}
	s.mu.Unlock()
	var keys []service.Key
	switch {
	case only == service.Key{}:
		keys = s.problems.keys()
	case only.Namespace != "" && only.Name != "":
		keys = []service.Key{only}
	default:
		keys = s.source.Names()
	}
	for _, k := range keys {
		svc, _, found := s.source.Service(k)
		problems := s.problems.of(k)
		if found || len(problems) > 0 {
			svc.Key = k
			r.Services = append(r.Services, localapi.ServiceReport{Service: svc, Problems: problems})
		}
	}
	return r
}

var errServicesUnknown = errors.New("waiting for the API server to list Services and EndpointSlices")

// reconcile brings the flow table to what the Services are now. An error is
// about single Services, for which it is called again.
func (s *serviceSwitch) reconcile(ctx context.Context) error {
	s.mu.Lock()
	want := s.want
	s.mu.Unlock()
	switch {
	case want.mode == "":
		return nil
	case want.mode == config.ServicesDisabled:
		s.stop()
		s.declare()
		return nil
	case !s.source.Synced():
		return nil
	}
	s.idle = false
	s.compiler.SetNode(want.node)
	first := !s.serving
	s.read(ctx)
	var forget []service.Connection
	var changed []string
	for d := range s.compiler.Flush() {
		s.problems.setServed(ctx, d.Key, d.Problems)
		forget = append(forget, d.Forget...)
		changed = append(changed, d.Owner)
		s.take(d)
	}
	err := s.sendPending()
	if host, news := s.compiler.Host(); news || first {
		s.host(host)
	}
	s.count.Store(int64(len(s.held)))
	if len(changed) > 0 {
		long := s.compiler.LongAffinity()
		s.affinity.Store(&long)
	}
	s.declare()
	s.watchRefusal(ctx, changed)
	// Only now would what comes next not be led to where it was before. At the
	// start everything is new to the compiler, and nothing to the switch.
	if !s.reviewed {
		return errors.Join(err, s.review(ctx))
	}
	s.forget(forget)
	return errors.Join(err, s.lookAgain(ctx))
}

// read brings the compiler to what the Services are now.
func (s *serviceSwitch) read(ctx context.Context) {
	var keys []service.Key
	if s.serving {
		keys = s.source.Take()
	} else {
		keys, s.serving = s.source.All(), true
	}
	for _, k := range keys {
		svc, problems, found := s.source.Service(k)
		s.problems.setRead(ctx, k, problems)
		if found {
			s.compiler.Set(svc)
		} else {
			s.compiler.Delete(k)
		}
	}
}

// stop takes back every Service.
func (s *serviceSwitch) stop() {
	for k := range s.held {
		s.flows.Delete(pipeline.OwnerService(k.Namespace, k.Name))
	}
	clear(s.held)
	s.count.Store(0)
	clear(s.pending)
	s.problems.clear()
	if !s.idle {
		// Also what an earlier run left.
		s.host(service.Host{})
		s.idle = true
	}
	s.compiler, s.serving, s.reviewed = service.New(), false, false
	s.affinity.Store(nil)
}

func (s *serviceSwitch) declare() {
	if !s.declared.Swap(true) {
		s.news()
	}
}

// take hands a Service to the flow table, and has it pending if that fails.
func (s *serviceSwitch) take(d service.Desired) {
	if d.Gone {
		s.flows.Delete(d.Owner)
		delete(s.pending, d.Key)
		delete(s.held, d.Key)
		return
	}
	s.pending[d.Key] = d
	_ = s.sendOne(d.Key) // sendPending tries again and says why not
}

// sendPending hands on what the flow table has not taken, now that the others
// have freed what they do not want any more. A Service that wants what another
// still has, and has to give something up itself, gives it up first; else two
// that swap addresses would wait for each other for ever.
func (s *serviceSwitch) sendPending() error {
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
		if err := s.sendOne(k); err != nil {
			failed[k] = err
		}
	}
	return failed
}

// sendOne hands on a Service that is pending.
func (s *serviceSwitch) sendOne(k service.Key) error {
	d := s.pending[k]
	if err := s.flows.Update(d.Owner, d.Flows, d.Groups); err != nil {
		return err
	}
	delete(s.pending, k)
	s.held[k] = true
	return nil
}

// review has the switch forget, of all connections that it has, those that must
// not go on as they are: after a start because of what changed while no agent ran.
func (s *serviceSwitch) review(ctx context.Context) error {
	var forget []flow.Connection
	for _, zone := range []uint16{pipeline.ZoneIPv4, pipeline.ZoneIPv6} {
		err := s.connections(ctx, zone, func(e conntrack.Entry) error {
			c := service.Connection{Protocol: service.Protocol(e.Protocol), Frontend: e.Original.Dst, Endpoint: e.Reply.Src}
			if !s.compiler.MayGoOn(c, pipeline.Balanced(e.Mark)) {
				forget = append(forget, flow.Connection{Zone: e.Zone, Protocol: e.Protocol, Original: e.Original})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look at the connections of zone %d: %w", zone, err)
		}
	}
	if err := s.forgetThese(ctx, forget); err != nil && !errors.Is(err, openflow.ErrRefused) {
		return err
	}
	s.reviewed = true
	if len(forget) > 0 {
		klog.FromContext(ctx).Info("Connections that no Service wants any more are forgotten", "connections", len(forget))
	}
	return nil
}

// again says that connections were forgotten, and may have come back by what the
// datapath had kept. It may be called from any goroutine.
func (s *serviceSwitch) again(list []service.Connection) {
	s.mu.Lock()
	s.forgotten = append(s.forgotten, list...)
	s.mu.Unlock()
	s.mark()
}

// lookAgain has the switch forget what has come back and may still not go on.
func (s *serviceSwitch) lookAgain(ctx context.Context) error {
	s.mu.Lock()
	list := s.forgotten
	s.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	var err error
	if slices.ContainsFunc(list, func(c service.Connection) bool { return !c.Endpoint.IsValid() }) {
		// New ones to the same frontend are as they should be.
		err = s.review(ctx)
	} else {
		err = s.forgetThese(ctx, connectionsOf(slices.DeleteFunc(slices.Clone(list), func(c service.Connection) bool { return s.compiler.MayGoOn(c, true) })))
		if errors.Is(err, openflow.ErrRefused) {
			err = nil // the forgetter has said so
		}
	}
	if err == nil {
		s.mu.Lock()
		s.forgotten = s.forgotten[len(list):]
		s.mu.Unlock()
	}
	return err
}

// longAffinity is what service.Compiler.LongAffinity said last.
func (s *serviceSwitch) longAffinity() map[uint32]time.Duration {
	if long := s.affinity.Load(); long != nil {
		return *long
	}
	return nil
}

// watchRefusal says which owners of changed flows the switch refuses. The switch
// itself tries again, and the rest of the node is not concerned.
func (s *serviceSwitch) watchRefusal(ctx context.Context, changed []string) {
	if len(changed) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	if err := s.flows.Sync(ctx, changed...); errors.Is(err, openflow.ErrRefused) {
		klog.FromContext(ctx).Error(err, "The switch refuses Services")
	}
}

func isServiceOwner(owner string) bool { return strings.HasPrefix(owner, pipeline.OwnerServicePrefix) }

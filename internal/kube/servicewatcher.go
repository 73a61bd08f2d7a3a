// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/service"
)

// ServiceWatcherParams describe a ServiceWatcher.
type ServiceWatcherParams struct {
	Clients *Clients
	// OnChange is called on any goroutine when there is something to Take. It
	// must not block.
	OnChange func()
}

// ServiceWatcher watches Services and their EndpointSlices. Its informers keep
// of the objects what is needed; whoever wants to know takes the names of the
// Services that changed, and asks for each.
type ServiceWatcher struct {
	params           ServiceWatcherParams
	services, slices cache.SharedIndexInformer
	synced           atomic.Bool

	mu    sync.Mutex
	dirty map[service.Key]bool
}

// byService is the index of EndpointSlices by their Service.
const byService = "service"

// labelServiceProxy is on Services that another program serves, as its value
// says. They are not ours.
const labelServiceProxy = "service.kubernetes.io/service-proxy-name"

// labelsUnserved are on Services that no proxy serves, or another one, whatever
// their value. A Service may be headless by label and have a ClusterIP.
var labelsUnserved = []string{labelServiceProxy, corev1.IsHeadlessService}

// NewServiceWatcher returns a ServiceWatcher that does nothing before Run.
func NewServiceWatcher(params ServiceWatcherParams) (*ServiceWatcher, error) {
	core := params.Clients.Core
	w := &ServiceWatcher{
		params:   params,
		services: newInformer(core.CoreV1().Services(metav1.NamespaceAll), &corev1.Service{}, ""),
		slices:   newInformer(core.DiscoveryV1().EndpointSlices(metav1.NamespaceAll), &discoveryv1.EndpointSlice{}, ""),
		dirty:    map[service.Key]bool{},
	}
	err := w.slices.AddIndexers(cache.Indexers{byService: func(object any) ([]string, error) {
		if k, ok := serviceOf(object); ok {
			return []string{k.String()}, nil
		}
		return nil, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index EndpointSlices: %w", err)
	}
	return w, nil
}

// serviceOf returns the Service that an object is or belongs to.
func serviceOf(object any) (service.Key, bool) {
	switch o := object.(type) {
	case *corev1.Service:
		return service.Key{Namespace: o.Namespace, Name: o.Name}, true
	case *discoveryv1.EndpointSlice:
		name := o.Labels[discoveryv1.LabelServiceName]
		return service.Key{Namespace: o.Namespace, Name: name}, name != ""
	case cache.DeletedFinalStateUnknown:
		return serviceOf(o.Obj)
	}
	return service.Key{}, false
}

// Run watches until ctx ends. An API server that does not answer is waited for.
func (w *ServiceWatcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var synced []cache.InformerSynced
	for name, informer := range map[string]cache.SharedIndexInformer{"Services": w.services, "EndpointSlices": w.slices} {
		registration, err := informer.AddEventHandler(w.handler())
		if err != nil {
			return fmt.Errorf("watch %s: %w", name, err)
		}
		synced = append(synced, registration.HasSynced)
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		w.synced.Store(true)
		klog.FromContext(ctx).Info("All Services were read", "services", len(w.services.GetStore().ListKeys()))
		w.params.OnChange()
		<-ctx.Done()
	}
	return context.Cause(ctx)
}

// handler marks the Service that an event is about. Updates that say nothing
// new to us are left out: a controller touches the objects of other fields.
func (w *ServiceWatcher) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.mark(o) },
		DeleteFunc: func(o any) { w.mark(o) },
		UpdateFunc: func(before, after any) {
			if !sameService(before, after) {
				w.mark(before, after)
			}
		},
	}
}

// sameService compares what slim leaves of an object.
func sameService(before, after any) bool {
	switch a := before.(type) {
	case *corev1.Service:
		b, ok := after.(*corev1.Service)
		return ok && a.UID == b.UID && reflect.DeepEqual(a.Spec, b.Spec) && reflect.DeepEqual(a.Labels, b.Labels) &&
			reflect.DeepEqual(a.Status, b.Status)
	case *discoveryv1.EndpointSlice:
		b, ok := after.(*discoveryv1.EndpointSlice)
		return ok && a.AddressType == b.AddressType && reflect.DeepEqual(a.Labels, b.Labels) &&
			reflect.DeepEqual(a.Ports, b.Ports) && reflect.DeepEqual(a.Endpoints, b.Endpoints)
	}
	return false
}

func (w *ServiceWatcher) mark(objects ...any) {
	w.mu.Lock()
	for _, o := range objects {
		if k, ok := serviceOf(o); ok {
			w.dirty[k] = true
		}
	}
	w.mu.Unlock()
	w.params.OnChange()
}

// Synced reports whether everything was read once.
func (w *ServiceWatcher) Synced() bool { return w.synced.Load() }

// Take returns the Services that may have changed since the last call, in
// order.
func (w *ServiceWatcher) Take() []service.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(w.dirty), compareServices)
	clear(w.dirty)
	return keys
}

func compareServices(a, b service.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// All returns every Service that there is, in order, and takes them all.
func (w *ServiceWatcher) All() []service.Key {
	w.Take()
	return w.Names()
}

// Names returns every Service that there is, in order.
func (w *ServiceWatcher) Names() []service.Key {
	var keys []service.Key
	for _, o := range w.services.GetStore().List() {
		if k, ok := serviceOf(o); ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareServices)
	return keys
}

// Service returns a Service with the endpoints of all its slices as it is now,
// and what of it could not be understood, in words. It is not found when it
// does not exist, or has no ClusterIP that is ours to serve.
func (w *ServiceWatcher) Service(k service.Key) (s service.Service, problems []string, found bool) {
	object, exists, err := w.services.GetStore().GetByKey(k.String())
	if err != nil || !exists {
		return service.Service{}, nil, false
	}
	svc, ok := object.(*corev1.Service)
	if !ok {
		return service.Service{}, nil, false
	}
	indexed, err := w.slices.GetIndexer().ByIndex(byService, k.String())
	if err != nil {
		return service.Service{}, []string{err.Error()}, false
	}
	var own []*discoveryv1.EndpointSlice
	for _, o := range indexed {
		if slice, ok := o.(*discoveryv1.EndpointSlice); ok {
			own = append(own, slice)
		}
	}
	return parseService(svc, own)
}

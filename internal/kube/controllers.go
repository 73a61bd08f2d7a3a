// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/waymark-net/waymark/internal/config"
)

const (
	// controllerService is the headless Service of the controllers, policyPort
	// the name of the port of their policy stream.
	controllerService = "waymark-controller"
	policyPort        = "policy"
)

// ControllerFinder knows where controllers serve the policy stream, by the
// EndpointSlices of their Service, and which CA they have. Its methods may be
// called from any goroutine.
type ControllerFinder struct {
	slices, bundle cache.SharedIndexInformer

	mu      sync.Mutex
	changed chan struct{}
}

// NewControllerFinder returns a ControllerFinder that knows nothing before Run.
func NewControllerFinder(clients *Clients) *ControllerFinder {
	return &ControllerFinder{
		slices:  newInformer(sliceReader{clients.Core}, &discoveryv1.EndpointSlice{}, ""),
		bundle:  newInformer(clients.Core.CoreV1().ConfigMaps(config.Namespace), &corev1.ConfigMap{}, AuthorityName),
		changed: make(chan struct{}),
	}
}

// sliceReader reads the EndpointSlices of the controllers' Service.
type sliceReader struct{ client kubernetes.Interface }

const sliceSelector = discoveryv1.LabelServiceName + "=" + controllerService

func (r sliceReader) List(ctx context.Context, opts metav1.ListOptions) (*discoveryv1.EndpointSliceList, error) {
	opts.LabelSelector = sliceSelector
	return r.client.DiscoveryV1().EndpointSlices(config.Namespace).List(ctx, opts)
}

func (r sliceReader) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.LabelSelector = sliceSelector
	return r.client.DiscoveryV1().EndpointSlices(config.Namespace).Watch(ctx, opts)
}

var _ Reader[*discoveryv1.EndpointSliceList] = sliceReader{}

// Run watches until ctx ends and returns its cause.
func (f *ControllerFinder) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for _, informer := range []cache.SharedIndexInformer{f.slices, f.bundle} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { f.announce() }, DeleteFunc: func(any) { f.announce() }, UpdateFunc: func(any, any) { f.announce() },
		}); err != nil {
			return fmt.Errorf("watch the controllers: %w", err)
		}
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (f *ControllerFinder) announce() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

// Controllers returns where controllers serve, those only that are ready unless
// none is, and what is closed when that changes.
func (f *ControllerFinder) Controllers() ([]netip.AddrPort, <-chan struct{}) {
	f.mu.Lock()
	changed := f.changed
	f.mu.Unlock()
	var ready, rest []netip.AddrPort
	for _, item := range f.slices.GetStore().List() {
		if slice, ok := item.(*discoveryv1.EndpointSlice); ok {
			r, n := serving(slice)
			ready, rest = append(ready, r...), append(rest, n...)
		}
	}
	if len(ready) == 0 {
		ready = rest
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready), changed
}

// serving returns the addresses of a slice, ready and not.
func serving(slice *discoveryv1.EndpointSlice) (ready, rest []netip.AddrPort) {
	for _, port := range slice.Ports {
		if port.Name == nil || *port.Name != policyPort || port.Port == nil {
			continue
		}
		for _, e := range slice.Endpoints {
			for _, text := range e.Addresses {
				a, err := netip.ParseAddr(text)
				if err != nil || *port.Port < 1 || *port.Port > 65535 {
					continue
				}
				at := netip.AddrPortFrom(a, uint16(*port.Port))
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					ready = append(ready, at)
				} else {
					rest = append(rest, at)
				}
			}
		}
	}
	return ready, rest
}

// Bundle returns the certificates to trust as PEM.
func (f *ControllerFinder) Bundle() ([]byte, error) {
	for _, item := range f.bundle.GetStore().List() {
		if m, ok := item.(*corev1.ConfigMap); ok {
			if text := m.Data[BundleKey]; text != "" {
				return []byte(text), nil
			}
		}
	}
	return nil, errors.New("ConfigMap " + config.Namespace + "/" + AuthorityName + " with key " + BundleKey + " was not read")
}

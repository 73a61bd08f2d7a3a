// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/reconcile"
)

// WatcherParams describe a Watcher.
type WatcherParams struct {
	Clients *Clients
	// NodeName is the agent's own node: the Secrets of its peers are watched.
	// Empty for the controller, which watches BGPSessions instead.
	NodeName string
	// OnChange is called on the Watcher's goroutine after each new Snapshot. It
	// must not block.
	OnChange func()
}

// Watcher keeps a Snapshot up to date.
type Watcher struct {
	params   WatcherParams
	loop     *reconcile.Loop
	snapshot atomic.Pointer[Snapshot]

	nodes, configMap, peers, advertisements, rollouts cache.SharedIndexInformer
	// sessions is nil for an agent.
	sessions cache.SharedIndexInformer
	secrets  *secretWatcher
}

// NewWatcher returns a Watcher that does nothing before Run.
func NewWatcher(params WatcherParams) *Watcher {
	w := &Watcher{params: params}
	w.loop = reconcile.New(reconcile.Params{
		Name:        "snapshot",
		Reconcile:   w.refresh,
		MinInterval: 50 * time.Millisecond,
		MaxInterval: 10 * time.Minute,
		RetryBase:   time.Second,
		RetryMax:    30 * time.Second,
	})
	core := params.Clients.Core.CoreV1()
	w.nodes = newInformer(core.Nodes(), &corev1.Node{}, "")
	w.configMap = newInformer(core.ConfigMaps(config.Namespace), &corev1.ConfigMap{}, config.ConfigMapName)
	w.peers = newInformer(params.Clients.Peers, &v1alpha1.BGPPeer{}, "")
	w.advertisements = newInformer(params.Clients.Advertisements, &v1alpha1.BGPAdvertisement{}, "")
	w.rollouts = newInformer(params.Clients.Rollouts, &v1alpha1.NetworkRollout{}, "")
	if params.NodeName == "" {
		w.sessions = newInformer(params.Clients.Sessions, &v1alpha1.BGPSession{}, "")
	}
	w.secrets = &secretWatcher{client: params.Clients.Core, onChange: w.loop.Mark}
	return w
}

// Snapshot returns the newest state, nil until everything was read once.
func (w *Watcher) Snapshot() *Snapshot { return w.snapshot.Load() }

// Run watches until ctx ends. An API server that does not answer is waited for.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	synced := make([]cache.InformerSynced, 0, 6)
	for _, informer := range []cache.SharedIndexInformer{w.nodes, w.configMap, w.peers, w.advertisements, w.rollouts, w.sessions} {
		if informer == nil {
			continue
		}
		registration, err := informer.AddEventHandler(w.handler())
		if err != nil {
			return fmt.Errorf("watch the API server: %w", err)
		}
		synced = append(synced, registration.HasSynced)
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return context.Cause(ctx)
	}
	err := w.loop.Run(ctx)
	cancel()
	w.secrets.running.Wait()
	return err
}

// handler marks the loop dirty. Updates that say nothing new to this Watcher
// are left out: nodes report themselves all the time, and the status of a
// BGPPeer changes with every session of every node.
func (w *Watcher) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { w.loop.Mark() },
		DeleteFunc: func(any) { w.loop.Mark() },
		UpdateFunc: func(before, after any) {
			if !w.same(before, after) {
				w.loop.Mark()
			}
		},
	}
}

// same reports whether an update can be left out.
func (w *Watcher) same(before, after any) bool {
	switch a := before.(type) {
	case *corev1.Node:
		b, ok := after.(*corev1.Node)
		return ok && reflect.DeepEqual(w.parseNode(a), w.parseNode(b))
	case *v1alpha1.BGPPeer:
		b, ok := after.(*v1alpha1.BGPPeer)
		// The controller needs the resource version for its own writes.
		return ok && w.sessions == nil && a.UID == b.UID && a.Generation == b.Generation
	}
	return false
}

// parseNode is parseNode without what this Watcher does not tell.
func (w *Watcher) parseNode(object *corev1.Node) Node {
	n := parseNode(object)
	if w.sessions == nil {
		n.Rollout = NodeRollout{}
	}
	return n
}

// refresh builds and publishes a new Snapshot.
func (w *Watcher) refresh(ctx context.Context) error {
	s := &Snapshot{
		PeerObjects:    objects[v1alpha1.BGPPeer](w.peers),
		advertisements: objects[v1alpha1.BGPAdvertisement](w.advertisements),
		RolloutObjects: objects[v1alpha1.NetworkRollout](w.rollouts),
	}
	slices.SortFunc(s.RolloutObjects, func(a, b v1alpha1.NetworkRollout) int { return cmp.Compare(a.Spec.Number, b.Spec.Number) })
	for _, n := range objects[corev1.Node](w.nodes) {
		s.Nodes = append(s.Nodes, w.parseNode(&n))
	}
	for _, m := range objects[corev1.ConfigMap](w.configMap) {
		text, found := m.Data[config.ConfigMapKey]
		s.Document = Document{Found: found, Text: []byte(text), UID: string(m.UID), Version: m.ResourceVersion}
	}
	if w.sessions != nil {
		s.Sessions = objects[v1alpha1.BGPSession](w.sessions)
	}
	s.secrets = w.secrets.watch(ctx, s.secretNames(w.params.NodeName))
	w.snapshot.Store(s)
	klog.FromContext(ctx).V(2).Info("New snapshot", "nodes", len(s.Nodes), "peers", len(s.PeerObjects), "sessions", len(s.Sessions))
	if w.params.OnChange != nil {
		w.params.OnChange()
	}
	return nil
}

// secretNames returns the Secrets that the peers of a node name.
func (s *Snapshot) secretNames(nodeName string) []string {
	node := s.Node(nodeName)
	if node == nil {
		return nil
	}
	var names []string
	for _, p := range s.PeerObjects {
		selected, err := Selects(p.Spec.NodeSelector, node.Labels)
		if err == nil && selected && p.Spec.PasswordSecretRef != nil {
			names = append(names, p.Spec.PasswordSecretRef.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// objects returns what an informer holds, by name. The objects share maps with
// the informer's and are not to be changed.
func objects[T any, P interface {
	*T
	GetName() string
}](informer cache.SharedIndexInformer) []T {
	stored := informer.GetStore().List()
	list := make([]T, 0, len(stored))
	for _, item := range stored {
		if object, ok := item.(P); ok {
			list = append(list, *object)
		}
	}
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(P(&a).GetName(), P(&b).GetName()) })
	return list
}

// newInformer returns an informer of all objects of a client, or of the one of
// the name.
func newInformer[L runtime.Object](client Reader[L], example runtime.Object, name string) cache.SharedIndexInformer {
	only := func(opts *metav1.ListOptions) {
		if name != "" {
			opts.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}
	}
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			only(&opts)
			return client.List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			only(&opts)
			return client.Watch(ctx, opts)
		},
	}, example, 0, cache.Indexers{})
	// SetTransform fails only after the informer was started.
	_ = informer.SetTransform(slim)
	return informer
}

// slim drops what nobody here reads from an object before it is kept.
func slim(object any) (any, error) {
	if node, ok := object.(*corev1.Node); ok {
		node.Status.Images = nil
		node.Status.VolumesAttached, node.Status.VolumesInUse = nil, nil
	}
	switch o := object.(type) {
	case *corev1.Pod:
		slimPod(o)
	case *corev1.Service:
		slimService(o)
	case *discoveryv1.EndpointSlice:
		slimSlice(o)
	}
	if meta, ok := object.(metav1.Object); ok {
		meta.SetManagedFields(nil)
	}
	return object, nil
}

// slimPod leaves of a Pod what PolicyPod reads.
func slimPod(pod *corev1.Pod) {
	spec := corev1.PodSpec{NodeName: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork}
	slim := func(containers []corev1.Container) []corev1.Container {
		var out []corev1.Container
		for _, c := range containers {
			if len(c.Ports) > 0 {
				out = append(out, corev1.Container{Ports: c.Ports, RestartPolicy: c.RestartPolicy})
			}
		}
		return out
	}
	spec.Containers, spec.InitContainers = slim(pod.Spec.Containers), slim(pod.Spec.InitContainers)
	pod.Spec = spec
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs}
	annotations := map[string]string{}
	for _, key := range []string{mirrorAnnotation, hashAnnotation} {
		if value, ok := pod.Annotations[key]; ok {
			annotations[key] = value
		}
	}
	pod.Annotations = annotations
	pod.OwnerReferences = nil
}

// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/waymark-net/waymark/policy"
)

// PolicyWatcherParams describe a PolicyWatcher.
type PolicyWatcherParams struct {
	Clients *Clients
	// OnChange is called on any goroutine when there is something to Take. It
	// must not block.
	OnChange func()
}

// PolicyWatcher watches everything that policies depend on. Its informers keep
// the objects; what changed is taken from it as intents.
type PolicyWatcher struct {
	params PolicyWatcherParams
	kinds  map[string]*watchedKind
	synced atomic.Bool
}

// The kinds that are watched, as a policy.Position calls them.
const (
	kindPods            = "pods"
	kindNamespaces      = "namespaces"
	kindNodes           = "nodes"
	kindNetworkPolicies = "networkpolicies"
	kindClusterPolicies = "clusternetworkpolicies"
)

// watchedKind is one kind of object.
type watchedKind struct {
	informer cache.SharedIndexInformer
	// take adds an object as it is now, nil if it is gone.
	take func(e *PolicyEvents, key cache.ObjectName, object any)

	mu    sync.Mutex
	dirty map[string]bool // namespace/name
	// marked is the newest resource version among the changes, read how far the
	// API server's history was read.
	marked, read uint64

	// contained is the newest resource version among the changes that were
	// taken. It belongs to the caller of Take.
	contained uint64
}

// PolicyEvents are the objects that changed since the last Take, as they are
// now.
type PolicyEvents struct {
	Pods           []*policy.PodIntent
	GonePods       []policy.PodKey
	Namespaces     []*policy.NamespaceIntent
	GoneNamespaces []string
	Nodes          []*policy.NodeIntent
	GoneNodes      []string
	Policies       []*policy.PolicyIntent
	GonePolicies   []policy.Key
	// Problems say of policies that changed what was not understood; those
	// without are there too, with nothing.
	Problems map[policy.Key][]PolicyProblem
	// Contained is the Position of a State with all changes so far, and Read
	// how far the API server's history was read.
	Contained, Read policy.Position
}

// NewPolicyWatcher returns a PolicyWatcher that does nothing before Run.
func NewPolicyWatcher(params PolicyWatcherParams) *PolicyWatcher {
	core := params.Clients.Core
	policies := optional[*policyv1alpha2.ClusterNetworkPolicyList]{
		Reader: params.Clients.ClusterPolicies, definitions: params.Clients.Definitions, definition: clusterPolicyDefinition,
	}
	w := &PolicyWatcher{params: params, kinds: map[string]*watchedKind{
		kindPods: {
			informer: newInformer(core.CoreV1().Pods(metav1.NamespaceAll), &corev1.Pod{}, ""),
			take:     takePod,
		},
		kindNamespaces: {
			informer: newInformer(core.CoreV1().Namespaces(), &corev1.Namespace{}, ""),
			take:     takeNamespace,
		},
		kindNodes: {
			informer: newInformer(core.CoreV1().Nodes(), &corev1.Node{}, ""),
			take:     takeNode,
		},
		kindNetworkPolicies: {
			informer: newInformer(core.NetworkingV1().NetworkPolicies(metav1.NamespaceAll), &networkingv1.NetworkPolicy{}, ""),
			take:     takeNetworkPolicy,
		},
		kindClusterPolicies: {
			informer: newInformer(policies, &policyv1alpha2.ClusterNetworkPolicy{}, ""),
			take:     takeClusterPolicy,
		},
	}}
	for _, k := range w.kinds {
		k.dirty = map[string]bool{}
	}
	return w
}

// Run watches until ctx ends. An API server that does not answer is waited for.
func (w *PolicyWatcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	synced := make([]cache.InformerSynced, 0, len(w.kinds))
	for name, k := range w.kinds {
		registration, err := k.informer.AddEventHandler(k.handler(w.params.OnChange))
		if err != nil {
			return fmt.Errorf("watch %s: %w", name, err)
		}
		synced = append(synced, registration.HasSynced)
		running.Go(func() { k.informer.RunWithContext(ctx) })
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		for _, k := range w.kinds {
			k.relisted()
		}
		w.synced.Store(true)
		klog.FromContext(ctx).Info("Everything that policies depend on was read")
		w.params.OnChange()
		<-ctx.Done()
	}
	return context.Cause(ctx)
}

// handler marks what an event is about. No event is too small: it may be the
// one that a node waits for.
func (k *watchedKind) handler(changed func()) cache.ResourceEventHandler {
	mark := func(object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			k.mark(gone.Key, 0)
			k.relisted()
		} else if meta, ok := object.(metav1.Object); ok {
			k.mark(cache.MetaObjectToName(meta).String(), version(meta.GetResourceVersion()))
		}
		changed()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: mark, DeleteFunc: mark,
		UpdateFunc: func(_, after any) { mark(after) },
	}
}

func (k *watchedKind) mark(key string, version uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dirty[key] = true
	k.marked = max(k.marked, version)
	k.read = max(k.read, version)
}

// relisted notes that a list was read, which says how far the history was read
// although nothing in it is that new.
func (k *watchedKind) relisted() {
	at := version(k.informer.LastSyncResourceVersion())
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read = max(k.read, at)
}

// version is a resource version as a number, 0 if it is none.
func version(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Synced reports whether everything was read once.
func (w *PolicyWatcher) Synced() bool { return w.synced.Load() }

// Take returns what changed since the last call. It is called by one goroutine.
func (w *PolicyWatcher) Take() *PolicyEvents {
	e := &PolicyEvents{Problems: map[policy.Key][]PolicyProblem{}, Contained: policy.Position{}, Read: policy.Position{}}
	for name, k := range w.kinds {
		k.mu.Lock()
		dirty := k.dirty
		k.dirty = make(map[string]bool)
		k.contained = max(k.contained, k.marked)
		read := k.read
		k.mu.Unlock()
		for key := range dirty {
			object, exists, err := k.informer.GetStore().GetByKey(key)
			if err != nil || !exists {
				object = nil
			} else if meta, ok := object.(metav1.Object); ok {
				// Newer than what marked it, perhaps.
				k.contained = max(k.contained, version(meta.GetResourceVersion()))
			}
			parsed, err := cache.ParseObjectName(key)
			if err != nil {
				continue // made by cache.ObjectName.String
			}
			k.take(e, parsed, object)
		}
		e.Contained[name], e.Read[name] = k.contained, max(read, k.contained)
	}
	return e
}

// podKey is the PodKey of an object's name.
func podKey(n cache.ObjectName) policy.PodKey {
	return policy.PodKey{Namespace: n.Namespace, Name: n.Name}
}

func takePod(e *PolicyEvents, key cache.ObjectName, object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		e.GonePods = append(e.GonePods, podKey(key))
		return
	}
	in := PolicyPod(pod)
	e.Pods = append(e.Pods, &in)
}

func takeNamespace(e *PolicyEvents, key cache.ObjectName, object any) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		e.GoneNamespaces = append(e.GoneNamespaces, key.Name)
		return
	}
	in := PolicyNamespace(namespace)
	e.Namespaces = append(e.Namespaces, &in)
}

func takeNode(e *PolicyEvents, key cache.ObjectName, object any) {
	node, ok := object.(*corev1.Node)
	if !ok {
		e.GoneNodes = append(e.GoneNodes, key.Name)
		return
	}
	in := PolicyNode(node)
	e.Nodes = append(e.Nodes, &in)
}

func takeNetworkPolicy(e *PolicyEvents, key cache.ObjectName, object any) {
	p, ok := object.(*networkingv1.NetworkPolicy)
	if !ok {
		e.goneOrNot(policy.Key{Kind: policy.NetworkPolicy, Namespace: key.Namespace, Name: key.Name}, nil, nil)
		return
	}
	in, problems := NetworkPolicy(p)
	e.goneOrNot(in.Key, in, problems)
}

func takeClusterPolicy(e *PolicyEvents, key cache.ObjectName, object any) {
	p, ok := object.(*policyv1alpha2.ClusterNetworkPolicy)
	if !ok {
		e.goneOrNot(policy.Key{Kind: policy.ClusterNetworkPolicy, Name: key.Name}, nil, nil)
		return
	}
	in, problems := ClusterNetworkPolicy(p)
	e.goneOrNot(in.Key, in, problems)
}

func (e *PolicyEvents) goneOrNot(key policy.Key, in *policy.PolicyIntent, problems []PolicyProblem) {
	e.Problems[key] = problems
	if in == nil {
		e.GonePolicies = append(e.GonePolicies, key)
		return
	}
	e.Policies = append(e.Policies, in)
}

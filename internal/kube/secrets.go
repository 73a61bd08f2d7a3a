// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
)

// secretWait bounds how long a new Secret is waited for before the snapshot is
// published without it: an agent must not lose its other peers over one Secret
// that it may not read.
const secretWait = 2 * time.Second

// errSecretPending stands for a Secret that the API server was asked for.
var errSecretPending = errors.New("the API server has not answered yet")

// secretWatcher watches single Secrets of kube-system by name: the agent reads
// no Secret that no peer of its node names. Its methods are called from the
// Watcher's goroutine; whoever cancels their context then waits for running.
type secretWatcher struct {
	client   kubernetes.Interface
	onChange func()

	running sync.WaitGroup
	watches map[string]*secretWatch
}

// secretWatch is the informer of one Secret.
type secretWatch struct {
	informer cache.SharedIndexInformer
	synced   cache.InformerSynced
	stop     context.CancelFunc

	mu sync.Mutex
	// err is the last failure to list or watch.
	err error
}

// watch makes exactly the named Secrets watched and returns what is known of them.
func (w *secretWatcher) watch(ctx context.Context, names []string) map[string]secret {
	if w.watches == nil {
		w.watches = map[string]*secretWatch{}
	}
	for name, s := range w.watches {
		if !slices.Contains(names, name) {
			s.stop()
			delete(w.watches, name)
		}
	}
	var fresh []cache.InformerSynced
	for _, name := range names {
		if w.watches[name] == nil {
			s := w.start(ctx, name)
			w.watches[name] = s
			fresh = append(fresh, s.synced)
		}
	}
	if len(fresh) > 0 {
		waiting, cancel := context.WithTimeout(ctx, secretWait)
		cache.WaitForCacheSync(waiting.Done(), fresh...)
		cancel()
	}
	known := make(map[string]secret, len(names))
	for name, s := range w.watches {
		known[name] = s.read(name)
	}
	return known
}

func (w *secretWatcher) start(ctx context.Context, name string) *secretWatch {
	ctx, stop := context.WithCancel(ctx)
	s := &secretWatch{
		informer: newInformer(w.client.CoreV1().Secrets(config.Namespace), &corev1.Secret{}, name),
		stop:     stop,
	}
	// These two fail only after the informer was started.
	_ = s.informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		klog.FromContext(ctx).Error(err, "Secret of a BGP peer cannot be watched", "secret", name)
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		w.onChange()
	})
	mark := func(any) { w.onChange() }
	registration, _ := s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: mark, DeleteFunc: mark, UpdateFunc: func(any, any) { w.onChange() },
	})
	s.synced = registration.HasSynced
	w.running.Go(func() { s.informer.RunWithContext(ctx) })
	return s
}

// read returns what is known of the Secret. Once read it stays in force while
// the API server is away.
func (s *secretWatch) read(name string) secret {
	if !s.synced() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			return secret{err: s.err}
		}
		return secret{err: errSecretPending}
	}
	item, exists, err := s.informer.GetStore().GetByKey(config.Namespace + "/" + name)
	if err != nil || !exists {
		return secret{err: err}
	}
	object, ok := item.(*corev1.Secret)
	if !ok {
		return secret{}
	}
	return secret{found: true, data: object.Data}
}

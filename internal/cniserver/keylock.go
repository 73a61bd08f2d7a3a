// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"sync"
)

// keyLocks is a mutex a key. The zero value is ready.
type keyLocks struct {
	mu   sync.Mutex
	keys map[string]*keyLock
}

type keyLock struct {
	token chan struct{} // holds one value while unlocked
	users int           // holders and waiters
}

// lock waits for the key and returns the function that unlocks it.
func (l *keyLocks) lock(ctx context.Context, key string) (func(), error) {
	k := l.use(key)
	select {
	case <-k.token:
		return func() { k.token <- struct{}{}; l.unuse(key) }, nil
	case <-ctx.Done():
		l.unuse(key)
		return nil, context.Cause(ctx)
	}
}

// tryLock locks the key if nobody uses it.
func (l *keyLocks) tryLock(key string) (func(), bool) {
	k := l.use(key)
	select {
	case <-k.token:
		return func() { k.token <- struct{}{}; l.unuse(key) }, true
	default:
		l.unuse(key)
		return nil, false
	}
}

func (l *keyLocks) use(key string) *keyLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[string]*keyLock{}
	}
	k := l.keys[key]
	if k == nil {
		k = &keyLock{token: make(chan struct{}, 1)}
		k.token <- struct{}{}
		l.keys[key] = k
	}
	k.users++
	return k
}

func (l *keyLocks) unuse(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys[key].users--; l.keys[key].users == 0 {
		delete(l.keys, key)
	}
}

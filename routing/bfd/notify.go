// SPDX-License-Identifier: Apache-2.0

package bfd

import "sync"

// waitingMax bounds what waits for a callback that does not return, a session.
const waitingMax = 32

// notifier calls back from a goroutine of its own, such that a slow callback
// costs no packet.
type notifier struct {
	call func(string, Status)

	mu      sync.Mutex
	waiting []Status
	wake    chan struct{} // holds one
}

func newNotifier(call func(string, Status)) *notifier {
	return &notifier{call: call, wake: make(chan struct{}, 1)}
}

// add queues a status. Of too many for one session the oldest goes: what comes
// last is what counts, and Downs tells what was missed.
func (n *notifier) add(s Status) {
	n.mu.Lock()
	count, oldest := 0, 0
	for i := len(n.waiting) - 1; i >= 0; i-- {
		if n.waiting[i].Name == s.Name {
			count, oldest = count+1, i
		}
	}
	if count >= waitingMax {
		n.waiting = append(n.waiting[:oldest], n.waiting[oldest+1:]...)
	}
	n.waiting = append(n.waiting, s)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// forget drops what waits for a session that is gone.
func (n *notifier) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var keep []Status
	for _, s := range n.waiting {
		if s.Name != name {
			keep = append(keep, s)
		}
	}
	n.waiting = keep
}

// run calls back until stop is closed.
func (n *notifier) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-n.wake:
		}
		for s, ok := n.take(); ok; s, ok = n.take() {
			n.call(s.Name, s)
		}
	}
}

func (n *notifier) take() (Status, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) == 0 {
		return Status{}, false
	}
	s := n.waiting[0]
	n.waiting = n.waiting[1:]
	return s, true
}

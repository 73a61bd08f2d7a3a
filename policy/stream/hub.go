// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"maps"
	"sync"

	"github.com/waymark-net/waymark/policy"
)

// Source is the computation. The hub calls it only from within Hub.Update and
// between two of its runs, never at the same time.
type Source interface {
	// View returns all that a node enforces now. Nobody changes it afterwards; what
	// is the same for several nodes is shared.
	View(node string) *policy.State
	// Digests returns the digest of each group of the View.
	Digests(node string) map[policy.ID]policy.Digest
}

// Deltas say how the States of nodes changed.
type Deltas interface {
	// Updates returns the changes of the nodes that are wanted and that have
	// some. What they contain is shared and never changed.
	Updates(wanted func(node string) bool) map[string]*policy.Update
}

// Change is what one run of the computation came to.
type Change struct {
	// Deltas may be nil: only positions moved.
	Deltas Deltas
	// Newest is the position of the newest change that is in the computation,
	// Reached how far the API server's history was read; see policy.Position.
	Newest, Reached policy.Position
}

// Hub hands the computation's changes to the subscribers. Its methods may be
// called from any goroutine.
type Hub struct {
	source Source

	mu sync.Mutex
	// revision counts runs of the computation; 0: there was none yet.
	revision        uint64
	newest, reached policy.Position
	// progress is closed at the next run.
	progress    chan struct{}
	subscribers map[string]*subscriber
	// digests remember what a policy's digest is.
	digests map[policy.Key]policyDigest
}

type policyDigest struct {
	of     *policy.Policy
	digest policy.Digest
}

// maxDigests bounds the digests remembered, those of policies long gone included.
const maxDigests = 1 << 18

// subscriber is the stream to one node. The hub's lock guards its fields.
type subscriber struct {
	node string
	// wake has an element when there is something to send.
	wake chan struct{}
	// replaced is closed when the node subscribed again.
	replaced chan struct{}

	pending *pending
	// since is the revision that made pending not empty.
	since uint64
	// sent and acked are the revisions of the last update that was taken and
	// that the agent enforces.
	sent, acked uint64
}

// NewHub returns a Hub that serves nobody before the first Update.
func NewHub(source Source) *Hub {
	return &Hub{
		source: source, progress: make(chan struct{}),
		subscribers: map[string]*subscriber{}, digests: map[policy.Key]policyDigest{},
	}
}

// Update runs the computation and hands on what came of it. The run takes in
// what changed and computes; meanwhile nothing reads the Source, and no update
// is made from half of it.
func (h *Hub) Update(run func() Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change := run()
	h.revision++
	h.newest, h.reached = maps.Clone(change.Newest), maps.Clone(change.Reached)
	close(h.progress)
	h.progress = make(chan struct{})
	if change.Deltas == nil {
		return
	}
	for node, u := range change.Deltas.Updates(func(node string) bool { return h.subscribers[node] != nil }) {
		s := h.subscribers[node]
		if s == nil || u.Empty() {
			continue
		}
		if s.pending.len() == 0 {
			s.since = h.revision
		}
		s.pending.add(u)
		s.mark()
	}
}

// Ready reports whether the computation ran.
func (h *Hub) Ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision > 0
}

// Revision returns the number of the computation's last run in this process.
func (h *Hub) Revision() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

// Enforced returns the revision up to which a node enforces everything that
// concerns it; false if it is not subscribed here or said nothing yet.
func (h *Hub) Enforced(node string) (revision uint64, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.subscribers[node]
	switch {
	case s == nil || s.acked == 0:
		return 0, false
	case s.acked < s.sent:
		return s.acked, true
	case s.pending.len() > 0:
		return s.since - 1, true
	}
	return h.revision, true
}

// behind reports whether a position is ahead of this replica, and returns what
// is closed when that may have changed.
func (h *Hub) behind(p policy.Position) (bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reached.Behind(p), h.progress
}

// have is what an agent says that it has.
type have struct {
	node       string
	position   policy.Position
	policies   map[policy.Key]policy.Digest
	groups     map[policy.ID]policy.Digest
	identities map[policy.ID]policy.Digest
	pods       map[policy.PodKey]policy.Digest
}

func (w *have) len() int {
	return len(w.policies) + len(w.groups) + len(w.identities) + len(w.pods)
}

// subscribe makes a subscriber whose first update leads from what the agent has
// to what holds now. A subscriber of the same node is replaced: its agent gave
// it up.
func (h *Hub) subscribe(w *have) *subscriber {
	s := &subscriber{node: w.node, wake: make(chan struct{}, 1), replaced: make(chan struct{}), pending: newPending()}
	h.mu.Lock()
	defer h.mu.Unlock()
	if before := h.subscribers[w.node]; before != nil {
		close(before.replaced)
	}
	h.subscribers[w.node] = s
	s.since = h.revision
	s.pending.add(h.difference(w))
	s.mark()
	return s
}

func (h *Hub) unsubscribe(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subscribers[s.node] == s {
		delete(h.subscribers, s.node)
	}
}

// take returns all that is pending as one update.
func (h *Hub) take(s *subscriber) (u *policy.Update, revision uint64, position policy.Position) {
	h.mu.Lock()
	p := s.pending
	s.pending, s.sent = newPending(), h.revision
	revision, position = h.revision, maps.Clone(h.newest)
	h.mu.Unlock()
	return p.update(), revision, position
}

func (h *Hub) acknowledge(s *subscriber, revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if revision <= s.sent { // an agent cannot have what it was not sent
		s.acked = max(s.acked, revision)
	}
}

// counts returns the number of subscribers and of objects that wait for them.
func (h *Hub) counts() (subscribers, waiting int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subscribers {
		waiting += s.pending.len()
	}
	return len(h.subscribers), waiting
}

func (s *subscriber) mark() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// difference returns what leads from what an agent has to what its node is to
// enforce now.
func (h *Hub) difference(w *have) *policy.Update {
	state, digests, u := h.source.View(w.node), h.source.Digests(w.node), &policy.Update{}
	for key, p := range state.Policies {
		if d, found := w.policies[key]; !found || d != h.digest(p) {
			u.Policies = append(u.Policies, p)
		}
	}
	u.GonePolicies = gone(w.policies, state.Policies)
	for id, set := range state.Groups {
		if d, found := w.groups[id]; !found || d != digests[id] {
			u.Groups = append(u.Groups, whole(id, set))
		}
	}
	u.GoneGroups = gone(w.groups, state.Groups)
	for id, i := range state.Identities {
		if d, found := w.identities[id]; !found || d != i.Digest() {
			u.Identities = append(u.Identities, i)
		}
	}
	u.GoneIdentities = gone(w.identities, state.Identities)
	for key, p := range state.Pods {
		if d, found := w.pods[key]; !found || d != p.Digest() {
			u.Pods = append(u.Pods, p)
		}
	}
	u.GonePods = gone(w.pods, state.Pods)
	return u
}

// gone returns the names that are in the first map only.
func gone[K comparable, V, W any](had map[K]V, has map[K]W) []K {
	var names []K
	for name := range had {
		if _, found := has[name]; !found {
			names = append(names, name)
		}
	}
	return names
}

// digest returns a policy's digest, which many nodes ask for.
func (h *Hub) digest(p *policy.Policy) policy.Digest {
	if known := h.digests[p.Key]; known.of == p {
		return known.digest
	}
	if len(h.digests) >= maxDigests {
		clear(h.digests)
	}
	d := p.Digest()
	h.digests[p.Key] = policyDigest{of: p, digest: d}
	return d
}

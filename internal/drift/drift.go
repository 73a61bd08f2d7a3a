// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"reflect"
	"slices"
	"sync"
	"time"
)

// Kind is what kind of thing was wrong.
type Kind string

// The kinds.
const (
	Flows      Kind = "flows"
	Groups     Kind = "groups"
	Meters     Kind = "meters"
	Routes     Kind = "routes"
	Neighbours Kind = "neighbours"
	Sysctls    Kind = "sysctls"
	Links      Kind = "links"
	Addresses  Kind = "addresses"
	Firewall   Kind = "firewall"
	Pods       Kind = "pods"
)

// Kinds are all kinds.
func Kinds() []Kind {
	return []Kind{Flows, Groups, Meters, Routes, Neighbours, Sysctls, Links, Addresses, Firewall, Pods}
}

// Repair is something that was not as it had been left.
type Repair struct {
	Kind Kind
	// Number of things, such as routes.
	Number int
	// Wrong is for how long this is known to have been so.
	Wrong time.Duration
}

// Tracker knows of each target what was last in place.
type Tracker struct {
	repaired func(Repair)

	mu      sync.Mutex
	targets map[target]*state
}

// target is one thing that a loop keeps, such as the routes to Services.
type target struct {
	kind Kind
	name string
}

type state struct {
	// desired is what was in place, if known.
	desired any
	known   bool
	// noticed is since when something may be wrong that runs before the present
	// one did not see, pending the same for that one; zero if nothing was noticed.
	noticed, pending time.Time
}

// New makes a Tracker that tells repaired, which must return soon, of each repair.
func New(repaired func(Repair)) *Tracker {
	return &Tracker{repaired: repaired, targets: map[target]*state{}}
}

// Notice says that something of a kind may have changed just now, of the targets of
// these names, or with none, of all. Their runs must follow: the next one ends it.
func (t *Tracker) Notice(kind Kind, names ...string) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for to, s := range t.targets {
		if to.kind == kind && (len(names) == 0 || slices.Contains(names, to.name)) && s.pending.IsZero() {
			s.pending = now
		}
	}
}

// Run is one comparison of what is wanted with what is there.
type Run struct {
	t     *Tracker
	to    target
	began time.Time
}

// Begin is called before what is there is read. A target has one run at a time.
func (t *Tracker) Begin(kind Kind, name string) Run {
	to := target{kind, name}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.targets[to]
	if s == nil {
		s = &state{}
		t.targets[to] = s
	}
	if s.noticed.IsZero() {
		s.noticed = s.pending
	}
	s.pending = time.Time{}
	return Run{t, to, time.Now()}
}

// End says what was wanted, a value that nobody changes any more, how many things
// were written, and what failed.
func (r Run) End(desired any, written int, err error) {
	now := time.Now()
	r.t.mu.Lock()
	s := r.t.targets[r.to]
	same := s.known && reflect.DeepEqual(s.desired, desired)
	since := s.noticed
	if since.IsZero() {
		since = r.began
	}
	if err == nil {
		s.noticed = time.Time{}
	}
	s.desired, s.known = desired, err == nil || same
	r.t.mu.Unlock()
	if same && written > 0 {
		r.t.repaired(Repair{Kind: r.to.kind, Number: written, Wrong: now.Sub(since)})
	}
}

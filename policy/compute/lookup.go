// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// Below this number a list is looked through; tables would only cost memory.
const fewEntries = 8

// pair is a label.
type pair struct{ key, value string }

// selects is what a selectorTable holds.
type selects interface {
	comparable
	selector() policy.Selector
}

// selectorTable finds the selectors that select given labels. No two in it are
// equal.
type selectorTable[T selects] struct {
	list []T // while there are few
	// A selector is filed under one of its requirements, else under rest.
	byText map[string]T
	byPair map[pair][]T
	byKey  map[string][]T
	rest   []T
}

func (t *selectorTable[T]) len() int { return len(t.list) + len(t.byText) }

// find returns the one with the text of the selector.
func (t *selectorTable[T]) find(text string) (found T, ok bool) {
	if t.byText != nil {
		found, ok = t.byText[text]
		return found, ok
	}
	for _, e := range t.list {
		if e.selector().String() == text {
			return e, true
		}
	}
	return found, false
}

func (t *selectorTable[T]) add(e T) {
	if t.byText == nil {
		t.list = append(t.list, e)
		if len(t.list) <= fewEntries {
			return
		}
		t.byText, t.byPair, t.byKey = map[string]T{}, map[pair][]T{}, map[string][]T{}
		for _, e := range t.list {
			t.file(e)
		}
		t.list = nil
		return
	}
	t.file(e)
}

func (t *selectorTable[T]) file(e T) {
	t.byText[e.selector().String()] = e
	switch r := anchor(e.selector()); {
	case r == nil:
		t.rest = append(t.rest, e)
	case r.Operator == policy.In:
		for _, v := range r.Values {
			t.byPair[pair{r.Key, v}] = append(t.byPair[pair{r.Key, v}], e)
		}
	default:
		t.byKey[r.Key] = append(t.byKey[r.Key], e)
	}
}

func (t *selectorTable[T]) remove(e T) {
	if t.byText == nil {
		t.list = without(t.list, e)
		return
	}
	delete(t.byText, e.selector().String())
	switch r := anchor(e.selector()); {
	case r == nil:
		t.rest = without(t.rest, e)
	case r.Operator == policy.In:
		for _, v := range r.Values {
			dropFrom(t.byPair, pair{r.Key, v}, e)
		}
	default:
		dropFrom(t.byKey, r.Key, e)
	}
}

// match calls f with each that selects the labels. f must not change the table.
func (t *selectorTable[T]) match(labels map[string]string, f func(T)) {
	try := func(list []T) {
		for _, e := range list {
			if e.selector().Matches(labels) {
				f(e)
			}
		}
	}
	try(t.list)
	if t.byText == nil {
		return
	}
	try(t.rest)
	for key, value := range labels {
		try(t.byPair[pair{key, value}])
		try(t.byKey[key])
	}
}

// anchor returns the requirement that a selector is found by, nil if it has
// none that asks for a label.
func anchor(s policy.Selector) *policy.Requirement {
	var best *policy.Requirement
	for i := range s.Requirements() {
		r := &s.Requirements()[i]
		switch {
		case r.Operator == policy.In && (best == nil || best.Operator == policy.Exists || len(r.Values) < len(best.Values)),
			r.Operator == policy.Exists && best == nil:
			best = r
		}
	}
	return best
}

// labelled is what a labelTable holds.
type labelled interface {
	comparable
	labelMap() map[string]string
	place() *int // where it is in the list of all
}

// labelTable finds what has labels that a selector selects.
type labelTable[T labelled] struct {
	all   []T
	byKey map[string]map[string][]T // by value; nil until many were looked through
}

func (t *labelTable[T]) add(e T) {
	*e.place() = len(t.all)
	t.all = append(t.all, e)
	if t.byKey != nil {
		t.file(e)
	}
}

func (t *labelTable[T]) file(e T) {
	for key, value := range e.labelMap() {
		values := t.byKey[key]
		if values == nil {
			values = map[string][]T{}
			t.byKey[key] = values
		}
		values[value] = append(values[value], e)
	}
}

func (t *labelTable[T]) remove(e T) {
	last := t.all[len(t.all)-1]
	t.all[*e.place()], *last.place() = last, *e.place()
	clear(t.all[len(t.all)-1:])
	t.all = t.all[:len(t.all)-1]
	if t.byKey == nil {
		return
	}
	for key, value := range e.labelMap() {
		dropFrom(t.byKey[key], value, e)
		if len(t.byKey[key]) == 0 {
			delete(t.byKey, key)
		}
	}
}

// match calls f with everything that the selector selects. f must not change
// the table.
func (t *labelTable[T]) match(s policy.Selector, f func(T)) {
	try := func(list []T) {
		for _, e := range list {
			if s.Matches(e.labelMap()) {
				f(e)
			}
		}
	}
	r := anchor(s)
	if r == nil || t.byKey == nil && len(t.all) <= fewEntries {
		try(t.all)
		return
	}
	if t.byKey == nil {
		t.byKey = map[string]map[string][]T{}
		for _, e := range t.all {
			t.file(e)
		}
	}
	values := t.byKey[r.Key]
	if r.Operator == policy.Exists {
		for _, list := range values {
			try(list)
		}
		return
	}
	for _, v := range r.Values {
		try(values[v])
	}
}

// without removes e from a list whose order does not matter.
func without[T comparable](list []T, e T) []T {
	i := slices.Index(list, e)
	list[i] = list[len(list)-1]
	clear(list[len(list)-1:])
	return list[:len(list)-1]
}

func dropFrom[K, T comparable](lists map[K][]T, key K, e T) {
	if rest := without(lists[key], e); len(rest) > 0 {
		lists[key] = rest
	} else {
		delete(lists, key)
	}
}

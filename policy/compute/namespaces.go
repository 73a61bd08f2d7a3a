// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"maps"
	"slices"
	"strconv"

	"github.com/waymark-net/waymark/policy"
)

// UpsertNamespace takes in a namespace as it is now. The Index keeps the labels.
func (x *Index) UpsertNamespace(in *policy.NamespaceIntent) {
	labels := in.Labels
	if labels[policy.NamespaceNameLabel] != in.Name {
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[policy.NamespaceNameLabel] = in.Name
	}
	n := x.spaces[in.Name]
	if n == nil {
		n = x.addSpace(in.Name, labels)
	} else if !maps.Equal(n.labels, labels) {
		x.relabel(n, labels)
	}
	n.known = true
}

// DeleteNamespace takes a namespace out. What is in it goes on its own.
func (x *Index) DeleteNamespace(name string) {
	n := x.spaces[name]
	if n == nil || !n.known {
		return
	}
	n.known = false
	x.relabel(n, nameOnly(name))
	x.letSpace(n)
}

func nameOnly(name string) map[string]string {
	return map[string]string{policy.NamespaceNameLabel: name}
}

// space returns the namespace of the name. One that nobody told of has the
// label of its name only.
func (x *Index) space(name string) *namespace {
	if n := x.spaces[name]; n != nil {
		return n
	}
	n := x.addSpace(name, nameOnly(name))
	x.letSpace(n)
	return n
}

func (x *Index) addSpace(name string, labels map[string]string) *namespace {
	n := &namespace{name: name, labels: labels}
	n.own.one = n
	x.spaces[name] = n
	x.spaceTable.add(n)
	x.scopes.match(labels, func(s *scope) {
		s.spaces[n] = struct{}{}
		n.scopes = append(n.scopes, s)
	})
	return n
}

// relabel moves a namespace between scopes, and its identities with it.
func (x *Index) relabel(n *namespace, labels map[string]string) {
	x.spaceTable.remove(n)
	n.labels = labels
	x.spaceTable.add(n)
	before := n.scopes
	n.scopes = nil
	x.scopes.match(labels, func(s *scope) { n.scopes = append(n.scopes, s) })
	for _, s := range before {
		if slices.Contains(n.scopes, s) {
			continue
		}
		delete(s.spaces, n)
		for _, i := range n.identities.all {
			for at := len(i.in) - 1; at >= 0; at-- {
				// Leaving one selection can be leaving others that depend on it.
				if at < len(i.in) && i.in[at].selection.scope == s {
					x.leave(i, at)
				}
			}
		}
	}
	for _, s := range n.scopes {
		if slices.Contains(before, s) {
			continue
		}
		s.spaces[n] = struct{}{}
		for _, i := range n.identities.all {
			s.selections.match(i.labels, func(s *selection) { x.join(i, s) })
		}
	}
}

// letSpace remembers that nobody may need the namespace any more.
func (x *Index) letSpace(n *namespace) {
	if !n.idle {
		n.idle = true
		x.dirty.idleSpaces = append(x.dirty.idleSpaces, n)
	}
}

// sweepSpaces forgets namespaces that nobody needs.
func (x *Index) sweepSpaces() {
	for _, n := range x.dirty.idleSpaces {
		n.idle = false
		if n.known || len(n.identities.all) > 0 || n.own.selections.len() > 0 || x.spaces[n.name] != n {
			continue
		}
		delete(x.spaces, n.name)
		x.spaceTable.remove(n)
		for _, s := range n.scopes {
			delete(s.spaces, n)
		}
	}
	x.dirty.idleSpaces = nil
}

// eachScope calls f with every scope that a namespace is in.
func (x *Index) eachScope(n *namespace, f func(*scope)) {
	f(&n.own)
	for _, s := range n.scopes {
		f(s)
	}
}

// scope returns that of a set of Pods.
func (x *Index) scope(set *policy.PodSet) *scope {
	if set.Namespace != "" {
		return &x.space(set.Namespace).own
	}
	if s, ok := x.scopes.find(set.Namespaces.String()); ok {
		return s
	}
	s := &scope{labels: set.Namespaces, spaces: map[*namespace]struct{}{}}
	x.scopes.add(s)
	x.spaceTable.match(s.labels, func(n *namespace) {
		s.spaces[n] = struct{}{}
		n.scopes = append(n.scopes, s)
	})
	return s
}

// appendText appends what tells the scope from all others.
func (s *scope) appendText(b []byte) []byte {
	if s.one != nil {
		return strconv.AppendQuote(append(b, "namespace "...), s.one.name)
	}
	return append(append(b, "namespaces "...), s.labels.String()...)
}

// letScope forgets a scope without selections.
func (x *Index) letScope(s *scope) {
	switch {
	case s.selections.len() > 0:
	case s.one != nil:
		x.letSpace(s.one)
	default:
		x.scopes.remove(s)
		for n := range s.spaces {
			n.scopes = without(n.scopes, s)
		}
	}
}

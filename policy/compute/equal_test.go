// SPDX-License-Identifier: Apache-2.0

package compute_test

import (
	"bytes"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/policy"
)

// netipComparer compares addresses and prefixes as values.
var netipComparer = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// anyOrder and addressesAsSets compare updates whatever the order in them.
var (
	anyOrder = cmp.Options{
		sorted(func(p *policy.Policy) string { return p.Key.String() }),
		sorted(policy.Key.String),
		sorted(func(g policy.GroupUpdate) string { return g.ID.String() }),
		sorted(policy.ID.String),
		sorted(func(i *policy.Identity) string { return i.ID.String() }),
		sorted(func(p policy.Pod) string { return p.Key.String() }),
		sorted(policy.PodKey.String),
	}
	addressesAsSets = cmp.Options{netipComparer, sorted(netip.Addr.String)}
)

func sorted[T any](name func(T) string) cmp.Option {
	return cmp.FilterValues(func(a, b []T) bool { return len(a) > 1 && len(b) > 1 && !isSorted(a, name) || !isSorted(b, name) },
		cmp.Transformer("sorted", func(list []T) []T {
			list = slices.Clone(list)
			slices.SortFunc(list, func(a, b T) int { return strings.Compare(name(a), name(b)) })
			return list
		}))
}

func isSorted[T any](list []T, name func(T) string) bool {
	return slices.IsSortedFunc(list, func(a, b T) int { return strings.Compare(name(a), name(b)) })
}

func equalStates(a, b *policy.State) bool {
	return maps.Equal(a.Pods, b.Pods) &&
		maps.EqualFunc(a.Policies, b.Policies, func(a, b *policy.Policy) bool { return a == b || reflect.DeepEqual(a, b) }) &&
		maps.EqualFunc(a.Groups, b.Groups, func(a, b policy.Addresses) bool { return maps.Equal(a, b) }) &&
		maps.EqualFunc(a.Identities, b.Identities, func(a, b *policy.Identity) bool {
			return a == b || a != nil && b != nil && bytes.Equal(a.ID[:], b.ID[:]) && slices.Equal(a.Subjects, b.Subjects)
		})
}

// SPDX-License-Identifier: Apache-2.0

package compute_test

import (
	"bytes"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/policy"
)

// netipComparer compares addresses and prefixes as values.
var netipComparer = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func equalStates(a, b *policy.State) bool {
	return maps.Equal(a.Pods, b.Pods) &&
		maps.EqualFunc(a.Policies, b.Policies, func(a, b *policy.Policy) bool { return a == b || reflect.DeepEqual(a, b) }) &&
		maps.EqualFunc(a.Groups, b.Groups, func(a, b policy.Addresses) bool { return maps.Equal(a, b) }) &&
		maps.EqualFunc(a.Identities, b.Identities, func(a, b *policy.Identity) bool {
			return a == b || a != nil && b != nil && bytes.Equal(a.ID[:], b.ID[:]) && slices.Equal(a.Subjects, b.Subjects)
		})
}

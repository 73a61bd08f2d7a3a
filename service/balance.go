// SPDX-License-Identifier: Apache-2.0

package service

import "github.com/waymark-net/waymark/ovs/flow"

// Open vSwitch gives a select group up to 256 places, shares them out among
// the buckets by their weights, and finds the place of a connection by a hash
// that the datapath computes from addresses and ports. More endpoints than
// places it would choose among in userspace, once for every connection; and few
// places are an uneven share: 3 endpoints get 6, 5 and 5 of 16.
const (
	// places is what a group is made to have.
	places = 256
	// perGroup is how many endpoints share the places of one group. Where there
	// are more, several groups share the connections, and each gives the places
	// that are left over to other endpoints.
	perGroup = 16
	// maxGroups bounds the groups of a port. A group holds every endpoint, or
	// where they are more than maxBuckets an equal part of them.
	maxGroups  = 32
	maxBuckets = places
)

// groupCount is how many groups n endpoints get: a power of two, 0 for none.
func groupCount(n int) int {
	if n == 0 {
		return 0
	}
	count := 1
	for count < maxGroups && n > count*perGroup {
		count *= 2
	}
	// All endpoints have to fit, whatever the bound says.
	for n > count*maxBuckets {
		count *= 2
	}
	return count
}

// bucketsOf returns the buckets of group i of a set of n endpoints; actions gives
// those of an endpoint.
func bucketsOf(n, i int, actions func(endpoint int) []flow.Action) []flow.Bucket {
	parts := 1
	for n > parts*maxBuckets {
		parts *= 2
	}
	part := make([]int, 0, n/parts+1)
	for j := i % parts; j < n; j += parts {
		part = append(part, j)
	}
	return buckets(part, i/parts, actions)
}

// buckets shares the places of a group out among endpoints. turn counts the
// groups of the same endpoints: each gives one more to those that follow the last
// ones of the group before.
func buckets(endpoints []int, turn int, actions func(endpoint int) []flow.Action) []flow.Bucket {
	n := len(endpoints)
	each, left := places/n, places%n
	if left == 0 {
		each = 1 // even with fewer places
	}
	out := make([]flow.Bucket, 0, n+1)
	first := turn * left % n
	for j, e := range endpoints {
		weight := each
		if (j-first+n)%n < left {
			weight++
		}
		// The number of places follows from the ratio of all weights to the
		// least: one endpoint has a second bucket, of weight 1, to make them all.
		if j == 0 && weight > 1 {
			out = append(out, flow.Bucket{Weight: 1, Actions: actions(e)})
			weight--
		}
		out = append(out, flow.Bucket{Weight: uint16(weight), Actions: actions(e)})
	}
	return out
}

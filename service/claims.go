// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"slices"
)

// rank is how a Service came to a place. What the cluster itself gave out goes
// before what users may write into a Service: nobody can take another's ClusterIP
// or NodePort by naming it as an external address.
type rank uint8

const (
	clusterIP rank = iota
	nodePort
	external
)

// claim is what a Service has on a place.
type claim struct {
	rank
	Key
}

func (c claim) compare(o claim) int {
	return cmp.Or(cmp.Compare(c.rank, o.rank), c.Key.compare(o.Key))
}

// claims says which Service has a place that several want: the first in the
// order of claims, whoever came first. That every node decides alike.
type claims struct{ by map[place][]claim }

// add enters a claim, and returns who loses the place by it.
func (c *claims) add(p place, k claim) (loser Key, lost bool) {
	if c.by == nil {
		c.by = map[place][]claim{}
	}
	all := c.by[p]
	at, found := slices.BinarySearchFunc(all, k, claim.compare)
	if found {
		return Key{}, false
	}
	if at == 0 && len(all) > 0 {
		loser, lost = all[0].Key, true
	}
	c.by[p] = slices.Insert(all, at, k)
	return loser, lost
}

// remove takes a claim back, and returns who gets the place by it.
func (c *claims) remove(p place, k claim) (winner Key, won bool) {
	all := c.by[p]
	at, found := slices.BinarySearchFunc(all, k, claim.compare)
	if !found {
		return Key{}, false
	}
	all = slices.Delete(all, at, at+1)
	if len(all) == 0 {
		delete(c.by, p)
		return Key{}, false
	}
	c.by[p] = all
	return all[0].Key, at == 0
}

// owner returns who has a place that somebody has claimed.
func (c *claims) owner(p place) Key { return c.by[p][0].Key }

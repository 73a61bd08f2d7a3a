// SPDX-License-Identifier: Apache-2.0

package service

import "slices"

// claims says which Service has a place that several want: the first in the
// order of keys, whoever came first. That every node decides alike.
type claims struct{ by map[place][]Key }

// add enters a claim, and returns who loses the place by it.
func (c *claims) add(p place, k Key) (loser Key, lost bool) {
	if c.by == nil {
		c.by = map[place][]Key{}
	}
	all := c.by[p]
	at, found := slices.BinarySearchFunc(all, k, Key.compare)
	if found {
		return Key{}, false
	}
	if at == 0 && len(all) > 0 {
		loser, lost = all[0], true
	}
	c.by[p] = slices.Insert(all, at, k)
	return loser, lost
}

// remove takes a claim back, and returns who gets the place by it.
func (c *claims) remove(p place, k Key) (winner Key, won bool) {
	all := c.by[p]
	at, found := slices.BinarySearchFunc(all, k, Key.compare)
	if !found {
		return Key{}, false
	}
	all = slices.Delete(all, at, at+1)
	if len(all) == 0 {
		delete(c.by, p)
		return Key{}, false
	}
	c.by[p] = all
	return all[0], at == 0
}

// owner returns who has a place that somebody has claimed.
func (c *claims) owner(p place) Key { return c.by[p][0] }

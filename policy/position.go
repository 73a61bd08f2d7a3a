// SPDX-License-Identifier: Apache-2.0

package policy

import "maps"

// Position says how far the API server's history went into a State: for each
// kind of object, by name, a resource version. Resource versions of one kind
// are numbers that grow (KEP-5504).
//
// Two positions matter. The newest change that a State contains is what a node
// keeps. How far a controller has read, which its reads of lists and bookmarks
// move on although nothing changed, is what it compares with a node's.
type Position map[string]uint64

// Behind reports whether p lacks something that other contains. A kind that p
// does not know does not count: it is of another version of Waymark.
func (p Position) Behind(other Position) bool {
	for kind, version := range other {
		if have, known := p[kind]; known && have < version {
			return true
		}
	}
	return false
}

// Clone returns a Position that changes on its own.
func (p Position) Clone() Position { return maps.Clone(p) }

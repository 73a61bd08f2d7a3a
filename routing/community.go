// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Community is a BGP community: a standard one of two numbers of 16 bits
// (RFC 1997), or a large one of three of 32 bits (RFC 8092).
type Community struct {
	Large bool
	// Parts are the numbers; the third is of large ones only.
	Parts [3]uint32
}

// wellKnown are the communities that have names, all of them 65535:N.
var wellKnown = map[string]uint32{
	"graceful-shutdown":   0,     // RFC 8326
	"accept-own":          1,     // RFC 7611
	"no-llgr":             7,     // RFC 9494
	"blackhole":           666,   // RFC 7999
	"no-export":           65281, // RFC 1997, as the next two
	"no-advertise":        65282,
	"no-export-subconfed": 65283,
	"no-peer":             65284, // RFC 3765
}

// llgrStale is LLGR_STALE (RFC 9494). Routes that carry it go only to peers
// with which long-lived graceful restart was agreed on, which nodes never offer.
var llgrStale = Community{Parts: [3]uint32{65535, 6}}

// gracefulShutdown is GRACEFUL_SHUTDOWN (RFC 8326).
var gracefulShutdown = Community{Parts: [3]uint32{65535, 0}}

// ParseCommunity reads a community as people write it: 64512:100, 64512:1:2 or
// a well-known name.
func ParseCommunity(text string) (Community, error) {
	named, ok := wellKnown[text]
	c := Community{Parts: [3]uint32{65535, named}}
	if !ok {
		c, ok = parseNumbers(text)
	}
	switch {
	case text == "llgr-stale" || c == llgrStale:
		return Community{}, fmt.Errorf("community %q: nodes do not offer long-lived graceful restart, "+
			"without which a route with llgr-stale must not be announced (RFC 9494)", text)
	case !ok:
		return Community{}, fmt.Errorf("community %q: must be ASN:VALUE (two numbers up to 65535), "+
			"a large community A:B:C (three numbers up to 4294967295), or one of %s", text, strings.Join(wellKnownNames(), ", "))
	}
	return c, nil
}

func parseNumbers(text string) (Community, bool) {
	var c Community
	parts := strings.Split(text, ":")
	bits := 16
	switch len(parts) {
	case 2:
	case 3:
		c.Large, bits = true, 32
	default:
		return c, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return c, false
		}
		c.Parts[i] = uint32(n)
	}
	return c, true
}

// wellKnownNames returns the names in order of their numbers.
func wellKnownNames() []string {
	names := make([]string, 0, len(wellKnown))
	for n := range wellKnown {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(wellKnown[a], wellKnown[b]) })
	return names
}

// String returns the numbers, also of a community that has a name.
func (c Community) String() string {
	if c.Large {
		return fmt.Sprintf("%d:%d:%d", c.Parts[0], c.Parts[1], c.Parts[2])
	}
	return fmt.Sprintf("%d:%d", c.Parts[0], c.Parts[1])
}

// UnionCommunities returns the members of both, each once, the standard ones
// first and by number; a and b are not changed.
func UnionCommunities(a, b []Community) []Community {
	both := slices.Concat(a, b)
	slices.SortFunc(both, func(a, b Community) int {
		if a.Large != b.Large {
			if b.Large {
				return -1
			}
			return 1
		}
		return slices.Compare(a.Parts[:], b.Parts[:])
	})
	return slices.Compact(both)
}

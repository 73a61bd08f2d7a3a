// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// groupName tells the groups of all Services apart.
type groupName struct {
	Key
	is4      bool
	protocol Protocol
	port     uint16
	local    bool
	index    int
}

func (s set) groupName(k Key, index int) groupName {
	return groupName{Key: k, is4: s.is4, protocol: s.protocol, port: s.port, local: s.local, index: index}
}

func (n groupName) compare(o groupName) int {
	return cmp.Or(n.Key.compare(o.Key), compareBool(n.is4, o.is4), cmp.Compare(n.protocol, o.protocol), cmp.Compare(n.port, o.port),
		compareBool(n.local, o.local), cmp.Compare(n.index, o.index))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// number is the try-th number that a group would have, from 1 to 2^31.
func (n groupName) number(try int) uint32 {
	bits := byte(0)
	if n.is4 {
		bits |= 1
	}
	if n.local {
		bits |= 2
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(n.Namespace + "/" + n.Name))
	_, _ = h.Write([]byte{0, bits, byte(n.protocol), byte(n.port >> 8), byte(n.port), byte(n.index >> 8), byte(n.index)})
	return 1 + row(h.Sum64(), try, 31)
}

// row is the try-th of the numbers below 2^bits in an order that a hash says. All
// of them are different.
func row(hash uint64, try, bits int) uint32 {
	step := uint32(hash>>32) | 1
	return (uint32(hash) + uint32(try)*step) & (1<<bits - 1)
}

// flows shares connections out among the groups of a set, where that is more
// than one group, and keeps the endpoints of clients.
func (s set) flows(affinity time.Duration) []flow.Flow {
	var flows []flow.Flow
	if len(s.groups) > 1 || affinity > 0 {
		flows = pipeline.Shares(s.groups[0], s.is4, uint8(s.protocol), s.groups)
	}
	if affinity > 0 && len(s.groups) > 0 {
		flows = append(flows, pipeline.Stick(s.groups[0], s.is4, affinity))
		for i, to := range s.endpoints {
			flows = append(flows, pipeline.Sticky(s.groups[0], s.sticky[i], to))
		}
	}
	return flows
}

// buckets are those of a group of the set.
func (s set) buckets(index int, affinity time.Duration) []flow.Bucket {
	actions := func(i int) []flow.Action { return pipeline.Endpoint(s.endpoints[i]) }
	if affinity > 0 {
		actions = func(i int) []flow.Action { return pipeline.Choose(s.sticky[i]) }
	}
	return bucketsOf(len(s.endpoints), index, actions)
}

// stickyNumbers gives each endpoint a number among them. It does not depend on
// the others, so that a client keeps its endpoint when others come and go, unless
// two hashes are the same.
func stickyNumbers(endpoints []netip.AddrPort) []uint32 {
	numbers := make([]uint32, len(endpoints))
	taken := make(map[uint32]bool, len(endpoints))
	for i, e := range endpoints {
		h := fnv.New32a()
		_, _ = h.Write(e.Addr().AsSlice())
		_, _ = h.Write(binary.BigEndian.AppendUint16(nil, e.Port()))
		n := h.Sum32()
		for n == 0 || taken[n] {
			n++
		}
		numbers[i], taken[n] = n, true
	}
	return numbers
}

// LongAffinity returns, by number, the sets of endpoints whose clients keep theirs
// for longer than the switch can count.
func (c *Compiler) LongAffinity() map[uint32]time.Duration {
	out := map[uint32]time.Duration{}
	for _, s := range c.services {
		if s.service.Affinity <= pipeline.MaxAffinity {
			continue
		}
		for _, set := range s.sets {
			if len(set.groups) > 0 {
				out[set.groups[0]] = s.service.Affinity
			}
		}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// portMatch compares some bits of the destination port of a protocol. Without
// any it stands for every port.
type portMatch struct {
	proto      policy.Protocol
	port, mask uint16
}

func (m portMatch) compare(o portMatch) int {
	return cmp.Or(cmp.Compare(m.proto, o.proto), cmp.Compare(m.port, o.port), cmp.Compare(m.mask, o.mask))
}

func (m portMatch) match(ethType uint16) flow.Match {
	out := flow.Match{flow.EthType(ethType), flow.IPProto(uint8(m.proto))}
	if m.mask != 0 {
		out = append(out, pipeline.MatchPolicyPort(m.port, m.mask))
	}
	return out
}

// portMatches are those of all ports in any of the ranges, as few as ranges
// without gaps need. A range that ends before it begins has none.
func portMatches(ranges []policy.PortRange) []portMatch {
	ranges = slices.DeleteFunc(slices.Clone(ranges), func(r policy.PortRange) bool { return r.Last < r.First })
	slices.SortFunc(ranges, func(a, b policy.PortRange) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	var out []portMatch
	for i := 0; i < len(ranges); {
		r := ranges[i]
		last := int(r.Last)
		for i++; i < len(ranges) && ranges[i].Protocol == r.Protocol && int(ranges[i].First) <= last+1; i++ {
			last = max(last, int(ranges[i].Last))
		}
		out = append(out, masks(r.Protocol, int(r.First), last)...)
	}
	return out
}

// masks cuts a range into blocks whose size is a power of 2 and whose first port
// is a multiple of it.
func masks(proto policy.Protocol, first, last int) []portMatch {
	var out []portMatch
	for first <= last {
		size := 1 << 16
		if first != 0 {
			size = 1 << bits.TrailingZeros16(uint16(first))
		}
		for first+size-1 > last {
			size /= 2
		}
		out = append(out, portMatch{proto: proto, port: uint16(first), mask: uint16(1<<16 - size)})
		first += size
	}
	return out
}

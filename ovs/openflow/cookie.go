// SPDX-License-Identifier: Apache-2.0

package openflow

import "hash/fnv"

// cookiePrefix marks the flows of Waymark in the upper 16 bits of a cookie.
const cookiePrefix uint64 = 0x574d << 48

// Cookie is what every flow of the owner carries: a constant prefix and a hash
// of the owner, so that ovs-ofctl dump-flows cookie=.../-1 shows the flows of
// one owner. It is the same in every process.
func Cookie(owner string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(owner))
	v := h.Sum64()
	return cookiePrefix | (v^v>>48)&(1<<48-1)
}

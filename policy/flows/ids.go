// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
)

// hash32 is never 0.
func hash32(s string) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	sum := h.Sum64()
	return uint32(sum) ^ uint32(sum>>32)
}

// numbers gives contents numbers that depend on nothing but the set of contents.
type numbers struct {
	hash func(string) uint32
	// byHash has the contents of each hash.
	byHash map[uint32][]string
	// crowded are the hashes that several contents have.
	crowded map[uint32]bool
	// second are the numbers of contents whose hash belongs to another.
	second    map[string]uint32
	unsettled bool
}

func newNumbers(hash func(string) uint32) numbers {
	return numbers{hash: hash, byHash: map[uint32][]string{}, crowded: map[uint32]bool{}, second: map[string]uint32{}}
}

// first is the number that a content has unless another has it.
func (n *numbers) first(content string) uint32 { return max(n.hash(content), 1) }

func (n *numbers) add(content string) {
	h := n.first(content)
	n.byHash[h] = append(n.byHash[h], content)
	if len(n.byHash[h]) > 1 {
		n.crowded[h] = true
	}
	n.unsettled = n.unsettled || len(n.crowded) > 0
}

func (n *numbers) drop(content string) {
	h := n.first(content)
	n.unsettled = n.unsettled || len(n.crowded) > 0
	n.byHash[h] = slices.DeleteFunc(n.byHash[h], func(s string) bool { return s == content })
	if len(n.byHash[h]) < 2 {
		delete(n.crowded, h)
	}
	if len(n.byHash[h]) == 0 {
		delete(n.byHash, h)
	}
}

// settle decides who has which number after contents were added and dropped.
// It reports whether a content that stayed may have another than before.
func (n *numbers) settle() bool {
	if !n.unsettled {
		return false
	}
	n.unsettled = false
	var rest []string
	for h := range n.crowded {
		rest = append(rest, slices.Sorted(slices.Values(n.byHash[h]))[1:]...)
	}
	slices.Sort(rest)
	second, taken := map[string]uint32{}, map[uint32]bool{}
	for _, content := range rest {
		for salt := 1; ; salt++ {
			number := n.first(content + "#" + strconv.Itoa(salt))
			if _, used := n.byHash[number]; !used && !taken[number] {
				second[content], taken[number] = number, true
				break
			}
		}
	}
	changed := !maps.Equal(second, n.second)
	n.second = second
	return changed
}

// of is the number of a content since the last settle.
func (n *numbers) of(content string) uint32 {
	if number, ok := n.second[content]; ok {
		return number
	}
	return n.first(content)
}

// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// blockSet is the content hash of a rule's list of blocks, in any order.
type blockSet [16]byte

// blockIndex knows the class of each prefix: the set of block sets that hold the
// addresses for which it is the longest.
type blockIndex struct {
	numbers numbers
	// sets are the block sets of rules; rules counts those that have it.
	sets     map[blockSet]*blocks
	changed  bool
	classes  map[string]*blockClass
	bySet    map[blockSet]map[*blockClass]struct{}
	prefixes map[netip.Prefix]uint32
}

type blocks struct {
	blocks []policy.Block
	rules  int
}

type blockClass struct {
	content string
	number  uint32
	sets    []blockSet
}

func newBlockIndex(hash func(string) uint32) blockIndex {
	return blockIndex{
		numbers: newNumbers(hash), sets: map[blockSet]*blocks{}, classes: map[string]*blockClass{},
		bySet: map[blockSet]map[*blockClass]struct{}{}, prefixes: map[netip.Prefix]uint32{},
	}
}

// canonicalBlocks sorts blocks and their exceptions and names the result.
func canonicalBlocks(in []policy.Block) (blockSet, []policy.Block) {
	texts := map[string]policy.Block{}
	for _, b := range in {
		b.CIDR = b.CIDR.Masked()
		except := make([]netip.Prefix, 0, len(b.Except))
		text := b.CIDR.String()
		for _, p := range b.Except {
			except = append(except, p.Masked())
		}
		slices.SortFunc(except, comparePrefixes)
		b.Except = slices.Compact(except)
		for _, p := range b.Except {
			text += "-" + p.String()
		}
		texts[text] = b
	}
	h := sha256.New()
	var out []policy.Block
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		h.Write([]byte(text + "\n"))
		out = append(out, texts[text])
	}
	return blockSet(h.Sum(nil)[:16]), out
}

func (x *blockIndex) use(set blockSet, list []policy.Block) {
	b, ok := x.sets[set]
	if !ok {
		b = &blocks{blocks: list}
		x.sets[set] = b
		x.changed = true
	}
	b.rules++
}

func (x *blockIndex) release(set blockSet) {
	b := x.sets[set]
	if b.rules--; b.rules == 0 {
		delete(x.sets, set)
		x.changed = true
	}
}

// edge is where a block begins or one of its exceptions.
type edge struct {
	set    blockSet
	block  int
	except bool
}

// settleBlocks computes the classes of all prefixes anew when a block set is new
// or gone.
func (e *Engine) settleBlocks() {
	x := &e.blocks
	if !x.changed {
		return
	}
	x.changed = false
	held := x.held()
	classes := map[string]*blockClass{}
	of := make(map[netip.Prefix]*blockClass, len(held))
	for p, sets := range held {
		if len(sets) == 0 {
			continue
		}
		content := ""
		for _, s := range sets {
			content += string(s[:])
		}
		c, ok := classes[content]
		if !ok {
			if c = x.classes[content]; c == nil {
				c = &blockClass{content: content, sets: sets}
				x.numbers.add(content)
			}
			classes[content] = c
		}
		of[p] = c
	}
	e.replaceBlockClasses(classes)
	now := make(map[netip.Prefix]uint32, len(held))
	for p := range held {
		now[p] = 0
		if c := of[p]; c != nil {
			now[p] = c.number
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(x.prefixes), comparePrefixes) {
		if _, stays := now[p]; !stays {
			e.remove(OwnerBlocks, pipeline.PeerBlock(p, 0))
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(now), comparePrefixes) {
		if had, known := x.prefixes[p]; !known || had != now[p] {
			e.set(OwnerBlocks, pipeline.PeerBlock(p, now[p]))
		}
	}
	x.prefixes = now
}

// replaceBlockClasses links the classes that are new or have another number and
// unlinks those that are gone.
func (e *Engine) replaceBlockClasses(classes map[string]*blockClass) {
	x := &e.blocks
	for content, c := range x.classes {
		if classes[content] == nil {
			e.unlinkBlockClass(c)
			x.numbers.drop(content)
		}
	}
	x.numbers.settle()
	for content, c := range classes {
		number := x.numbers.of(content)
		if x.classes[content] != nil {
			if number == c.number {
				continue
			}
			e.unlinkBlockClass(c)
		}
		c.number = number
		for _, s := range c.sets {
			insert(x.bySet, s, c)
			for r := range e.rules.byBlocks[s] {
				e.clauses.add(r, clauseOfBlocks(c))
			}
		}
	}
	x.classes = classes
}

func (e *Engine) unlinkBlockClass(c *blockClass) {
	for _, s := range c.sets {
		discard(e.blocks.bySet, s, c)
		for r := range e.rules.byBlocks[s] {
			e.clauses.drop(r, clauseOfBlocks(c))
		}
	}
}

// held finds for every prefix that a block or an exception has the sets that
// hold the addresses for which it is the longest, sorted.
func (x *blockIndex) held() map[netip.Prefix][]blockSet {
	edges := map[netip.Prefix][]edge{}
	for set, b := range x.sets {
		for i, block := range b.blocks {
			edges[block.CIDR] = append(edges[block.CIDR], edge{set, i, false})
			for _, p := range block.Except {
				edges[p] = append(edges[p], edge{set, i, true})
			}
		}
	}
	out := make(map[netip.Prefix][]blockSet, len(edges))
	// In this order a prefix comes after those that hold it, which are on the
	// stack when the others have been taken off.
	var stack []netip.Prefix
	for _, p := range slices.SortedFunc(maps.Keys(edges), comparePrefixes) {
		for len(stack) > 0 && !(stack[len(stack)-1].Contains(p.Addr())) {
			stack = stack[:len(stack)-1]
		}
		stack = append(stack, p)
		out[p] = holders(stack, edges)
	}
	return out
}

// holders are the sets with a block that begins in one of the prefixes and has
// no exception in any.
func holders(prefixes []netip.Prefix, edges map[netip.Prefix][]edge) []blockSet {
	type block struct {
		set blockSet
		n   int
	}
	inside, except := map[block]bool{}, map[block]bool{}
	for _, p := range prefixes {
		for _, e := range edges[p] {
			if e.except {
				except[block{e.set, e.block}] = true
			} else {
				inside[block{e.set, e.block}] = true
			}
		}
	}
	sets := map[blockSet]bool{}
	for b := range inside {
		if !except[b] {
			sets[b.set] = true
		}
	}
	return slices.SortedFunc(maps.Keys(sets), func(a, b blockSet) int { return slices.Compare(a[:], b[:]) })
}

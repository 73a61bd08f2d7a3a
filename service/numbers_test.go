// SPDX-License-Identifier: Apache-2.0

package service

import (
	stdcmp "cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/pipeline"
)

// crowded are numbers of which there are so few that names want the same.
func crowded(changed func(string)) *numbers[string] {
	return &numbers[string]{
		hash: func(name string, try int) uint32 {
			sum := uint64(0)
			for _, c := range name {
				sum = sum*31 + uint64(c)
			}
			return row(sum*0x9e3779b97f4a7c15, try, 5)
		},
		compare: stdcmp.Compare[string], changed: changed,
	}
}

// TestNumbersForgetHistory: whatever came and went, names have the numbers that
// they would have if they had come in order; each has its own, and whoever gets
// another is told.
func TestNumbersForgetHistory(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	known := map[string]uint32{}
	n := crowded(nil)
	n.changed = func(name string) { delete(known, name) }
	names := map[string]bool{}
	for range 3000 {
		name := fmt.Sprintf("n%d", rnd.IntN(40))
		if names[name] {
			n.remove(name)
			delete(names, name)
			delete(known, name)
		} else if len(names) < 28 {
			n.add(name)
			n.add(name)
			names[name] = true
		}
		fresh := crowded(nil)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			fresh.add(name)
		}
		taken := map[uint32]string{}
		for name := range names {
			number, _ := n.of(name)
			want, _ := fresh.of(name)
			if number != want {
				t.Fatalf("%s of %v has %d, want %d", name, slices.Sorted(maps.Keys(names)), number, want)
			}
			if other, both := taken[number]; both {
				t.Fatalf("%s and %s have %d", name, other, number)
			}
			taken[number] = name
			if old, ok := known[name]; ok && old != number {
				t.Fatalf("%s has %d instead of %d, and nobody was told", name, number, old)
			}
			known[name] = number
		}
	}
}

func TestRowsDoNotRepeat(t *testing.T) {
	for _, hash := range []uint64{0, 1, 1 << 63, 0xdeadbeefcafef00d} {
		seen := map[uint32]bool{}
		for try := range 1 << 13 {
			seen[row(hash, try, 13)] = true
		}
		if len(seen) != 1<<13 {
			t.Errorf("%#x: %d numbers of %d", hash, len(seen), 1<<13)
		}
	}
}

func TestAliases(t *testing.T) {
	a := newAliases()
	first, second := Key{"default", "a"}, Key{"default", "b"}
	addr := netip.MustParseAddr("203.0.113.1")
	a.add(addr, first)
	a.add(addr, second)
	alias := a.of[addr]
	if !pipeline.Aliases4.Contains(alias) {
		t.Errorf("%s has the alias %s", addr, alias)
	}
	a.remove(addr, first)
	a.remove(addr, first)
	if a.of[addr] != alias {
		t.Error("one user gone, and so is the alias")
	}
	a.remove(addr, second)
	if len(a.of) != 0 || a.used4 != 0 {
		t.Errorf("nobody uses it, and the alias is %s", a.of[addr])
	}
	addr6 := netip.MustParseAddr("2001:db8::1")
	a.add(addr6, first)
	if !pipeline.Aliases6.Contains(a.of[addr6]) {
		t.Errorf("%s has the alias %s", addr6, a.of[addr6])
	}
	// More than there is room for: the others keep theirs.
	seen := map[netip.Addr]bool{}
	for i := range mostAliases4 + 10 {
		a.add(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), first)
	}
	a.settle()
	for _, alias := range a.of {
		seen[alias] = true
	}
	if len(a.of) != mostAliases4+1 || len(seen) != len(a.of) {
		t.Errorf("%d addresses have %d aliases", len(a.of), len(seen))
	}
}

// TestClaims: what the cluster gave out goes before what users name, then the
// order of keys counts.
func TestClaims(t *testing.T) {
	var c claims
	p := place{netip.MustParseAddr("10.96.0.1"), TCP, 80}
	a, b, z := Key{"a", "a"}, Key{"b", "b"}, Key{"z", "z"}
	type event struct {
		Owner Key
		Other Key
		Told  bool
	}
	var got []event
	add := func(r rank, k Key) {
		loser, lost := c.add(p, claim{r, k})
		got = append(got, event{c.owner(p), loser, lost})
	}
	remove := func(r rank, k Key) {
		winner, won := c.remove(p, claim{r, k})
		owner := Key{}
		if len(c.by[p]) > 0 {
			owner = c.owner(p)
		}
		got = append(got, event{owner, winner, won})
	}
	add(external, b)
	add(external, a)
	add(clusterIP, z)
	add(clusterIP, z)
	remove(external, b)
	remove(clusterIP, z)
	remove(external, a)
	remove(external, a)
	want := []event{{b, Key{}, false}, {a, b, true}, {z, a, true}, {z, Key{}, false}, {z, z, false}, {a, a, true}, {Key{}, Key{}, false}, {Key{}, Key{}, false}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

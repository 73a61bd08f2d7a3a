// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"net/netip"
	"testing"

	"github.com/waymark-net/waymark/policy"
)

func benchAddress(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// benchChange is a policy that accepts from 100,000 addresses in 100 groups.
func benchChange() Change {
	pod, identity := known(0, 1)
	c := Change{
		Update:   &policy.Update{Pods: []policy.Pod{pod}, Identities: []*policy.Identity{identity}},
		Attached: []LocalPod{podAt(0).local},
	}
	for g := range 100 {
		gu := policy.GroupUpdate{ID: group(g), Whole: true}
		for i := range 1000 {
			gu.Added = append(gu.Added, benchAddress(1000*g+i))
		}
		c.Update.Groups = append(c.Update.Groups, gu)
		c.Update.Policies = append(c.Update.Policies, accept("p"+string(rune('a'+g)), subject(0), from(g)))
	}
	return c
}

func BenchmarkApply100000Addresses(b *testing.B) {
	c := benchChange()
	b.ReportAllocs()
	for b.Loop() {
		p := New(Params{}).Apply(c)
		if n := len(p.Changes[0].Set); n != 100000 {
			b.Fatalf("%d addresses", n)
		}
	}
}

func BenchmarkApplyOneAddressOf100000(b *testing.B) {
	e := New(Params{})
	e.Apply(benchChange())
	a := []netip.Addr{benchAddress(200000)}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		g := policy.GroupUpdate{ID: group(5), Added: a}
		if i%2 == 1 {
			g = policy.GroupUpdate{ID: group(5), Removed: a}
		}
		if p := e.Apply(Change{Update: &policy.Update{Groups: []policy.GroupUpdate{g}}}); len(p.Changes) != 1 {
			b.Fatalf("%d owners change", len(p.Changes))
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/policy"
)

// randomUpdate is a change of a state, as a computation makes it: whatever goes
// or changes is there, whatever is whole is new.
func randomUpdate(rng *rand.Rand, s *policy.State) *policy.Update {
	u := &policy.Update{}
	for n := range 4 {
		p, pod := policyOf(n, rng.IntN(5)), policy.PodKey{Namespace: "ns", Name: string(rune('a' + n))}
		identity := &policy.Identity{ID: id(n), Subjects: []policy.ID{id(rng.IntN(5))}}
		_, known := s.Policies[p.Key]
		switch rng.IntN(3) {
		case 0:
			u.Policies = append(u.Policies, p)
			u.Identities = append(u.Identities, identity)
			u.Pods = append(u.Pods, policy.Pod{Key: pod, Identity: id(n)})
		case 1:
			if known {
				u.GonePolicies, u.GonePods = append(u.GonePolicies, p.Key), append(u.GonePods, pod)
				u.GoneIdentities = append(u.GoneIdentities, id(n))
			}
		}
		u.Groups, u.GoneGroups = randomGroup(rng, s, n, u)
	}
	return u
}

func randomGroup(rng *rand.Rand, s *policy.State, n int, u *policy.Update) ([]policy.GroupUpdate, []policy.ID) {
	set, known := s.Groups[id(n)]
	g := policy.GroupUpdate{ID: id(n), Whole: !known}
	for a := range 6 {
		_, member := set[address(a)]
		switch {
		case rng.IntN(3) > 0:
		case member:
			g.Removed = append(g.Removed, address(a))
		default:
			g.Added = append(g.Added, address(a))
		}
	}
	switch {
	case rng.IntN(3) == 0:
		return u.Groups, u.GoneGroups
	case known && rng.IntN(4) == 0:
		return u.Groups, append(u.GoneGroups, g.ID)
	}
	return append(u.Groups, g), u.GoneGroups
}

// TestPending takes what is pending now and then: it leads to the same state as
// each change by itself, changes nothing that it was given, and is minimal in
// groups.
func TestPending(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		now, sent := policy.NewState(), policy.NewState()
		p := newPending()
		for range 30 {
			u := randomUpdate(rng, now)
			before := append([]netip.Addr(nil), addressesOf(u)...)
			now.Apply(u)
			p.add(u)
			if rng.IntN(4) > 0 {
				continue
			}
			out := p.update()
			if diff := cmp.Diff(before, addressesOf(u), compare); diff != "" {
				t.Fatalf("seed %d: a shared update was changed:\n%s", seed, diff)
			}
			for _, g := range out.Groups {
				for _, a := range g.Added {
					if _, has := sent.Groups[g.ID][a]; has && !g.Whole {
						t.Errorf("seed %d: %s added again", seed, a)
					}
				}
				for _, a := range g.Removed {
					if _, has := sent.Groups[g.ID][a]; !has {
						t.Errorf("seed %d: %s removed again", seed, a)
					}
				}
			}
			sent.Apply(out)
			p = newPending()
			if !reflect.DeepEqual(haveOf("", now, nil), haveOf("", sent, nil)) {
				t.Fatalf("seed %d (-now +sent):\n%s", seed, cmp.Diff(now, sent, compare))
			}
		}
	}
}

func addressesOf(u *policy.Update) []netip.Addr {
	var list []netip.Addr
	for _, g := range u.Groups {
		list = append(append(list, g.Added...), g.Removed...)
	}
	return list
}

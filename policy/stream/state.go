// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

// errInconsistent is what an update's error wraps that does not lead from the
// agent's State to one in which whatever is named exists.
var errInconsistent = errors.New("the update does not fit to what is known")

// check judges whether an update fits to a State: what it changes is there, and
// what its objects name will be.
func check(state *policy.State, u *policy.Update) error {
	groups, identities := map[policy.ID]bool{}, map[policy.ID]bool{}
	for i := range u.Groups {
		g := &u.Groups[i]
		if _, known := state.Groups[g.ID]; !known && !g.Whole {
			return fmt.Errorf("%w: group %s changes but is not known", errInconsistent, g.ID)
		}
		groups[g.ID] = true
	}
	for _, id := range u.GoneGroups {
		groups[id] = false
	}
	for _, i := range u.Identities {
		identities[i.ID] = true
	}
	for _, id := range u.GoneIdentities {
		identities[id] = false
	}
	for _, p := range u.Policies {
		for i := range p.Rules {
			for _, id := range p.Rules[i].Peers {
				if _, known := state.Groups[id]; !exists(groups, id, known) {
					return fmt.Errorf("%w: %s names group %s, which is not known", errInconsistent, p.Key, id)
				}
			}
		}
	}
	for _, p := range u.Pods {
		if _, known := state.Identities[p.Identity]; !exists(identities, p.Identity, known) {
			return fmt.Errorf("%w: Pod %s has identity %s, which is not known", errInconsistent, p.Key, p.Identity)
		}
	}
	return nil
}

// exists says whether an object is there after an update.
func exists(changed map[policy.ID]bool, id policy.ID, before bool) bool {
	if now, named := changed[id]; named {
		return now
	}
	return before
}

// whole returns what makes a group be a set of addresses.
func whole(id policy.ID, set policy.Addresses) policy.GroupUpdate {
	return policy.GroupUpdate{ID: id, Whole: true, Added: slices.AppendSeq(make([]netip.Addr, 0, len(set)), maps.Keys(set))}
}

// complete makes an update that leads from nothing one that leads from a State:
// whatever it does not name goes.
func complete(state *policy.State, u *policy.Update) {
	next := policy.NewState()
	next.Apply(u)
	u.GonePolicies = gone(state.Policies, next.Policies)
	u.GoneGroups = gone(state.Groups, next.Groups)
	u.GoneIdentities = gone(state.Identities, next.Identities)
	u.GonePods = gone(state.Pods, next.Pods)
}

// note keeps what was not understood of the policies that are there after an
// update.
func note(known map[policy.Key]string, u *policy.Update, problems []wire.Problem) {
	for _, key := range u.GonePolicies {
		delete(known, key)
	}
	for _, p := range u.Policies {
		delete(known, p.Key)
	}
	for _, p := range problems {
		known[p.Policy] = p.Reason
	}
}

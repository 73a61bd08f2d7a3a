// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"fmt"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

// namesPerMessage is how many objects one Have names; each takes some hundred
// bytes at most.
const namesPerMessage = 10_000

func newHave() *have {
	return &have{
		policies: map[policy.Key]policy.Digest{}, groups: map[policy.ID]policy.Digest{},
		identities: map[policy.ID]policy.Digest{}, pods: map[policy.PodKey]policy.Digest{},
	}
}

// haveOf returns what a State has.
func haveOf(node string, state *policy.State, position policy.Position) *have {
	w := newHave()
	w.node, w.position = node, position
	for key, p := range state.Policies {
		w.policies[key] = p.Digest()
	}
	for id, set := range state.Groups {
		w.groups[id] = set.Digest()
	}
	for id, i := range state.Identities {
		w.identities[id] = i.Digest()
	}
	for key, p := range state.Pods {
		w.pods[key] = p.Digest()
	}
	return w
}

// add adds what one message names.
func (w *have) add(m *pb.Have) error {
	if m == nil {
		return fmt.Errorf("%w: the agent did not say what it has", wire.ErrMalformed)
	}
	if w.node == "" {
		w.node, w.position = m.GetNode(), m.GetPosition()
	}
	for _, p := range m.GetPolicies() {
		key, err := wire.ToKey(p.GetKey())
		if err != nil {
			return err
		}
		if w.policies[key], err = wire.ToDigest(p.GetDigest()); err != nil {
			return err
		}
	}
	if err := addIDs(w.groups, m.GetGroups()); err != nil {
		return err
	}
	if err := addIDs(w.identities, m.GetIdentities()); err != nil {
		return err
	}
	for _, p := range m.GetPods() {
		key, err := wire.ToPodKey(p.GetKey())
		if err != nil {
			return err
		}
		if w.pods[key], err = wire.ToDigest(p.GetDigest()); err != nil {
			return err
		}
	}
	return nil
}

func addIDs(to map[policy.ID]policy.Digest, list []*pb.IDDigest) error {
	for _, m := range list {
		id, err := wire.ToID(m.GetId())
		if err != nil {
			return err
		}
		if to[id], err = wire.ToDigest(m.GetDigest()); err != nil {
			return err
		}
	}
	return nil
}

// messages returns what says it, in parts.
func (w *have) messages() []*pb.Have {
	list := []*pb.Have{{Node: w.node, Position: w.position}}
	named := 0
	part := func() *pb.Have {
		if named++; named%namesPerMessage == 0 {
			list = append(list, &pb.Have{})
		}
		return list[len(list)-1]
	}
	for key, d := range w.policies {
		m := part()
		m.Policies = append(m.Policies, &pb.PolicyDigest{Key: wire.FromKey(key), Digest: wire.FromDigest(d)})
	}
	for id, d := range w.groups {
		m := part()
		m.Groups = append(m.Groups, &pb.IDDigest{Id: id[:], Digest: wire.FromDigest(d)})
	}
	for id, d := range w.identities {
		m := part()
		m.Identities = append(m.Identities, &pb.IDDigest{Id: id[:], Digest: wire.FromDigest(d)})
	}
	for key, d := range w.pods {
		m := part()
		m.Pods = append(m.Pods, &pb.PodDigest{Key: wire.FromPodKey(key), Digest: wire.FromDigest(d)})
	}
	list[len(list)-1].Last = true
	return list
}

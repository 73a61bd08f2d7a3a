// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net/netip"

	"google.golang.org/protobuf/proto"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
)

// Kinds and tiers, directions and actions are numbered from 1 on the wire: 0
// says that there is none.
const first = 1

// FromKey encodes a policy's key.
func FromKey(k policy.Key) *pb.Key {
	return &pb.Key{Kind: pb.Kind(k.Kind) + first, Namespace: k.Namespace, Name: k.Name}
}

// FromPodKey encodes a Pod's key.
func FromPodKey(k policy.PodKey) *pb.PodKey { return &pb.PodKey{Namespace: k.Namespace, Name: k.Name} }

// FromDigest encodes a digest: 16 bytes, big endian.
func FromDigest(d policy.Digest) []byte {
	b := make([]byte, 0, 16)
	for _, n := range []uint64{d.Hi, d.Lo} {
		for shift := 56; shift >= 0; shift -= 8 {
			b = append(b, byte(n>>shift))
		}
	}
	return b
}

func fromPolicy(p *policy.Policy) *pb.Policy {
	m := &pb.Policy{
		Key: FromKey(p.Key), Uid: p.UID, Tier: pb.Tier(p.Tier) + first, Priority: p.Priority, Subject: p.Subject[:],
		IsolatesIngress: p.Isolates[policy.Ingress], IsolatesEgress: p.Isolates[policy.Egress],
		Rules: make([]*pb.Rule, len(p.Rules)),
	}
	for i := range p.Rules {
		m.Rules[i] = fromRule(&p.Rules[i])
	}
	return m
}

func fromRule(r *policy.Rule) *pb.Rule {
	m := &pb.Rule{
		Direction: pb.Direction(r.Direction) + first, Action: pb.Action(r.Action) + first, Index: int32(r.Index), Name: r.Name,
		Subject: r.Subject[:], AnyPeer: r.AnyPeer,
	}
	for i := range r.Peers {
		m.Peers = append(m.Peers, r.Peers[i][:])
	}
	for _, b := range r.Blocks {
		block := &pb.Block{Cidr: fromPrefix(b.CIDR)}
		for _, e := range b.Except {
			block.Except = append(block.Except, fromPrefix(e))
		}
		m.Blocks = append(m.Blocks, block)
	}
	for _, p := range r.Ports {
		m.Ports = append(m.Ports, &pb.PortRange{Protocol: uint32(p.Protocol), First: uint32(p.First), Last: uint32(p.Last)})
	}
	return m
}

func fromPrefix(p netip.Prefix) *pb.Prefix {
	return &pb.Prefix{Address: p.Addr().AsSlice(), Length: uint32(p.Bits())}
}

func fromIdentity(i *policy.Identity) *pb.Identity {
	m := &pb.Identity{Id: i.ID[:], Subjects: make([]byte, 0, len(i.Subjects)*len(policy.ID{}))}
	for _, s := range i.Subjects {
		m.Subjects = append(m.Subjects, s[:]...)
	}
	return m
}

func fromPod(p policy.Pod) *pb.Pod {
	return &pb.Pod{Key: FromPodKey(p.Key), Uid: p.UID, Identity: p.Identity[:]}
}

func appendAddress(v4, v6 []byte, a netip.Addr) (four, six []byte) {
	if a.Is4() {
		b := a.As4()
		return append(v4, b[:]...), v6
	}
	b := a.As16()
	return v4, append(v6, b[:]...)
}

// Split encodes an update in parts of about limit bytes, in order; one object
// other than a group is never split, whatever its size. The last part is made
// even if it is empty. It stops at the first error of yield and returns it.
func Split(u *policy.Update, limit int, yield func(part *pb.Update, last bool) error) error {
	s := &splitter{limit: limit, yield: yield, part: &pb.Update{}}
	for _, p := range u.Policies {
		m := fromPolicy(p)
		s.part.Policies = append(s.part.Policies, m)
		s.grew(proto.Size(m))
	}
	for _, k := range u.GonePolicies {
		m := FromKey(k)
		s.part.GonePolicies = append(s.part.GonePolicies, m)
		s.grew(proto.Size(m))
	}
	for i := range u.Groups {
		s.group(&u.Groups[i])
	}
	for i := range u.GoneGroups {
		s.part.GoneGroups = append(s.part.GoneGroups, u.GoneGroups[i][:])
		s.grew(len(policy.ID{}))
	}
	for _, i := range u.Identities {
		m := fromIdentity(i)
		s.part.Identities = append(s.part.Identities, m)
		s.grew(proto.Size(m))
	}
	for i := range u.GoneIdentities {
		s.part.GoneIdentities = append(s.part.GoneIdentities, u.GoneIdentities[i][:])
		s.grew(len(policy.ID{}))
	}
	for _, p := range u.Pods {
		m := fromPod(p)
		s.part.Pods = append(s.part.Pods, m)
		s.grew(proto.Size(m))
	}
	for _, k := range u.GonePods {
		m := FromPodKey(k)
		s.part.GonePods = append(s.part.GonePods, m)
		s.grew(proto.Size(m))
	}
	if s.err != nil {
		return s.err
	}
	return yield(s.part, true)
}

// splitter collects one part.
type splitter struct {
	limit int
	yield func(*pb.Update, bool) error
	part  *pb.Update
	size  int
	err   error
}

// overhead is what an object costs beside its own bytes, at most: tag and length.
const overhead = 6

// grew counts what was added to the part and hands the part on when it is full.
func (s *splitter) grew(size int) {
	if s.size += size + overhead; s.size < s.limit {
		return
	}
	if s.err == nil {
		s.err = s.yield(s.part, false)
	}
	s.part, s.size = &pb.Update{}, 0
}

// group adds a group, several times with parts of its addresses if they are many.
func (s *splitter) group(g *policy.GroupUpdate) {
	m := &pb.GroupUpdate{Id: g.ID[:], Whole: g.Whole}
	size, handedOn := len(g.ID), false
	full := func() {
		if s.size+size+overhead < s.limit {
			return
		}
		s.part.Groups = append(s.part.Groups, m)
		s.grew(size)
		m, size, handedOn = &pb.GroupUpdate{Id: g.ID[:]}, len(g.ID), true
	}
	for _, a := range g.Added {
		m.AddedIpv4, m.AddedIpv6 = appendAddress(m.AddedIpv4, m.AddedIpv6, a)
		size += a.BitLen() / 8
		full()
	}
	for _, a := range g.Removed {
		m.RemovedIpv4, m.RemovedIpv6 = appendAddress(m.RemovedIpv4, m.RemovedIpv6, a)
		size += a.BitLen() / 8
		full()
	}
	if size == len(g.ID) && handedOn {
		return // nothing is left
	}
	s.part.Groups = append(s.part.Groups, m)
	s.grew(size)
}

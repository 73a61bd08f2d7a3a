// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/proto"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
)

// ErrMalformed is what every error of this package wraps.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Problem says what of a policy was not understood.
type Problem struct {
	Policy policy.Key
	Reason string
}

// Assembler puts the parts of an update together. The zero value is ready. It
// is used by one goroutine; after an error it is of no use.
type Assembler struct {
	update   policy.Update
	problems []Problem

	policies   map[policy.Key]struct{}
	groups     map[policy.ID]int // index in update.Groups, -1: gone
	identities map[policy.ID]struct{}
	pods       map[policy.PodKey]struct{}
}

// Update returns what was added, and what was not understood.
func (a *Assembler) Update() (*policy.Update, []Problem) {
	u := a.update
	return &u, a.problems
}

// Add adds a part. Errors wrap ErrMalformed.
func (a *Assembler) Add(m *pb.Update) error {
	if a.groups == nil {
		a.policies, a.groups = map[policy.Key]struct{}{}, map[policy.ID]int{}
		a.identities, a.pods = map[policy.ID]struct{}{}, map[policy.PodKey]struct{}{}
	}
	if unknown(m) {
		return malformed("an update with a field that is not known")
	}
	for _, step := range []func(*pb.Update) error{a.addPolicies, a.addGroups, a.addIdentities, a.addPods} {
		if err := step(m); err != nil {
			return err
		}
	}
	return nil
}

func (a *Assembler) addPolicies(m *pb.Update) error {
	for _, p := range m.GetPolicies() {
		decoded, reason, err := toPolicy(p)
		if err != nil {
			return err
		}
		if err := once(a.policies, decoded.Key); err != nil {
			return err
		}
		if reason != "" {
			a.problems = append(a.problems, Problem{Policy: decoded.Key, Reason: reason})
		}
		a.update.Policies = append(a.update.Policies, decoded)
	}
	for _, k := range m.GetGonePolicies() {
		key, err := ToKey(k)
		if err != nil {
			return err
		}
		if err := once(a.policies, key); err != nil {
			return err
		}
		a.update.GonePolicies = append(a.update.GonePolicies, key)
	}
	return nil
}

func (a *Assembler) addGroups(m *pb.Update) error {
	for _, g := range m.GetGroups() {
		decoded, err := toGroup(g)
		if err != nil {
			return err
		}
		at, found := a.groups[decoded.ID]
		switch {
		case !found:
			a.groups[decoded.ID] = len(a.update.Groups)
			a.update.Groups = append(a.update.Groups, decoded)
			continue
		case at < 0 || decoded.Whole:
			return malformed("group %s twice", decoded.ID)
		}
		// The rest of a group that did not fit into one part.
		group := &a.update.Groups[at]
		if group.Whole && len(decoded.Removed) > 0 {
			return malformed("group %s: whole and with removed addresses", decoded.ID)
		}
		group.Added = append(group.Added, decoded.Added...)
		group.Removed = append(group.Removed, decoded.Removed...)
	}
	for _, b := range m.GetGoneGroups() {
		id, err := ToID(b)
		if err != nil {
			return fmt.Errorf("gone group: %w", err)
		}
		if _, found := a.groups[id]; found {
			return malformed("group %s twice", id)
		}
		a.groups[id] = -1
		a.update.GoneGroups = append(a.update.GoneGroups, id)
	}
	return nil
}

func (a *Assembler) addIdentities(m *pb.Update) error {
	for _, i := range m.GetIdentities() {
		decoded, err := toIdentity(i)
		if err != nil {
			return err
		}
		if err := once(a.identities, decoded.ID); err != nil {
			return err
		}
		a.update.Identities = append(a.update.Identities, decoded)
	}
	for _, b := range m.GetGoneIdentities() {
		id, err := ToID(b)
		if err != nil {
			return fmt.Errorf("gone identity: %w", err)
		}
		if err := once(a.identities, id); err != nil {
			return err
		}
		a.update.GoneIdentities = append(a.update.GoneIdentities, id)
	}
	return nil
}

func (a *Assembler) addPods(m *pb.Update) error {
	for _, p := range m.GetPods() {
		decoded, err := toPod(p)
		if err != nil {
			return err
		}
		if err := once(a.pods, decoded.Key); err != nil {
			return err
		}
		a.update.Pods = append(a.update.Pods, decoded)
	}
	for _, k := range m.GetGonePods() {
		key, err := ToPodKey(k)
		if err != nil {
			return err
		}
		if err := once(a.pods, key); err != nil {
			return err
		}
		a.update.GonePods = append(a.update.GonePods, key)
	}
	return nil
}

func once[K comparable](seen map[K]struct{}, key K) error {
	if _, found := seen[key]; found {
		return malformed("%v twice", key)
	}
	seen[key] = struct{}{}
	return nil
}

// ToID decodes an ID of 16 bytes.
func ToID(b []byte) (policy.ID, error) {
	if len(b) != len(policy.ID{}) {
		return policy.ID{}, malformed("an ID of %d bytes, must have %d", len(b), len(policy.ID{}))
	}
	return policy.ID(b), nil
}

// ToDigest decodes a digest of 16 bytes.
func ToDigest(b []byte) (policy.Digest, error) {
	if len(b) != 16 {
		return policy.Digest{}, malformed("a digest of %d bytes, must have 16", len(b))
	}
	return policy.Digest{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:])}, nil
}

// ToKey decodes a policy's key. A kind that is not known keeps its number.
func ToKey(m *pb.Key) (policy.Key, error) {
	kind := m.GetKind() - first
	if m.GetKind() < first || kind > math.MaxUint8 || m.GetName() == "" || unknown(m) {
		return policy.Key{}, malformed("a policy's key %v, must have a kind and a name", m)
	}
	return policy.Key{Kind: policy.Kind(kind), Namespace: m.GetNamespace(), Name: m.GetName()}, nil
}

// ToPodKey decodes a Pod's key.
func ToPodKey(m *pb.PodKey) (policy.PodKey, error) {
	if m.GetNamespace() == "" || m.GetName() == "" || unknown(m) {
		return policy.PodKey{}, malformed("a Pod's key %v, must have a namespace and a name", m)
	}
	return policy.PodKey{Namespace: m.GetNamespace(), Name: m.GetName()}, nil
}

func toGroup(m *pb.GroupUpdate) (policy.GroupUpdate, error) {
	id, err := ToID(m.GetId())
	if err != nil {
		return policy.GroupUpdate{}, fmt.Errorf("group: %w", err)
	}
	if unknown(m) {
		return policy.GroupUpdate{}, malformed("group %s: a field that is not known", id)
	}
	g := policy.GroupUpdate{ID: id, Whole: m.GetWhole()}
	if g.Added, err = addresses(m.GetAddedIpv4(), m.GetAddedIpv6()); err != nil {
		return g, fmt.Errorf("group %s: added: %w", id, err)
	}
	if g.Removed, err = addresses(m.GetRemovedIpv4(), m.GetRemovedIpv6()); err != nil {
		return g, fmt.Errorf("group %s: removed: %w", id, err)
	}
	if g.Whole && len(g.Removed) > 0 {
		return g, malformed("group %s: whole and with removed addresses", id)
	}
	return g, nil
}

func addresses(v4, v6 []byte) ([]netip.Addr, error) {
	if len(v4)%4 != 0 || len(v6)%16 != 0 {
		return nil, malformed("%d bytes of IPv4 and %d of IPv6 addresses, must be multiples of 4 and 16", len(v4), len(v6))
	}
	if len(v4)+len(v6) == 0 {
		return nil, nil
	}
	list := make([]netip.Addr, 0, len(v4)/4+len(v6)/16)
	for ; len(v4) > 0; v4 = v4[4:] {
		list = append(list, netip.AddrFrom4([4]byte(v4)))
	}
	for ; len(v6) > 0; v6 = v6[16:] {
		list = append(list, netip.AddrFrom16([16]byte(v6)))
	}
	return list, nil
}

func toIdentity(m *pb.Identity) (*policy.Identity, error) {
	id, err := ToID(m.GetId())
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	b := m.GetSubjects()
	if len(b)%len(id) != 0 || unknown(m) {
		return nil, malformed("identity %s: %d bytes of subjects, must be a multiple of %d and nothing else", id, len(b), len(id))
	}
	i := &policy.Identity{ID: id}
	for ; len(b) > 0; b = b[len(id):] {
		s := policy.ID(b)
		if n := len(i.Subjects); n > 0 && string(i.Subjects[n-1][:]) >= string(s[:]) {
			return nil, malformed("identity %s: subjects are not sorted", id)
		}
		i.Subjects = append(i.Subjects, s)
	}
	return i, nil
}

func toPod(m *pb.Pod) (policy.Pod, error) {
	key, err := ToPodKey(m.GetKey())
	if err != nil {
		return policy.Pod{}, err
	}
	id, err := ToID(m.GetIdentity())
	if err != nil {
		return policy.Pod{}, fmt.Errorf("identity of Pod %s: %w", key, err)
	}
	if unknown(m) {
		return policy.Pod{}, malformed("Pod %s: a field that is not known", key)
	}
	return policy.Pod{Key: key, UID: m.GetUid(), Identity: id}, nil
}

// unknown reports whether a message itself has a field that this version does
// not know.
func unknown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

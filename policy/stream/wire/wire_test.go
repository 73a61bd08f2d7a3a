// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
)

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func key(name string) policy.Key { return policy.Key{Namespace: "ns", Name: name} }

func adminKey(name string) policy.Key {
	return policy.Key{Kind: policy.ClusterNetworkPolicy, Name: name}
}

// full is an update with everything in it.
func full() *policy.Update {
	return &policy.Update{
		Policies: []*policy.Policy{
			{
				Key: key("a"), UID: "u1", Tier: policy.TierNamespace, Subject: policy.ID{1},
				Isolates: [policy.Directions]bool{true, false},
				Rules: []policy.Rule{
					{Subject: policy.ID{1}, Peers: []policy.ID{{2}, {3}}, Ports: []policy.PortRange{{Protocol: policy.TCP, First: 80, Last: 90}}},
					{Index: 1, Subject: policy.ID{4}, Blocks: []policy.Block{{
						CIDR:   netip.MustParsePrefix("10.0.0.0/8"),
						Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")},
					}, {CIDR: netip.MustParsePrefix("::/0")}}},
					{Direction: policy.Egress, Subject: policy.ID{1}, AnyPeer: true, Ports: []policy.PortRange{{Protocol: policy.SCTP, Last: 65535}}},
				},
			},
			{
				Key: adminKey("b"), UID: "u2", Tier: policy.TierAdmin, Priority: 1000, Subject: policy.ID{5},
				Rules: []policy.Rule{{Action: policy.Pass, Name: "r", Subject: policy.ID{5}, AnyPeer: true}},
			},
			{Key: adminKey("c"), Tier: policy.TierBaseline, Rules: []policy.Rule{{Action: policy.Deny, AnyPeer: true}}},
		},
		GonePolicies: []policy.Key{key("d"), adminKey("d")},
		Groups: []policy.GroupUpdate{
			{ID: policy.ID{1}, Whole: true},
			{ID: policy.ID{2}, Whole: true, Added: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}},
			{ID: policy.ID{3}, Added: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Removed: []netip.Addr{netip.MustParseAddr("fd00::1")}},
		},
		GoneGroups:     []policy.ID{{9}},
		Identities:     []*policy.Identity{{ID: policy.ID{1}}, {ID: policy.ID{2}, Subjects: []policy.ID{{1}, {2}}}},
		GoneIdentities: []policy.ID{{8}},
		Pods:           []policy.Pod{{Key: policy.PodKey{Namespace: "ns", Name: "p"}, UID: "u", Identity: policy.ID{1}}},
		GonePods:       []policy.PodKey{{Namespace: "ns", Name: "q"}},
	}
}

// roundTrip encodes, marshals and decodes an update, in parts of a size.
func roundTrip(t *testing.T, u *policy.Update, limit int) (*policy.Update, []Problem, int) {
	t.Helper()
	var a Assembler
	parts := 0
	err := Split(u, limit, func(part *pb.Update, _ bool) error {
		parts++
		data, err := proto.Marshal(part)
		if err != nil {
			return err
		}
		var m pb.Update
		if err := proto.Unmarshal(data, &m); err != nil {
			return err
		}
		return a.Add(&m)
	})
	if err != nil {
		t.Fatal(err)
	}
	got, problems := a.Update()
	return got, problems, parts
}

func TestRoundTrip(t *testing.T) {
	for _, limit := range []int{1, 40, 200, 1 << 20} {
		got, problems, parts := roundTrip(t, full(), limit)
		if diff := cmp.Diff(full(), got, compare); diff != "" || problems != nil {
			t.Errorf("limit %d: problems %v (-sent +received):\n%s", limit, problems, diff)
		}
		if limit == 1<<20 && parts != 1 || limit == 40 && parts < 10 {
			t.Errorf("limit %d: %d parts", limit, parts)
		}
	}
}

func TestSplitKeepsTheLimit(t *testing.T) {
	group := policy.GroupUpdate{ID: policy.ID{1}, Whole: true}
	for n := range uint32(10_000) {
		group.Added = append(group.Added, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+n))))
	}
	u := &policy.Update{Groups: []policy.GroupUpdate{group, {ID: policy.ID{2}, Removed: group.Added}}}
	const limit = 1000
	lasts := 0
	err := Split(u, limit, func(part *pb.Update, last bool) error {
		if size := proto.Size(part); size > limit+100 {
			t.Errorf("a part of %d bytes", size)
		}
		if last {
			lasts++
		}
		return nil
	})
	if err != nil || lasts != 1 {
		t.Errorf("%d last parts, %v", lasts, err)
	}
	got, _, _ := roundTrip(t, u, limit)
	if diff := cmp.Diff(u, got, compare); diff != "" {
		t.Errorf("(-sent +received):\n%s", diff)
	}
	stop := errors.New("stop")
	calls := 0
	if err := Split(u, limit, func(*pb.Update, bool) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls, want the first error", err, calls)
	}
}

// newer adds a field that this version does not know to a message.
func newer(m proto.Message) {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 1))
}

// TestFailClosed has policies that are not understood whole.
func TestFailClosed(t *testing.T) {
	both := [policy.Directions]bool{true, true}
	deny := func(d policy.Direction, subject policy.ID) policy.Rule {
		return policy.Rule{Direction: d, Action: policy.Deny, Subject: subject, AnyPeer: true}
	}
	one, two := policy.ID{1}, policy.ID{2}
	good := func(name string) policy.Rule { return policy.Rule{Name: name, Subject: two, AnyPeer: true} }
	np := &policy.Policy{
		Key: key("a"), Tier: policy.TierNamespace, Subject: one, Isolates: [policy.Directions]bool{true, false},
		Rules: []policy.Rule{good(""), good("ok")},
	}
	isolated := &policy.Policy{Key: key("a"), Tier: policy.TierNamespace, Subject: one, Isolates: both}
	without := &policy.Policy{Key: key("a"), Tier: policy.TierNamespace, Subject: one, Isolates: np.Isolates, Rules: []policy.Rule{good("ok")}}
	cnp := &policy.Policy{
		Key: adminKey("a"), Tier: policy.TierAdmin, Priority: 5, Subject: one, Rules: []policy.Rule{good(""), good("ok")},
	}
	admin := func(rules ...policy.Rule) *policy.Policy {
		return &policy.Policy{Key: adminKey("a"), Tier: policy.TierAdmin, Priority: 5, Subject: one, Rules: rules}
	}
	kind9 := policy.Key{Kind: 8, Name: "a"}
	tests := []struct {
		name   string
		of     *policy.Policy
		change func(m *pb.Policy)
		want   *policy.Policy
		reason string
	}{
		{"field of a NetworkPolicy", np, func(m *pb.Policy) { newer(m) }, isolated, "field"},
		{"tier", np, func(m *pb.Policy) { m.Tier = 7 }, isolated, "tier 7"},
		{"no tier", np, func(m *pb.Policy) { m.Tier = 0 }, isolated, "tier 0"},
		{"tier of the other kind", np, func(m *pb.Policy) { m.Tier = pb.Tier_TIER_ADMIN }, isolated, "tier"},
		{"action", np, func(m *pb.Policy) { m.Rules[0].Action = 9 }, without, "rule 0: malformed message: action 9"},
		{"direction", np, func(m *pb.Policy) { m.Rules[0].Direction = -5 }, without, "direction -5"},
		{"field of a rule", np, func(m *pb.Policy) { newer(m.Rules[0]) }, without, "field"},
		{"subject", np, func(m *pb.Policy) { m.Rules[0].Subject = []byte{1} }, without, "subject: malformed message: an ID of 1 bytes"},
		{"peer", np, func(m *pb.Policy) { m.Rules[0].AnyPeer, m.Rules[0].Peers = false, [][]byte{{1}} }, without, "peer"},
		{"unmasked", np, func(m *pb.Policy) {
			m.Rules[0].AnyPeer, m.Rules[0].Blocks = false, []*pb.Block{{Cidr: &pb.Prefix{Address: []byte{10, 0, 0, 1}, Length: 8}}}
		}, without, "prefix 10.0.0.1/8 has bits beyond"},
		{"too long a prefix", np, func(m *pb.Policy) {
			m.Rules[0].AnyPeer, m.Rules[0].Blocks = false, []*pb.Block{{Cidr: &pb.Prefix{Address: []byte{10, 0, 0, 1}, Length: 33}}}
		}, without, "10.0.0.1/33"},
		{"field of a block", np, func(m *pb.Policy) {
			b := &pb.Block{Cidr: &pb.Prefix{Address: []byte{10, 0, 0, 0}, Length: 8}}
			newer(b)
			m.Rules[0].AnyPeer, m.Rules[0].Blocks = false, []*pb.Block{b}
		}, without, "block with a field"},
		{"except", np, func(m *pb.Policy) {
			m.Rules[0].AnyPeer, m.Rules[0].Blocks = false, []*pb.Block{{Cidr: &pb.Prefix{Address: []byte{10, 0, 0, 0}, Length: 8}, Except: []*pb.Prefix{{}}}}
		}, without, "except"},
		{"any peer and peers", np, func(m *pb.Policy) { m.Rules[0].Peers = [][]byte{make([]byte, 16)} }, without, "any peer"},
		{"protocol", np, func(m *pb.Policy) { m.Rules[0].Ports = []*pb.PortRange{{Protocol: 256 + 6}} }, without, "protocol 262"},
		{"ports", np, func(m *pb.Policy) { m.Rules[0].Ports = []*pb.PortRange{{Protocol: 6, First: 2, Last: 1}} }, without, "ports 2 to 1"},
		{"port number", np, func(m *pb.Policy) { m.Rules[0].Ports = []*pb.PortRange{{Protocol: 6, Last: 65536}} }, without, "65536"},
		{"field of a port", np, func(m *pb.Policy) {
			m.Rules[0].Ports = []*pb.PortRange{{Protocol: 6, Last: 1}}
			newer(m.Rules[0].Ports[0])
		}, without, "ports with a field"},
		{"index", np, func(m *pb.Policy) { m.Rules[0].Index = -1 }, without, "index -1"},
		{"admin action", cnp, func(m *pb.Policy) { m.Rules[0].Action = 9 }, admin(deny(policy.Ingress, two), good("ok")), "action 9"},
		{"admin direction", cnp, func(m *pb.Policy) { m.Rules[0].Direction = 9 },
			admin(deny(policy.Ingress, two), good("ok"), deny(policy.Egress, two)), "direction 9"},
		{"admin subject", cnp, func(m *pb.Policy) { m.Rules[0].Subject = nil }, admin(deny(policy.Ingress, one), good("ok")), "subject"},
		{"admin field", cnp, func(m *pb.Policy) { newer(m) }, admin(
			policy.Rule{Action: policy.Deny, Subject: two, AnyPeer: true},
			policy.Rule{Action: policy.Deny, Name: "ok", Subject: two, AnyPeer: true}), "field"},
		{"admin priority", cnp, func(m *pb.Policy) { m.Priority = 1001 },
			&policy.Policy{Key: adminKey("a"), Tier: policy.TierNamespace, Subject: one, Isolates: both}, "priority 1001"},
		{"kind", cnp, func(m *pb.Policy) { m.Key.Kind = 9 },
			&policy.Policy{Key: kind9, Tier: policy.TierNamespace, Subject: one, Isolates: both}, "kind 8"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := fromPolicy(test.of)
			test.change(m)
			data, err := proto.Marshal(&pb.Update{Policies: []*pb.Policy{m}})
			if err != nil {
				t.Fatal(err)
			}
			var u pb.Update
			if err := proto.Unmarshal(data, &u); err != nil {
				t.Fatal(err)
			}
			var a Assembler
			if err := a.Add(&u); err != nil {
				t.Fatal(err)
			}
			got, problems := a.Update()
			if diff := cmp.Diff(&policy.Update{Policies: []*policy.Policy{test.want}}, got, compare); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
			if len(problems) != 1 || problems[0].Policy != test.want.Key || !strings.Contains(problems[0].Reason, test.reason) {
				t.Errorf("problems %v, want one that says %q", problems, test.reason)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	id := make([]byte, 16)
	pod := &pb.PodKey{Namespace: "ns", Name: "p"}
	future := &pb.Update{}
	newer(future)
	futureGroup := &pb.GroupUpdate{Id: id}
	newer(futureGroup)
	named := &pb.Key{Kind: 1, Namespace: "ns", Name: "p"}
	tests := map[string]*pb.Update{
		"field":               future,
		"field of a group":    {Groups: []*pb.GroupUpdate{futureGroup}},
		"no key":              {Policies: []*pb.Policy{{Subject: id}}},
		"no kind":             {GonePolicies: []*pb.Key{{Name: "p"}}},
		"kind too large":      {GonePolicies: []*pb.Key{{Kind: 257, Name: "p"}}},
		"no subject":          {Policies: []*pb.Policy{{Key: named}}},
		"policy twice":        {GonePolicies: []*pb.Key{named, named}},
		"group ID":            {Groups: []*pb.GroupUpdate{{Id: id[:15]}}},
		"IPv4":                {Groups: []*pb.GroupUpdate{{Id: id, AddedIpv4: id[:5]}}},
		"IPv6":                {Groups: []*pb.GroupUpdate{{Id: id, RemovedIpv6: id[:5]}}},
		"whole and removed":   {Groups: []*pb.GroupUpdate{{Id: id, Whole: true, RemovedIpv4: id[:4]}}},
		"whole, then removed": {Groups: []*pb.GroupUpdate{{Id: id, Whole: true}, {Id: id, RemovedIpv4: id[:4]}}},
		"whole twice":         {Groups: []*pb.GroupUpdate{{Id: id, Whole: true}, {Id: id, Whole: true}}},
		"group gone twice":    {GoneGroups: [][]byte{id, id}},
		"gone group's ID":     {GoneGroups: [][]byte{id[:1]}},
		"identity":            {Identities: []*pb.Identity{{}}},
		"identity twice":      {Identities: []*pb.Identity{{Id: id}}, GoneIdentities: [][]byte{id}},
		"subjects":            {Identities: []*pb.Identity{{Id: id, Subjects: id[:15]}}},
		"subjects twice":      {Identities: []*pb.Identity{{Id: id, Subjects: make([]byte, 32)}}},
		"Pod":                 {Pods: []*pb.Pod{{Identity: id}}},
		"Pod's identity":      {Pods: []*pb.Pod{{Key: pod}}},
		"Pod twice":           {GonePods: []*pb.PodKey{pod, pod}},
	}
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			var a Assembler
			if err := a.Add(m); !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v, want %v", err, ErrMalformed)
			}
		})
	}
}

// FuzzUpdate decodes anything; what is accepted comes back the same.
func FuzzUpdate(f *testing.F) {
	_ = Split(full(), 100, func(part *pb.Update, _ bool) error {
		data, err := proto.Marshal(part)
		f.Add(data)
		return err
	})
	bad := fromPolicy(full().Policies[1])
	bad.Rules[0].Action = 9
	newer(bad)
	data, err := proto.Marshal(&pb.Update{Policies: []*pb.Policy{bad}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var m pb.Update
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		var a Assembler
		if a.Add(&m) != nil {
			return
		}
		u, problems := a.Update()
		for _, p := range u.Policies {
			if p.Tier == policy.TierNamespace && p.Key.Kind != policy.NetworkPolicy && (len(p.Rules) > 0 || p.Isolates != [policy.Directions]bool{true, true}) {
				t.Errorf("%s is open", p.Key)
			}
		}
		for _, p := range problems {
			if p.Reason == "" {
				t.Errorf("%s: a problem without a reason", p.Policy)
			}
		}
		state := policy.NewState()
		state.Apply(u)
		if len(problems) > 0 {
			return // a policy of an unknown kind is not understood again
		}
		again, more, _ := roundTrip(t, u, 64)
		if diff := cmp.Diff(u, again, compare); diff != "" || more != nil {
			t.Errorf("problems %v (-first +again):\n%s", more, diff)
		}
	})
}

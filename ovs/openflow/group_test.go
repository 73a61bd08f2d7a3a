// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"testing"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

func TestGroupRoundTrip(t *testing.T) {
	for _, g := range []flow.Group{
		{ID: 1, Type: flow.GroupAll},
		{ID: 2, Type: flow.GroupSelect, Buckets: []flow.Bucket{
			{Weight: 100, Actions: []flow.Action{flow.SetReg(1, 5, 0xff), flow.Resubmit{Table: 3}}},
			{Weight: 0, WatchPort: 4, Actions: []flow.Action{flow.Output{Port: 4}}},
		}},
		{ID: 3, Type: flow.GroupFastFailover, Buckets: []flow.Bucket{{WatchGroup: 1}}},
	} {
		b, err := addGroup(t, g)(9)
		if err != nil {
			t.Fatal(err)
		}
		if n := int(binary.BigEndian.Uint16(b[2:])); n != len(b) {
			t.Errorf("%s: header says %d of %d bytes", g, n, len(b))
		}
		raws, err := parseGroupDesc(groupDesc(b))
		if err != nil || len(raws) != 1 {
			t.Fatalf("%d groups, %v", len(raws), err)
		}
		got, err := raws[0].decode()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(g.String(), got.String()); diff != "" {
			t.Errorf("(-sent +read):\n%s", diff)
		}
	}
}

// groupDesc is what a switch reports of a group that a message adds.
func groupDesc(add []byte) []byte {
	buckets := binary.BigEndian.Uint16(add[headerLen+8:])
	b := binary.BigEndian.AppendUint16(nil, uint16(groupDescLen+len(add)-groupModLen))
	b = append(b, add[headerLen+2], 0)
	b = append(b, add[headerLen+4:headerLen+8]...)
	b = binary.BigEndian.AppendUint16(b, buckets)
	return append(append(b, 0, 0, 0, 0, 0, 0), add[groupModLen:]...)
}

// TestSelection: a select group that does not say how it chooses is not ours. One
// of an earlier version is therefore modified.
func TestSelection(t *testing.T) {
	b, err := addGroup(t, flow.Group{ID: 1, Type: flow.GroupSelect, Buckets: []flow.Bucket{{Weight: 1}}})(1)
	if err != nil {
		t.Fatal(err)
	}
	raws, err := parseGroupDesc(groupDesc(b))
	if err != nil || len(raws) != 1 {
		t.Fatalf("%d groups, %v", len(raws), err)
	}
	if raws[0].sum() == 0 {
		t.Error("a group of ours is not known")
	}
	raws[0].properties = nil
	if raws[0].sum() != 0 {
		t.Error("a group that chooses in the switch's own way counts as ours")
	}
}

// addGroup makes the message that adds a group.
func addGroup(t testing.TB, g flow.Group) builder {
	t.Helper()
	e, err := newGroupEntry("x", g)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g.String(), e.group().String()); diff != "" {
		t.Errorf("(-wanted +kept):\n%s", diff)
	}
	return groupMessage(of.OFPGC_ADD, e)
}

// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/bfd"
)

// TestResumedJudge: a speaker goes on with sessions that were judged before, or went
// down while there was none.
func TestResumedJudge(t *testing.T) {
	for _, test := range []struct {
		name string
		st   bfd.Status
		lost bool
	}{
		{"up all the time", bfd.Status{State: bfd.Up, RemoteState: bfd.Up}, false},
		{"up again", bfd.Status{State: bfd.Up, RemoteState: bfd.Up, Downs: 2}, false},
		{"never up", bfd.Status{State: bfd.Down, RemoteState: bfd.Down}, false},
		{"went silent", bfd.Status{State: bfd.Down, RemoteState: bfd.Up, Downs: 1, Diagnostic: bfd.DiagDetectionExpired}, true},
		{"switched off", bfd.Status{State: bfd.Down, RemoteState: bfd.AdminDown, Downs: 1, Diagnostic: bfd.DiagNeighborSignaled}, false},
		{"made anew", bfd.Status{State: bfd.Down, RemoteState: bfd.Down, Downs: 1, Diagnostic: bfd.DiagNeighborSignaled}, false},
	} {
		test.st.Name, test.st.LocalDiscriminator = "tor", 1
		statuses := []bfd.Status{test.st}
		fresh, lost := resumed(statuses).look(statuses)
		if len(fresh) != len(lost) || (len(lost) == 1) != test.lost {
			t.Errorf("%s: fresh %v, lost %v", test.name, fresh, lost)
		}
	}
}

func TestJudge(t *testing.T) {
	is := func(s, remote bfd.State, downs uint64) bfd.Status {
		st := bfd.Status{Name: "tor", State: s, RemoteState: remote, Downs: downs, LocalDiscriminator: 1}
		if s == bfd.Down {
			st.Diagnostic = bfd.DiagDetectionExpired
		}
		return st
	}
	signaled := func(why bfd.Diagnostic, downs uint64) bfd.Status {
		st := is(bfd.Down, bfd.Down, downs)
		st.Diagnostic, st.RemoteDiagnostic = bfd.DiagNeighborSignaled, why
		return st
	}
	other := func(st bfd.Status) bfd.Status {
		st.LocalDiscriminator = 2
		return st
	}
	up, restarted := is(bfd.Up, bfd.Up, 0), other(is(bfd.Down, bfd.Down, 0))
	type step struct {
		what     string
		statuses []bfd.Status
		// fresh and lost say whether the peer is in them.
		fresh, lost bool
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"a loss and its end", []step{
			{"down at first", []bfd.Status{is(bfd.Down, bfd.Down, 0)}, false, false},
			{"up", []bfd.Status{up}, false, false},
			{"silence", []bfd.Status{is(bfd.Down, bfd.Up, 1)}, true, true},
			{"the same again", []bfd.Status{is(bfd.Down, bfd.Up, 1)}, false, true},
			{"heard, but not up", []bfd.Status{is(bfd.Init, bfd.Down, 1)}, false, true},
			{"up again", []bfd.Status{is(bfd.Up, bfd.Up, 1)}, false, false},
			{"signaled down", []bfd.Status{signaled(bfd.DiagDetectionExpired, 2)}, true, true},
		}},
		{"never up", []step{
			{"nobody there", []bfd.Status{is(bfd.Down, bfd.Down, 0)}, false, false},
			{"heard", []bfd.Status{is(bfd.Init, bfd.Down, 0)}, false, false},
			{"and silent again", []bfd.Status{is(bfd.Down, bfd.Down, 0)}, false, false},
		}},
		{"switched off at the peer", []step{
			{"up", []bfd.Status{up}, false, false},
			{"off", []bfd.Status{is(bfd.Down, bfd.AdminDown, 1)}, false, false},
			{"on, not up yet", []bfd.Status{is(bfd.Down, bfd.Down, 1)}, false, false},
			{"up", []bfd.Status{is(bfd.Up, bfd.Up, 1)}, false, false},
			{"a loss counts", []bfd.Status{is(bfd.Down, bfd.Up, 2)}, true, true},
			{"off while lost", []bfd.Status{is(bfd.Down, bfd.AdminDown, 2)}, false, false},
		}},
		{"removed at the peer", []step{
			{"up", []bfd.Status{up}, false, false},
			{"down for no reason", []bfd.Status{signaled(bfd.DiagNone, 1)}, false, false},
			{"and silent", []bfd.Status{signaled(bfd.DiagNone, 1)}, false, false},
			{"up", []bfd.Status{is(bfd.Up, bfd.Up, 1)}, false, false},
			{"down as if we had been first", []bfd.Status{signaled(bfd.DiagNeighborSignaled, 2)}, false, false},
			{"up", []bfd.Status{is(bfd.Up, bfd.Up, 2)}, false, false},
			{"down because its path is", []bfd.Status{signaled(bfd.Diagnostic(5), 3)}, true, true},
			{"and agrees that we are down", []bfd.Status{signaled(bfd.DiagNeighborSignaled, 3)}, false, true},
		}},
		{"begun anew at the peer while lost", []step{
			{"up", []bfd.Status{up}, false, false},
			{"lost", []bfd.Status{is(bfd.Down, bfd.Up, 1)}, true, true},
			{"heard", []bfd.Status{is(bfd.Down, bfd.Down, 1)}, false, true},
			{"up", []bfd.Status{is(bfd.Up, bfd.Up, 1)}, false, false},
		}},
		{"lost and back unseen", []step{
			{"up", []bfd.Status{up}, false, false},
			{"up after a loss", []bfd.Status{is(bfd.Up, bfd.Up, 1)}, true, false},
			{"up", []bfd.Status{is(bfd.Up, bfd.Up, 1)}, false, false},
		}},
		{"taken out of the configuration", []step{
			{"up", []bfd.Status{up}, false, false},
			{"lost", []bfd.Status{is(bfd.Down, bfd.Up, 1)}, true, true},
			{"gone", nil, false, false},
			{"begun anew", []bfd.Status{restarted}, false, false},
		}},
		{"another session", []step{
			{"up", []bfd.Status{up}, false, false},
			{"lost", []bfd.Status{is(bfd.Down, bfd.Up, 3)}, true, true},
			{"of another address", []bfd.Status{restarted}, false, false},
			{"its own losses count", []bfd.Status{other(is(bfd.Down, bfd.Up, 1))}, true, true},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := judge{}
			for _, s := range test.steps {
				fresh, lost := j.look(s.statuses)
				_, isFresh := fresh["tor"]
				_, isLost := lost["tor"]
				if isFresh != s.fresh || isLost != s.lost {
					t.Errorf("%s: lost just now: %v, lost: %v; want %v, %v", s.what, isFresh, isLost, s.fresh, s.lost)
				}
			}
		})
	}
}

func TestJudgeTellsPeersApart(t *testing.T) {
	j := judge{}
	a := bfd.Status{Name: "a", State: bfd.Up, RemoteState: bfd.Up, LocalDiscriminator: 1}
	b := bfd.Status{Name: "b", State: bfd.Up, RemoteState: bfd.Up, LocalDiscriminator: 2}
	j.look([]bfd.Status{a, b})
	b.State, b.Diagnostic, b.RemoteDiagnostic, b.Downs = bfd.Down, bfd.DiagNeighborSignaled, bfd.DiagDetectionExpired, 1
	fresh, lost := j.look([]bfd.Status{a, b})
	want := map[string]string{"b": "BFD lost the path to the peer, says the peer: control detection time expired"}
	if diff := cmp.Diff([]map[string]string{want, want}, []map[string]string{fresh, lost}); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
	b.State, b.Diagnostic, b.RemoteDiagnostic, b.Downs = bfd.Up, bfd.DiagNone, bfd.DiagNone, 2
	fresh, lost = j.look([]bfd.Status{a, b})
	want = map[string]string{"b": "BFD lost the path to the peer for a moment"}
	if diff := cmp.Diff([]map[string]string{want, {}}, []map[string]string{fresh, lost}); diff != "" {
		t.Errorf("lost and back (-want +got):\n%s", diff)
	}
}

var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestSessions(t *testing.T) {
	addr := netip.MustParseAddr
	fast := &routing.BFD{MinTx: 50 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 5}
	far := &routing.BFD{Multihop: true}
	got := sessions([]routing.Peer{
		{Name: "without", Address: addr("192.0.2.1")},
		{Name: "near", Address: addr("192.0.2.2"), SourceAddress: addr("192.0.2.9"), GTSMHops: 1, BFD: fast},
		{Name: "multihop", Address: addr("2001:db8::1"), MultihopTTL: 4, BFD: far},
		{Name: "secured", Address: addr("198.51.100.1"), GTSMHops: 3, BFD: far},
	})
	want := []bfd.Session{
		{Name: "near", Local: addr("192.0.2.9"), Peer: addr("192.0.2.2"),
			DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 100 * time.Millisecond, DetectMult: 5},
		{Name: "multihop", Peer: addr("2001:db8::1"), Multihop: true},
		{Name: "secured", Peer: addr("198.51.100.1"), Multihop: true, MinTTL: 253},
	}
	if diff := cmp.Diff(want, got, compareAddr); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
}

func TestBegin(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	with := &routing.BFD{}
	established := []routing.SessionStatus{{Peer: "tor", Address: a, State: routing.SessionEstablished}}
	for _, test := range []struct {
		name     string
		peer     routing.Peer
		before   map[string]netip.Addr
		statuses []routing.SessionStatus
		want     map[string]netip.Addr
	}{
		{"no session yet", routing.Peer{Name: "tor", Address: a, BFD: with}, nil,
			[]routing.SessionStatus{{Peer: "tor", Address: a, State: routing.SessionOpenConfirm}}, nil},
		{"session up", routing.Peer{Name: "tor", Address: a, BFD: with}, nil, established, map[string]netip.Addr{"tor": a}},
		{"session down again", routing.Peer{Name: "tor", Address: a, BFD: with}, map[string]netip.Addr{"tor": a},
			[]routing.SessionStatus{{Peer: "tor", Address: a, State: routing.SessionActive}}, map[string]netip.Addr{"tor": a}},
		{"not wanted", routing.Peer{Name: "tor", Address: a}, map[string]netip.Addr{"tor": a}, established, nil},
		{"another address", routing.Peer{Name: "tor", Address: b, BFD: with}, map[string]netip.Addr{"tor": a}, established, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := begin([]routing.Peer{test.peer}, test.before, test.statuses)
			if !maps.Equal(test.want, got) {
				t.Errorf("begun = %v, want %v", got, test.want)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	since := time.Unix(1000, 0)
	got := merge(
		[]routing.SessionStatus{{Peer: "a", State: routing.SessionEstablished}, {Peer: "b"}, {Peer: "c"}},
		[]bfd.Status{
			{Name: "a", State: bfd.Down, Diagnostic: bfd.DiagDetectionExpired, Since: since, RemoteState: bfd.Up, Downs: 2, TxInterval: time.Second, Error: "no route"},
			{Name: "b", State: bfd.Up, RemoteState: bfd.Up, DetectionTime: 150 * time.Millisecond},
			{Name: "gone"},
		},
		map[string]string{"a": "lost"})
	want := []routing.SessionStatus{
		{Peer: "a", State: routing.SessionEstablished, BFD: &routing.BFDStatus{
			State: "Down", RemoteState: "Up", Diagnostic: "control detection time expired", Since: since,
			Interval: time.Second, Downs: 2, Suspended: true, Error: "no route",
		}},
		{Peer: "b", BFD: &routing.BFDStatus{State: routing.BFDUp, RemoteState: "Up", DetectionTime: 150 * time.Millisecond}},
		{Peer: "c"},
	}
	if diff := cmp.Diff(want, got, compareAddr); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
}

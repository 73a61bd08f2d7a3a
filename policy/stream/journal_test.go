// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/policy"
)

// step is the update number n, from 1, of a node's history. Each leads from the
// one before only.
func step(n int) *policy.Update {
	if n == 1 {
		return basic()
	}
	return &policy.Update{
		Policies:     []*policy.Policy{policyOf(10+n%3, n)},
		GonePolicies: []policy.Key{policyOf(10+(n+1)%3, n).Key},
		Groups:       []policy.GroupUpdate{{ID: id(1), Added: []netip.Addr{address(100 + n)}, Removed: []netip.Addr{address(99 + n)}}},
		Pods:         []policy.Pod{{Key: policy.PodKey{Namespace: "ns", Name: fmt.Sprint("p", n%4)}, UID: fmt.Sprint(n), Identity: id(5)}},
	}
}

// after is the State after update n; n 0 is none.
func after(n int) *policy.State {
	s := policy.NewState()
	for i := 1; i <= n; i++ {
		s.Apply(step(i))
	}
	return s
}

func position(n int) policy.Position { return policy.Position{"pods": uint64(n)} }

func testDisk(t testing.TB) *Disk {
	t.Helper()
	return &Disk{Path: filepath.Join(t.TempDir(), "policy"), Node: "n1"}
}

// enforce appends updates that are then enforced.
func enforce(t testing.TB, j *journal, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := j.append(step(n), position(n)); err != nil {
			t.Fatal(err)
		}
		j.enforced()
	}
}

// snapshot does what a save does before it writes.
func snapshot(t testing.TB, j *journal, n int) (data []byte, needed uint64) {
	t.Helper()
	data, needed, err := j.snapshot(after(n), position(n))
	if err != nil {
		t.Fatal(err)
	}
	return data, needed
}

// verify loads what must be the State after update n.
func verify(t testing.TB, d *Disk, n int) (*stored, error) {
	t.Helper()
	s, err := d.load()
	if s == nil {
		if n != 0 {
			t.Errorf("nothing stored, want update %d: %v", n, err)
		}
		return &stored{state: policy.NewState()}, err
	}
	if s.sequence != uint64(n) || !reflect.DeepEqual(s.position, position(n)) || !same(s.state, after(n)) {
		t.Errorf("update %d at position %v, want %d, %v (-want +loaded):\n%s", s.sequence, s.position, n, err, cmp.Diff(after(n), s.state, compare))
	}
	return s, err
}

func same(a, b *policy.State) bool { return reflect.DeepEqual(haveOf("", a, nil), haveOf("", b, nil)) }

// goOn has another process go on after update n.
func goOn(t testing.TB, d *Disk, s *stored, n int) {
	t.Helper()
	j := newJournal(d)
	j.resume(s)
	enforce(t, j, n+1, n+2)
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	_, _ = verify(t, d, n+2)
}

func files(t testing.TB, d *Disk) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(d.Path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// damaged writes a log of four updates and hands each damaged copy of it to f,
// with the number of the last update before the damage; once without a snapshot
// and once with one of update 2.
func damaged(t *testing.T, damage func(log []byte, at int) []byte, f func(d *Disk, at, last int, boundary bool)) {
	const updates = 4
	d := testDisk(t)
	j, ends := newJournal(d), []int{0}
	for n := 1; n <= updates; n++ {
		enforce(t, j, n, n)
		ends = append(ends, int(j.size))
	}
	log, err := os.ReadFile(d.logPath(1))
	if err != nil || len(log) != ends[updates] {
		t.Fatalf("%d bytes, %v", len(log), err)
	}
	second, err := d.encode(after(2), position(2), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []int{0, 2} {
		for at := range log {
			d := testDisk(t)
			if base > 0 {
				if err := os.WriteFile(d.Path, second, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(d.logPath(1), damage(log, at), 0o600); err != nil {
				t.Fatal(err)
			}
			last, boundary := slices.BinarySearch(ends, at)
			if !boundary {
				last--
			}
			f(d, at, max(base, last), boundary || at == logHeader)
			if t.Failed() {
				t.Fatalf("snapshot of %d, damage at byte %d of %d, records end at %v", base, at, len(log), ends)
			}
		}
	}
}

// TestKilledAnywhere ends a log at each of its bytes.
func TestKilledAnywhere(t *testing.T) {
	cut := func(log []byte, at int) []byte { return log[:at] }
	damaged(t, cut, func(d *Disk, at, last int, boundary bool) {
		s, err := verify(t, d, last)
		if boundary != (err == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v", err)
		}
		goOn(t, d, s, last)
	})
}

// TestFlippedAnywhere changes each byte of a log.
func TestFlippedAnywhere(t *testing.T) {
	flip := func(log []byte, at int) []byte {
		log = slices.Clone(log)
		log[at] ^= 0x10
		return log
	}
	damaged(t, flip, func(d *Disk, at, last int, _ bool) {
		s, err := verify(t, d, last)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v", err)
		}
		goOn(t, d, s, last)
	})
}

// TestKilledWhileSaving stops between the steps of a snapshot.
func TestKilledWhileSaving(t *testing.T) {
	d := testDisk(t)
	j := newJournal(d)
	check := func(n int, want ...string) {
		t.Helper()
		if _, err := verify(t, d, n); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, files(t, d)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
	first, fourth, sixth := "policy.log.00000000000000000001", "policy.log.00000000000000000004", "policy.log.00000000000000000006"
	enforce(t, j, 1, 3)
	check(3, first)
	data, needed := snapshot(t, j, 3)
	check(3, first)
	enforce(t, j, 4, 5)
	check(5, first, fourth)
	if err := os.WriteFile(d.Path+".tmp123", data[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	check(5, first, fourth)
	if err := d.write(data); err != nil {
		t.Fatal(err)
	}
	check(5, "policy", first, fourth)
	if err := d.removeLogs(needed); err != nil {
		t.Fatal(err)
	}
	check(5, "policy", fourth)
	data, needed = snapshot(t, j, 5)
	enforce(t, j, 6, 6)
	if err := errors.Join(d.write(data), d.removeLogs(needed)); err != nil {
		t.Fatal(err)
	}
	check(6, "policy", sixth)
	data, needed = snapshot(t, j, 6)
	if err := errors.Join(d.write(data), d.removeLogs(needed)); err != nil {
		t.Fatal(err)
	}
	check(6, "policy")
}

// TestLogsThatDoNotFollow has logs of which some are not to be used.
func TestLogsThatDoNotFollow(t *testing.T) {
	// three makes logs that begin with 1, 4 and 7, up to 9.
	three := func(t *testing.T, d *Disk) {
		j := newJournal(d)
		for n := 1; n < 9; n += 3 {
			enforce(t, j, n, n+2)
			snapshot(t, j, n+2)
		}
	}
	change := func(first uint64, edit func([]byte) []byte) func(*testing.T, *Disk) {
		return func(t *testing.T, d *Disk) {
			data, err := os.ReadFile(d.logPath(first))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(d.logPath(first), edit(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name    string
		edit    func(*testing.T, *Disk)
		last    int
		good    bool
		corrupt bool
	}{
		{"all", func(*testing.T, *Disk) {}, 9, true, false},
		{"one is empty", change(7, func([]byte) []byte { return nil }), 6, true, false},
		{"one is missing", func(t *testing.T, d *Disk) { _ = os.Remove(d.logPath(4)) }, 3, false, true},
		{"the first is torn", change(1, func(b []byte) []byte { return b[:len(b)-1] }), 2, false, true},
		{"the last is torn", change(7, func(b []byte) []byte { return b[:len(b)-1] }), 8, false, false},
		{"other version", change(7, func(b []byte) []byte { b[logHeader-1]++; return b }), 6, false, true},
		{"another file", change(1, func([]byte) []byte { return []byte("hello") }), 0, false, true},
		{"another node", func(_ *testing.T, d *Disk) { d.Node = "n2" }, 0, false, true},
		{"a group that is not known", func(t *testing.T, d *Disk) {
			j := newJournal(d)
			j.sequence = 9
			_ = j.append(&policy.Update{Groups: []policy.GroupUpdate{group(8, false, 1)}}, position(10))
		}, 9, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := testDisk(t)
			three(t, d)
			test.edit(t, d)
			s, err := verify(t, d, test.last)
			if (err == nil) != test.good || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			if aside := slices.Contains(files(t, d), "policy.log.corrupt"); aside != test.corrupt {
				t.Errorf("set aside: %t", aside)
			}
			goOn(t, d, s, test.last)
		})
	}
}

// TestFailedUpdate logs updates that are not enforced.
func TestFailedUpdate(t *testing.T) {
	d := testDisk(t)
	j := newJournal(d)
	enforce(t, j, 1, 2)
	failed := &policy.Update{Policies: []*policy.Policy{policyOf(77, 1)}}
	if err := j.append(failed, position(3)); err != nil {
		t.Fatal(err)
	}
	want := after(2)
	want.Apply(failed)
	if s, err := d.load(); err != nil || !same(s.state, want) {
		t.Errorf("an update that is to be enforced is not stored: %v", err)
	}
	// The next comes in the same log, or after a snapshot that was not written.
	snapshot(t, j, 2)
	enforce(t, j, 3, 3)
	if _, err := verify(t, d, 3); err != nil {
		t.Error(err)
	}
	if err := j.append(failed, position(4)); err != nil {
		t.Fatal(err)
	}
	enforce(t, j, 4, 5)
	if _, err := verify(t, d, 5); err != nil {
		t.Error(err)
	}
}

// sealed makes a log's checksums right.
func sealed(log []byte) []byte {
	log = slices.Clone(log)
	for at := logHeader; len(log)-at >= frameHeader; {
		length := uint64(binary.BigEndian.Uint32(log[at:]))
		if length > uint64(len(log)-at-frameHeader) {
			break
		}
		next := at + frameHeader + int(length)
		binary.BigEndian.PutUint32(log[at+4:], checksum(log[at:at+4], log[at+frameHeader:next]))
		at = next
	}
	return log
}

// FuzzLog reads anything, as it is and with checksums that are right.
func FuzzLog(f *testing.F) {
	d := testDisk(f)
	j := newJournal(d)
	enforce(f, j, 1, 3)
	_ = j.append(step(9), position(4))
	enforce(f, j, 4, 4)
	log, err := os.ReadFile(d.logPath(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log)
	f.Add(log[:len(log)-1])
	f.Add(newLog())
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &Disk{Node: "n1"}
		read := func(data []byte) (*stored, []byte, error) {
			r, again := &replay{stored: &stored{state: policy.NewState(), problems: map[policy.Key]string{}}}, newLog()
			err := d.readLog(data, func(next *record) error {
				if err := r.add(next); err != nil {
					return err
				}
				frame, err := d.encodeRecord(next)
				again = append(again, frame...)
				return err
			})
			return r.stored, again, errors.Join(err, r.flush())
		}
		for _, data := range [][]byte{data, sealed(data)} {
			first, again, firstErr := read(data)
			second, _, err := read(again)
			if err != nil && firstErr == nil {
				t.Errorf("what was read cannot be read again: %v", err)
			}
			if diff := cmp.Diff(first.state, second.state, compare); diff != "" || first.sequence != second.sequence {
				t.Errorf("update %d and %d (-first +second):\n%s", first.sequence, second.sequence, diff)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
)

func basicState() *policy.State {
	s := policy.NewState()
	s.Apply(basic())
	return s
}

func stateFile(t testing.TB, node string) []byte {
	t.Helper()
	data, err := (&Disk{Node: node}).encode(basicState(), policy.Position{"pods": 7}, 3)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDisk(t *testing.T) {
	d := &Disk{Path: filepath.Join(t.TempDir(), "policy"), Node: "n1"}
	if s, err := d.load(); s != nil || err != nil {
		t.Fatalf("no file: %v, %v", s, err)
	}
	for range 2 {
		if err := d.write(stateFile(t, "n1")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := d.load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(basicState(), s.state, compare); diff != "" || s.position["pods"] != 7 {
		t.Errorf("position %v (-stored +loaded):\n%s", s.position, diff)
	}
	if left, err := os.ReadDir(filepath.Dir(d.Path)); err != nil || len(left) != 1 {
		t.Errorf("%d files, %v", len(left), err)
	}
	if err := (&Disk{Path: filepath.Join(t.TempDir(), "none", "policy")}).write(nil); err == nil {
		t.Error("written to a directory that does not exist")
	}
}

func TestDiskCorrupt(t *testing.T) {
	good := stateFile(t, "n1")
	change := func(at int) []byte {
		data := append([]byte(nil), good...)
		data[(at+len(data))%len(data)] ^= 1
		return data
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "no such file"},
		{"short", good[:20], "no such file"},
		{"magic", change(0), "no such file"},
		{"version", change(len(diskMagic) + 3), "version 0, not 1"},
		{"cut", good[:len(good)-1], "bytes of"},
		{"longer", append(append([]byte(nil), good...), 0), "bytes of"},
		{"bit", change(-1), "checksum"},
		{"sum", change(diskHeader - 1), "checksum"},
		{"other node", stateFile(t, "n2"), `node "n2", not "n1"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := &Disk{Path: filepath.Join(t.TempDir(), "policy"), Node: "n1"}
			if err := os.WriteFile(d.Path, test.data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := d.load()
			if s != nil || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			aside, err := os.ReadFile(d.Path + ".corrupt")
			if err != nil || string(aside) != string(test.data) {
				t.Errorf("not set aside: %v", err)
			}
			if s, err := d.load(); s != nil || err != nil {
				t.Errorf("the second time: %v, %v", s, err)
			}
		})
	}
}

// TestStartsFromDisk has an agent that restarts, at first without a controller.
func TestStartsFromDisk(t *testing.T) {
	a, folder := authority(t), t.TempDir()
	r := startReplica(t, a)
	r.publish(map[string]*policy.Update{"n1": basic()})
	g := startAgent(t, "n1", folder, a.Bundle(), r.address)
	converge(t, g, r, "n1")
	g.stop() // stores what it has
	before := r.sent()
	g = startAgent(t, "n1", folder, a.Bundle())
	eventually(t, "enforcement", func() bool { s := g.Status(); return s.Known && !s.Connected })
	g.mu.Lock()
	if diff := cmp.Diff(basicState(), g.state, compare); diff != "" {
		t.Errorf("(-stored +enforced):\n%s", diff)
	}
	g.mu.Unlock()
	g.endpoints.set(r.address)
	converge(t, g, r, "n1")
	if sent := r.sent() - before; sent > 100 || len(g.updates) != 1 {
		t.Errorf("%f bytes in %d updates although nothing changed", sent, len(g.updates))
	}
	g.stop()
	// A corrupt file means that nothing is known.
	file := filepath.Join(folder, "policy")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	g = startAgent(t, "n1", folder, a.Bundle(), r.address)
	converge(t, g, r, "n1")
	if _, err := os.Stat(file + ".corrupt"); err != nil {
		t.Error(err)
	}
}

// FuzzDisk loads anything.
func FuzzDisk(f *testing.F) {
	good := stateFile(f, "n1")
	f.Add(good)
	f.Add(good[:diskHeader])
	f.Add([]byte(diskMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &Disk{Node: "n1"}
		s, err := d.decode(data)
		if err != nil {
			return
		}
		again, err := d.encode(s.state, s.position, s.sequence)
		if err != nil {
			t.Fatal(err)
		}
		second, err := d.decode(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.state, second.state, compare); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
}

// FuzzHave takes what an agent says that it has.
func FuzzHave(f *testing.F) {
	f.Add([]byte{})
	for _, m := range haveOf("n1", basicState(), policy.Position{"pods": 1}).messages() {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m pb.Have
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		w := newHave()
		if w.add(&m) != nil {
			return
		}
		again := newHave()
		for _, m := range w.messages() {
			if err := again.add(m); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(w, again, cmp.AllowUnexported(have{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
	})
}

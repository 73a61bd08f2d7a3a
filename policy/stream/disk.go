// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

// ErrCorrupt is what the error about a file wraps that cannot be used, or not all
// of it. A file of no use was set aside under a name with ".corrupt".
var ErrCorrupt = errors.New("the stored policy cannot be used")

// The snapshot: magic, version (4 bytes), the payload's length (8 bytes), its
// SHA-256, and the payload, a message Stored. Numbers are big endian.
const (
	diskMagic   = "waymark policy\n"
	diskVersion = 1
	diskHeader  = len(diskMagic) + 4 + 8 + sha256.Size
	// temporary is the end of the names of snapshots that are not whole yet.
	temporary = ".tmp*"
)

// Disk is where a node keeps what it enforces: a file with a whole State, the
// snapshot, and logs of the updates that came after it; see journal.
type Disk struct {
	// Path of the snapshot; its directory exists. The logs are beside it.
	Path string
	// Node is whose policy it is; the files of another node are not used.
	Node string
}

// stored is what the files have.
type stored struct {
	state    *policy.State
	position policy.Position
	problems map[policy.Key]string
	// sequence is the number of updates that led there.
	sequence uint64
	// size is that of the snapshot in bytes, 0 without one.
	size int64
	// logged says that not all of it is in the snapshot.
	logged bool
}

// load reads what is stored, which is nil without files. What cannot be used of
// them is set aside or ignored, and the error says so; what is returned beside it
// counts nevertheless.
func (d *Disk) load() (*stored, error) {
	s, err := d.loadSnapshot()
	known := s != nil
	if !known {
		s = &stored{state: policy.NewState(), problems: map[policy.Key]string{}}
	}
	err = errors.Join(err, d.replay(s), d.tidy())
	if !known && !s.logged {
		return nil, err
	}
	return s, err
}

// tidy removes what writes left that were killed.
func (d *Disk) tidy() error {
	left, err := filepath.Glob(d.Path + temporary)
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// loadSnapshot reads the snapshot; nil and no error if there is none.
func (d *Disk) loadSnapshot() (*stored, error) {
	data, err := os.ReadFile(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored policy: %w", err)
	}
	s, err := d.decode(data)
	if err == nil {
		return s, nil
	}
	err = fmt.Errorf("%w: %s, set aside as %s.corrupt: %w", ErrCorrupt, d.Path, d.Path, err)
	return nil, errors.Join(err, os.Rename(d.Path, d.Path+".corrupt"))
}

func (d *Disk) decode(data []byte) (*stored, error) {
	if len(data) < diskHeader || string(data[:len(diskMagic)]) != diskMagic {
		return nil, errors.New("it is no such file")
	}
	rest := data[len(diskMagic):]
	if version := binary.BigEndian.Uint32(rest); version != diskVersion {
		return nil, fmt.Errorf("it has version %d, not %d", version, diskVersion)
	}
	length, sum, payload := binary.BigEndian.Uint64(rest[4:]), rest[12:12+sha256.Size], rest[12+sha256.Size:]
	if length != uint64(len(payload)) {
		return nil, fmt.Errorf("it has %d bytes of %d", len(payload), length)
	}
	if want := sha256.Sum256(payload); !bytes.Equal(sum, want[:]) {
		return nil, errors.New("its checksum is wrong")
	}
	r, err := d.decodePayload(payload)
	if err != nil {
		return nil, err
	}
	s := &stored{state: policy.NewState(), problems: map[policy.Key]string{}, size: int64(len(data))}
	if err := s.apply(r); err != nil {
		return nil, err
	}
	return s, nil
}

// record is one update as it is stored; that of a snapshot is a whole State.
type record struct {
	update   *policy.Update
	problems []wire.Problem
	position policy.Position
	sequence uint64
}

// apply makes the record part of what is stored.
func (s *stored) apply(r *record) error {
	if err := check(s.state, r.update); err != nil {
		return err
	}
	s.state.Apply(r.update)
	note(s.problems, r.update, r.problems)
	s.position, s.sequence = r.position, r.sequence
	return nil
}

func (d *Disk) decodePayload(payload []byte) (*record, error) {
	var m pb.Stored
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	if m.GetNode() != d.Node {
		return nil, fmt.Errorf("it is that of node %q, not %q", m.GetNode(), d.Node)
	}
	var a wire.Assembler
	if err := a.Add(m.GetState()); err != nil {
		return nil, err
	}
	u, problems := a.Update()
	return &record{update: u, problems: problems, position: m.GetPosition(), sequence: m.GetSequence()}, nil
}

func (d *Disk) encodePayload(r *record) ([]byte, error) {
	m := &pb.Stored{Node: d.Node, Position: r.position, Sequence: r.sequence}
	err := wire.Split(r.update, math.MaxInt, func(part *pb.Update, _ bool) error {
		m.State = part
		return nil
	})
	if err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the policy to store: %w", err)
	}
	return payload, nil
}

// encode returns the snapshot's contents.
func (d *Disk) encode(state *policy.State, position policy.Position, sequence uint64) ([]byte, error) {
	payload, err := d.encodePayload(&record{update: state.Whole(), position: position, sequence: sequence})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	data := make([]byte, 0, diskHeader+len(payload))
	data = append(data, diskMagic...)
	data = binary.BigEndian.AppendUint32(data, diskVersion)
	data = binary.BigEndian.AppendUint64(data, uint64(len(payload)))
	data = append(data, sum[:]...)
	return append(data, payload...), nil
}

// write replaces the file, so that a crash leaves the old or the new one.
func (d *Disk) write(data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(d.Path), filepath.Base(d.Path)+temporary)
	if err != nil {
		return fmt.Errorf("store the policy: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("store the policy: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), d.Path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(d.Path))
	if err != nil {
		return fmt.Errorf("store the policy: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

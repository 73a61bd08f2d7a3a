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

// ErrCorrupt is what the error about a file wraps that cannot be used. The file
// was set aside under its name with ".corrupt".
var ErrCorrupt = errors.New("the stored policy cannot be used")

// The file: magic, version (4 bytes), the payload's length (8 bytes), its
// SHA-256, and the payload, a message Stored. Numbers are big endian.
const (
	diskMagic   = "waymark policy\n"
	diskVersion = 1
	diskHeader  = len(diskMagic) + 4 + 8 + sha256.Size
)

// Disk is a file with what a node enforces.
type Disk struct {
	// Path of the file; its directory exists.
	Path string
	// Node is whose policy it is; the file of another node is not used.
	Node string
}

// stored is what the file has.
type stored struct {
	state    *policy.State
	position policy.Position
	problems []wire.Problem
}

// load reads the file. Without one it returns nil and no error; a file that
// cannot be used is set aside.
func (d *Disk) load() (*stored, error) {
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
	s := &stored{state: policy.NewState(), position: m.GetPosition(), problems: problems}
	if err := check(s.state, u); err != nil {
		return nil, err
	}
	s.state.Apply(u)
	return s, nil
}

// encode returns the file's contents.
func (d *Disk) encode(state *policy.State, position policy.Position) ([]byte, error) {
	m := &pb.Stored{Node: d.Node, Position: position}
	err := wire.Split(state.Whole(), math.MaxInt, func(part *pb.Update, _ bool) error {
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
	f, err := os.CreateTemp(filepath.Dir(d.Path), filepath.Base(d.Path)+".tmp*")
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

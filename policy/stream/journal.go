// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"

	"github.com/waymark-net/waymark/policy"
)

// A log: magic and version (4 bytes), then records, each with its payload's
// length (4 bytes), the CRC-32C of length and payload, and the payload, a message
// Stored. Numbers are big endian.
const (
	logMagic    = "waymark policy log\n"
	logVersion  = 1
	logHeader   = len(logMagic) + 4
	frameHeader = 4 + 4
	// logSuffix and the first record's sequence in 20 digits make a log's name
	// from that of the snapshot.
	logSuffix = ".log."
)

// Sizes of logs in bytes.
const (
	// minLog is what a log may have before it makes a snapshot worth while,
	// however small that would be.
	minLog = 1 << 20
	// maxLogs is how many times that size a log may reach when no snapshot can be
	// written.
	maxLogs = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal writes down each update before it is enforced, so that an agent that
// is killed knows at its next start whatever it has enforced, without a
// controller. A record is written by one write(2) and not synced: the death of
// the process takes nothing from what the kernel has. A machine that crashes may
// lose the end of a log, but then its switch is empty and all its Pods start
// anew: what is lost means that policy is older until a controller answers, the
// same as for a machine that was off that long.
//
// A snapshot makes the logs before it superfluous; the next record begins a new
// log. Records are numbered. Reading takes those that the snapshot has not, each
// of which has the next number. A record with the same number as the one before
// replaces it: that one could not be enforced, and the update that came then
// leads from the same State.
type journal struct {
	disk *Disk
	// file is the log that is written, nil before its first record, first that
	// record's sequence, size its length.
	file  *os.File
	first uint64
	size  int64
	// sequence is that of the State: of the last update that was enforced.
	sequence uint64
	// limit is what the log may have before a snapshot is due.
	limit int64
	// gap says that an update is in no log. What would follow it has to wait for
	// the next snapshot, which begins a new log.
	gap bool
	// stuck says that the last snapshot could not be written.
	stuck bool
}

func newJournal(d *Disk) *journal { return &journal{disk: d, limit: minLog} }

// resume goes on after what was loaded.
func (j *journal) resume(s *stored) {
	j.sequence, j.limit = s.sequence, max(minLog, s.size)
}

// full reports whether a snapshot is due before its time.
func (j *journal) full() bool { return j.gap || j.size > j.limit }

// enforced says that the update that was appended last is part of the State.
func (j *journal) enforced() { j.sequence++ }

// append writes down an update of the State. After an error nothing is appended
// until there is a snapshot; then it returns nil.
func (j *journal) append(u *policy.Update, position policy.Position) error {
	if j.gap {
		return nil
	}
	err := j.write(&record{update: u, position: position, sequence: j.sequence + 1})
	if err != nil {
		j.gap = true
		return fmt.Errorf("log a policy update: %w", err)
	}
	return nil
}

func (j *journal) write(r *record) error {
	frame, err := j.disk.encodeRecord(r)
	if err != nil {
		return err
	}
	if j.stuck && j.size+int64(len(frame)) > maxLogs*j.limit {
		return fmt.Errorf("the log has %d bytes and no snapshot can be written", j.size)
	}
	if j.file == nil {
		// A log of that name has nothing but tries of the same record.
		file, err := os.OpenFile(j.disk.logPath(r.sequence), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		j.file, j.first, j.size = file, r.sequence, 0
		frame = append(newLog(), frame...)
	}
	n, err := j.file.Write(frame)
	j.size += int64(n)
	return err
}

// snapshot returns a snapshot of the State and the least first sequence of the
// logs that are still needed once it is written.
func (j *journal) snapshot(state *policy.State, position policy.Position) (data []byte, needed uint64, err error) {
	// While snapshots fail, one log is better than a growing number of them.
	if j.gap || !j.stuck {
		err = j.close()
	}
	needed = j.sequence + 1
	if j.file != nil {
		needed = j.first
	}
	data, encodeErr := j.disk.encode(state, position, j.sequence)
	return data, needed, errors.Join(err, encodeErr)
}

// close ends the log that is written; the next record begins a new one.
func (j *journal) close() error {
	j.gap = false
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file, j.size = nil, 0
	return err
}

// written says what came of a snapshot.
func (j *journal) written(size int, err error) {
	j.stuck = err != nil
	if err == nil {
		j.limit = max(minLog, int64(size))
	}
}

func newLog() []byte { return binary.BigEndian.AppendUint32([]byte(logMagic), logVersion) }

// encodeRecord returns a record as it is in a log.
func (d *Disk) encodeRecord(r *record) ([]byte, error) {
	payload, err := d.encodePayload(r)
	if err != nil {
		return nil, err
	}
	if len(payload) > math.MaxInt32 {
		return nil, fmt.Errorf("an update of %d bytes, must not have more than %d", len(payload), math.MaxInt32)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, frameHeader+len(payload)), uint32(len(payload)))
	frame = binary.BigEndian.AppendUint32(frame, checksum(frame, payload))
	return append(frame, payload...), nil
}

func checksum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload)
}

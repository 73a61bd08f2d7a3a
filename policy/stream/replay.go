// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

func (d *Disk) logPath(first uint64) string {
	return fmt.Sprintf("%s%s%020d", d.Path, logSuffix, first)
}

// logs returns the first sequences of the logs that there are, in order.
func (d *Disk) logs() ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Dir(d.Path))
	if err != nil {
		return nil, fmt.Errorf("find the logs of the stored policy: %w", err)
	}
	var list []uint64
	for _, e := range entries {
		digits, found := strings.CutPrefix(e.Name(), filepath.Base(d.Path)+logSuffix)
		if first, err := strconv.ParseUint(digits, 10, 64); found && err == nil && e.Name() == filepath.Base(d.logPath(first)) {
			list = append(list, first)
		}
	}
	slices.Sort(list)
	return list, nil
}

// removeLogs removes the logs that begin before the first that is needed.
func (d *Disk) removeLogs(needed uint64) error {
	list, err := d.logs()
	for _, first := range list {
		if first < needed {
			err = errors.Join(err, os.Remove(d.logPath(first)))
		}
	}
	return err
}

// replay adds the logs to what the snapshot has. A record that cannot be used
// ends its log; another log goes on only with the record that follows. A log that
// has nothing of use is set aside, as what is logged next may take its place.
func (d *Disk) replay(s *stored) error {
	list, err := d.logs()
	r := &replay{stored: s, base: s.sequence}
	for _, first := range list {
		path := d.logPath(first)
		data, readErr := os.ReadFile(path)
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("read a log of the stored policy: %w", readErr))
			continue
		}
		before := r.used
		logErr := d.readLog(data, r.add)
		if logErr == nil {
			continue
		}
		used := r.used - before
		err = errors.Join(err, fmt.Errorf("%w: %s, from which %d updates are used: %w", ErrCorrupt, path, used, logErr))
		if used == 0 {
			err = errors.Join(err, os.Rename(path, d.Path+logSuffix+"corrupt"))
		}
	}
	return errors.Join(err, r.flush())
}

// replay puts records together, in order.
type replay struct {
	stored *stored
	// base is the snapshot's sequence.
	base uint64
	// last was read but is not applied: the next may replace it.
	last *record
	// used counts records that were not refused.
	used int
}

// add takes the next record.
func (r *replay) add(next *record) error {
	switch want := r.stored.sequence + 1; {
	case next.sequence <= r.base:
		// The snapshot has it.
		r.used++
		return nil
	case r.last == nil && next.sequence == want, r.last != nil && next.sequence == r.last.sequence:
	case r.last != nil && next.sequence == want+1:
		if err := r.flush(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("update %d does not follow on update %d", next.sequence, r.stored.sequence)
	}
	r.last = next
	r.used++
	return nil
}

// flush applies the last record.
func (r *replay) flush() error {
	last := r.last
	if r.last = nil; last == nil {
		return nil
	}
	if err := r.stored.apply(last); err != nil {
		return fmt.Errorf("%w: update %d: %w", ErrCorrupt, last.sequence, err)
	}
	r.stored.logged = true
	return nil
}

// readLog hands on a log's records, in order. It stops at the first error, that
// of add included. A log that is empty has none.
func (d *Disk) readLog(data []byte, add func(*record) error) error {
	if len(data) == 0 {
		return nil
	}
	if len(data) < logHeader || string(data[:len(logMagic)]) != logMagic {
		return errors.New("it is no such file")
	}
	if version := binary.BigEndian.Uint32(data[len(logMagic):]); version != logVersion {
		return fmt.Errorf("it has version %d, not %d", version, logVersion)
	}
	for at := logHeader; at < len(data); {
		r, size, err := d.decodeRecord(data[at:])
		if err == nil {
			err = add(r)
		}
		if err != nil {
			return fmt.Errorf("at byte %d of %d: %w", at, len(data), err)
		}
		at += size
	}
	return nil
}

// decodeRecord decodes the record that data begins with, and returns its size.
func (d *Disk) decodeRecord(data []byte) (r *record, size int, err error) {
	if len(data) < frameHeader {
		return nil, 0, errors.New("a torn record")
	}
	length, payload := binary.BigEndian.Uint32(data), data[frameHeader:]
	if uint64(length) > uint64(len(payload)) {
		return nil, 0, fmt.Errorf("a torn record, %d bytes of %d", len(payload), length)
	}
	payload = payload[:length]
	if checksum(data[:4], payload) != binary.BigEndian.Uint32(data[4:]) {
		return nil, 0, errors.New("a record whose checksum is wrong")
	}
	r, err = d.decodePayload(payload)
	return r, frameHeader + len(payload), err
}

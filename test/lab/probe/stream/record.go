// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kinds of records.
const (
	kindStart = 's' // JSON of pace, from the client
	kindData  = 'd'
	kindEnd   = 'e' // JSON of Side, from the server; empty from the client
)

const headerSize = 13

// maxData bounds what a peer can make this side allocate.
const maxData = 1 << 20

var errCorrupt = errors.New("corrupt stream")

// record is one unit on the wire.
type record struct {
	kind byte
	seq  uint64
	data []byte
}

// appendRecord appends the wire form.
func appendRecord(buffer []byte, r record) []byte {
	buffer = append(buffer, r.kind)
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(r.data)))
	buffer = binary.BigEndian.AppendUint64(buffer, r.seq)
	return append(buffer, r.data...)
}

// readRecord reads the next record.
func readRecord(r *bufio.Reader) (record, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return record{}, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > maxData {
		return record{}, fmt.Errorf("%w: record of %d bytes", errCorrupt, size)
	}
	out := record{kind: header[0], seq: binary.BigEndian.Uint64(header[5:]), data: make([]byte, size)}
	if _, err := io.ReadFull(r, out.data); err != nil {
		return record{}, err
	}
	return out, nil
}

// fill writes the data that belongs to a sequence number.
func fill(data []byte, seq uint64) {
	for i := range data {
		data[i] = byte(seq) + byte(i)
	}
}

// verify checks a data record against the number that is due.
func verify(r record, due uint64) error {
	if r.seq != due {
		return fmt.Errorf("%w: record %d where %d is due", errCorrupt, r.seq, due)
	}
	for i, b := range r.data {
		if b != byte(r.seq)+byte(i) {
			return fmt.Errorf("%w: byte %d of record %d changed", errCorrupt, i, r.seq)
		}
	}
	return nil
}
